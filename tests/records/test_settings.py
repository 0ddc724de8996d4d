"""RecordSettings: what `auto` becomes, allowed ranges, predictions per packed sequence."""

import pytest

from lib.params import parse_params
from lib.records.settings import RecordSettings


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
