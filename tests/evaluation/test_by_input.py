"""Metrics by input: sums of the whole are those of its parts, and changes are paired."""

import numpy as np
import pytest

from lib.evaluation.by_input import input_metrics, input_table, whole
from lib.evaluation.metrics import MLM_METRICS
from lib.evaluation.sums import DocumentSums, ModelSums

SEED = 1


def sums(bits: list[float], characters: list[int]) -> ModelSums:
    """A document per value; each word has one token and four characters."""
    found = DocumentSums(MLM_METRICS)
    words = np.array(characters) / 4
    values = dict.fromkeys(found.by_name, words)
    values |= {"bits": np.array(bits), "code_bits": np.array(bits) + 1}
    values |= {"characters": np.array(characters, float), "loss": np.array(bits) * np.log(2)}
    found.add(np.arange(len(bits)), values)
    return ModelSums(found)


def test_the_whole_is_all_inputs_but_extra():
    parts = {
        "a": sums([10, 20], [8, 16]),
        "b": sums([30.0], [12]),
        "extra": sums([900, 100], [40, 80]),
    }
    found = whole(parts).metrics()
    assert found["bits_per_character"] == pytest.approx(60 / 36)
    assert found == pytest.approx(whole({"": sums([10, 20, 30], [8, 16, 12])}).metrics())


def test_the_intervals_of_a_single_input_are_those_of_its_sums():
    own = sums([10, 20, 25, 40], [8, 16, 16, 24])
    assert whole({"": own}).intervals(SEED) == own.intervals(SEED)


def test_a_change_is_paired_over_documents():
    draw = np.random.default_rng(0)
    characters = draw.integers(5, 50, 200) * 4
    before = characters * draw.uniform(1, 5, 200)
    # Better by 0.25 bits in every document: documents differ much, the difference does not.
    after = before - 0.25 * characters
    model = {name: sums(after.tolist(), characters.tolist()) for name in ("a", "extra")}
    initial = {name: sums(before.tolist(), characters.tolist()) for name in ("a", "extra")}
    found = input_metrics(model, initial, initial, SEED)
    for own in found.values():
        assert own["change"]["bits_per_character"] == pytest.approx(-0.25)
        assert own["change"]["interval"] == pytest.approx([-0.25, -0.25])
        low, high = own["intervals"]["bits_per_character"]
        assert high - low > 0.2
        assert own["bits_per_character_initial"] - own["bits_per_character"] == pytest.approx(0.25)
    table = input_table({"main": model, "unigram": initial, "initial": initial}, initial, SEED)
    assert table["input"].tolist() == ["a"] * 3 + ["extra"] * 3
    assert table["change"].notna().tolist() == [True, False, False] * 2


def test_without_an_initial_model_there_is_no_change():
    own = {"": sums([10, 20], [8, 16])}
    assert input_metrics(own, own, None, SEED) == {}
    (line,) = input_table({"main": own}, None, SEED).to_dict("records")
    assert line["input"] == "all" and line["change"] is None
