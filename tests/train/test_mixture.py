"""Mixtures of inputs: proportions of tokens, kept to within one sequence at every step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records.manifest import Split
from lib.run.errors import UserError
from lib.train import mixture as module
from lib.train.mixture import Mixture, read_mixture, seen

weights = st.dictionaries(
    st.text("abcdefghij", min_size=1, max_size=2),
    st.floats(1e-3, 1) | st.sampled_from([1e-6, 0.25, 0.5, 1.0]),
    min_size=1,
    max_size=8,
)


@given(weights)
@settings(max_examples=60)
def test_proportions_are_kept_to_within_one_sequence_after_any_number_of_them(weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PERIOD", 2000)
        mixture = Mixture(weights)
        chosen = mixture.inputs(0, 5000)
        asked = mixture.proportions
        counts = [mixture.counts(past) for past in (0, 1, 1999, 2000, 2001, 4999)]
    had = np.cumsum(np.eye(len(asked))[chosen], axis=0)
    owed = np.arange(1, 5001)[:, None] * asked
    assert np.abs(had - owed).max() < 1
    for past, found in zip((1, 1999, 2000, 2001, 4999), counts[1:], strict=True):
        assert found.tolist() == had[past - 1].tolist()
    assert not counts[0].any()
    total = sum(weights.values())
    for name, proportion in zip(mixture.names, asked, strict=True):
        # Each has at least one sequence in a period, however small its weight.
        assert abs(proportion - weights[name] / total) <= len(weights) / 2000


@given(weights, st.integers(0, 10_000), st.integers(0, 300))
@settings(max_examples=30)
def test_the_order_can_be_entered_anywhere(weights, first, count):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PERIOD", 700)
        whole = Mixture(weights).inputs(0, first + count)
        assert Mixture(weights).inputs(first, first + count).tolist() == whole[first:].tolist()


def test_proportions_are_rounded_to_a_millionth():
    mixture = Mixture({"a": 1 / 3, "b": 2 / 3, "c": 0.0})
    assert mixture.names == ("a", "b")
    assert np.abs(mixture.proportions - [1 / 3, 2 / 3]).max() < 1e-6
    assert mixture.counts(3_000_000_000).tolist() == [999_999_000, 2_000_001_000]


def split_of(*files: tuple[str, int, int, int]) -> Split:
    """A split of files: input, sequences, examples, tokens."""
    names, sequences, examples, tokens = zip(*files, strict=True)
    paths = tuple(str(number) for number in range(len(files)))
    return Split(
        sum(sequences),
        sum(examples),
        "dynamic",
        paths,
        sequences,
        file_inputs=names,
        file_examples=examples,
        file_tokens=tokens,
    )


SPLIT = split_of(("a", 100, 200, 10_000), ("a", 300, 500, 30_000), ("b", 100, 100, 5_000))


def test_weights_are_of_tokens():
    # A sequence of b has half as many tokens, so as many tokens of both are 1 : 2 sequences.
    mixture = read_mixture({"a": 1, "b": 1}, SPLIT, "phases.main.mixture")
    assert np.allclose(mixture.proportions, [1 / 3, 2 / 3], atol=1e-6)
    found = seen(SPLIT, mixture, 0, 3000)
    assert found["a"] == {"sequences": 1000, "examples": 1750, "tokens": 100_000, "epochs": 2.5}
    assert found["b"] == {"sequences": 2000, "examples": 2000, "tokens": 100_000, "epochs": 20.0}
    # From another position on, what is seen is the difference.
    parts = [seen(SPLIT, mixture, *part)["b"]["sequences"] for part in ((0, 500), (500, 2500))]
    assert sum(parts) == 2000


def test_a_number_is_a_power_of_the_sizes():
    assert read_mixture(None, SPLIT, "x") is None
    natural = read_mixture(1, SPLIT, "x")
    assert np.allclose(natural.proportions, [0.8, 0.2])
    for setting, tokens in ((0.5, 8**0.5), (0, 1)):
        a, b = read_mixture(setting, SPLIT, "x").proportions * [100, 50]
        assert a / b == pytest.approx(tokens, rel=1e-4)


def test_without_a_mixture_all_is_seen_equally_often():
    found = seen(SPLIT, None, 0, 1000)
    assert {name: own["epochs"] for name, own in found.items()} == {"a": 2.0, "b": 2.0}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"a": 1, "b": 1, "d": 1, "c": 1}, "no training text is of c, d; the inputs are a, b"),
        ({"a": 1}, "has no weight for b; add `b: 0` if it should not be trained on"),
    ],
)
def test_other_inputs_than_those_of_the_records_are_refused(setting, message):
    with pytest.raises(UserError, match=message):
        read_mixture(setting, SPLIT, "phases.main.mixture")


def test_records_without_named_inputs_have_no_mixture():
    split = split_of(("", 5, 5, 0))
    with pytest.raises(UserError, match="name the folders of raw text"):
        read_mixture(0.5, split, "phases.main.mixture")
    assert seen(split, None, 0, 10) == {
        "": {"sequences": 10, "examples": 10, "tokens": 0, "epochs": 2.0}
    }
