"""RecordSettings: what `auto` becomes, and what a phase overrides."""

import pytest

from lib.params import parse_params
from lib.records.settings import RecordSettings, split_settings


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


def test_a_phase_masks_its_training_records_at_its_own_rate(values):
    """And dev and test at the common one, so that phases are evaluated on the same masks."""
    values["phases"] = {
        "stable": {"max_seq_length": 128, "init": "data/vocab", "masked_lm_prob": 0.3},
        "decay": {"max_seq_length": 128, "init": "models/stable"},
        "last": {"max_seq_length": 128, "init": "models/decay", "masked_lm_prob": 0.05},
    }
    values["evaluate"]["phase"] = "decay"
    params = parse_params(values)
    rates, predictions = zip(
        *(
            (own["train"].masked_lm_prob, own["train"].max_predictions_per_seq)
            for own in (split_settings(params, phase) for phase in values["phases"])
        ),
        strict=True,
    )
    assert rates == (0.3, 0.15, 0.05) and predictions == (39, 20, 7)
    for phase in values["phases"]:
        own = split_settings(params, phase)
        assert own["dev"] == own["test"] == split_settings(params, "decay")["train"].held_out()


def test_pairs_consist_of_whole_sentences_whatever_the_parameter(values):
    for next_sentence, cut in ((True, True), (True, False), (False, True), (False, False)):
        values["records"] |= {"next_sentence": next_sentence, "whole_sentences": not cut}
        settings = RecordSettings.from_params(parse_params(values).records, 128)
        assert settings.whole_sentences == (next_sentence or not cut)
