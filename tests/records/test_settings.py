"""RecordSettings: what `auto` becomes, and the allowed ranges."""

import pytest

from lib.params import parse_params
from lib.records.settings import RecordSettings
from lib.run.errors import UserError


def test_auto_predictions_cover_the_fraction_at_full_length(values):
    def predictions(length: int) -> int:
        return RecordSettings.from_params(
            parse_params(values).records, length
        ).max_predictions_per_seq

    assert predictions(128) == 20  # ceil(19.2)
    values["records"]["max_predictions_per_seq"] = 14
    assert predictions(128) == 14


@pytest.mark.parametrize(("length", "examples"), [(32, 6), (96, 6), (128, 8), (512, 32)])
def test_auto_examples_per_pack_grow_with_the_sequence(values, length, examples):
    def examples_per_pack() -> int:
        return RecordSettings.from_params(
            parse_params(values).records, length
        ).max_examples_per_pack

    assert examples_per_pack() == examples
    values["records"]["max_examples_per_pack"] = 3
    assert examples_per_pack() == 3


@pytest.mark.parametrize(
    "change",
    [
        {"max_seq_length": 4},
        {"max_predictions_per_seq": 0},
        {"dupe_factor": 0},
        {"masked_lm_prob": 1.5},
        {"short_seq_prob": -0.1},
    ],
)
def test_values_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        RecordSettings(**{"max_seq_length": 32, "max_predictions_per_seq": 5, **change})  # type: ignore[arg-type]
