"""Dynamic masking: the rules and frequencies of static masking, for every sequence."""

import collections
import dataclasses
import itertools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records.manifest import Manifest
from lib.records.masking import Masked, VocabularyFacts, mask_sequences, prediction_counts
from lib.records.packed_sequences import assemble_packed
from lib.run.random import generator
from lib.train.dynamic_masking import DynamicMasking
from tests.helpers.masking import (
    REPLACEMENTS,
    VOCABULARY,
    check_masked,
    check_replacements,
    example_lists,
    full_sequences,
    pad,
    words_of,
)


def masking(
    length: int,
    probability: float = 0.15,
    max_predictions: int = 5,
    whole_words: bool = False,
    examples: int = 1,
    predictions: int | None = None,
    seed: int = 0,
    vocabulary: VocabularyFacts = VOCABULARY,
    **fractions: float,
) -> DynamicMasking:
    manifest = Manifest(
        max_seq_length=length,
        next_sentence=True,
        packing=examples > 1,
        examples_per_sequence=examples,
        predictions_per_sequence=predictions or max_predictions,
        masked_lm_prob=probability,
        max_predictions_per_seq=max_predictions,
        whole_word_mask=whole_words,
        compression="",
        splits={},
        **fractions,
    )
    return DynamicMasking(manifest, vocabulary, seed)


def tensors(matrix: np.ndarray, lengths: np.ndarray) -> dict[str, tf.Tensor]:
    mask = np.arange(matrix.shape[1]) < lengths[:, np.newaxis]
    return {"input_ids": tf.constant(matrix), "input_mask": tf.constant(mask, tf.int32)}


def as_masked(batch: dict[str, tf.Tensor]) -> Masked:
    names = ("input_ids", "masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
    return Masked(*(batch[name].numpy() for name in names))


def mask(matrix: np.ndarray, lengths: np.ndarray, *settings: object, **named: object) -> Masked:
    return as_masked(masking(matrix.shape[1], *settings, **named)(tensors(matrix, lengths), 0))


probabilities = st.sampled_from([0.0, 0.15, 0.25, 0.5, 1.0])


def test_words_given_by_the_records_are_masked_as_those_given_by_the_vocabulary():
    sequences, lengths = full_sequences(40)
    batch = tensors(sequences, lengths)
    by_vocabulary = masking(64, 0.3, 20, whole_words=True)
    facts = dataclasses.replace(VOCABULARY, continuation=None)
    by_records = masking(64, 0.3, 20, whole_words=True, vocabulary=facts)
    marks = tf.constant(VOCABULARY.continuation[sequences], tf.int32)
    expected = by_vocabulary(batch, 5)
    found = by_records({**batch, "continues_word": marks}, 5)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert np.array_equal(found[name], tensor), name


@given(
    example_lists.filter(bool), probabilities, st.integers(1, 80), st.booleans(), st.integers(0, 99)
)
@settings(max_examples=50)
def test_rules_of_an_example(
    examples: list[list[int]],
    probability: float,
    max_predictions: int,
    whole_words: bool,
    seed: int,
) -> None:
    matrix, lengths = pad(examples, 64)
    masked = mask(matrix, lengths, probability, max_predictions, whole_words, seed=seed)
    counts = prediction_counts(lengths, probability, min(max_predictions, 64))
    for text, chosen, target in zip(
        examples, check_masked(matrix, lengths, masked), counts, strict=True
    ):
        obeys(text, set(chosen), int(target), whole_words)


def obeys(text: list[int], chosen: set[int], target: int, whole_words: bool) -> None:
    """The count is right, no word is masked in part, and skipped words did not fit."""
    if not whole_words:
        assert len(chosen) == min(target, len(text) - text.count(2) - 1)
        return
    assert len(chosen) <= target
    for word in words_of(text):
        taken = set(word) & chosen
        assert taken in (set(), set(word))
        assert taken or len(word) > target - len(chosen)


@given(
    st.lists(example_lists.filter(bool), min_size=1, max_size=4),
    probabilities,
    st.integers(1, 20),
    st.booleans(),
)
@settings(max_examples=50)
def test_rules_of_the_examples_of_a_packed_sequence(
    packs: list[list[list[int]]], probability: float, max_predictions: int, whole_words: bool
) -> None:
    examples = [text for pack in packs for text in pack]
    columns = max(sum(map(len, pack)) for pack in packs) + 3
    matrix, lengths = pad(examples, columns)
    numbers = iter(range(len(examples)))
    layout = np.array([([next(numbers) for _ in pack] + [-1] * 6)[:6] for pack in packs])
    features = {
        "input_ids": matrix,
        "segment_ids": np.zeros_like(matrix, dtype=np.uint8),
        "next_sentence_labels": np.zeros((len(examples), 1), np.uint8),
    }
    packed = assemble_packed(features, lengths, layout, 1, True)
    batch = {name: tf.constant(packed[name].astype(np.int32)) for name in ("input_ids",)}
    batch["example_ids"] = tf.constant(packed["example_ids"].astype(np.int32))
    masker = masking(columns, probability, max_predictions, whole_words, 6, 6 * max_predictions)
    masked = as_masked(masker(batch, 0))

    filled = (packed["example_ids"] > 0).sum(axis=1)
    for sequence, chosen in enumerate(check_masked(packed["input_ids"], filled, masked)):
        for slot, number in enumerate(layout[sequence][layout[sequence] >= 0]):
            start = packed["cls_positions"][sequence, slot]
            own = {column - start for column in chosen if 0 <= column - start < lengths[number]}
            target = prediction_counts(lengths[number], probability, min(max_predictions, columns))
            obeys(examples[number], own, int(target), whole_words)


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_positions_are_distributed_like_those_of_static_masks(
    whole_words: bool, packed: bool
) -> None:
    """Each set of positions is equally frequent in both: chi-square test of two samples."""
    text, runs = [1, 4, 10, 5, 6, 11, 12, 2, 13, 14, 7, 2], 10_000
    matrix, lengths = pad([text] * runs, 16)
    settings = (0.3, 20, whole_words)
    static = mask_sequences(matrix, lengths, VOCABULARY, *settings, generator(0, "test"))
    if packed:  # after another example, whose masks are left out
        other = np.tile(np.array([1, 4, 5, 2], np.int32), (runs, 1))
        ids = np.concatenate([other, matrix], axis=1)
        examples = (ids > 0) * np.where(np.arange(20) < 4, 1, 2)
        batch = {"input_ids": tf.constant(ids), "example_ids": tf.constant(examples, tf.int32)}
        dynamic = as_masked(masking(20, *settings, examples=2)(batch, 0))
        found = [tuple(c - 4 for c in chosen if c >= 4) for chosen in dynamic.positions.tolist()]
    else:
        found = list(map(tuple, check_masked(matrix, lengths, mask(matrix, lengths, *settings))))
    fast = collections.Counter(found)
    slow = collections.Counter(map(tuple, check_masked(matrix, lengths, static)))
    assert fast.keys() == slow.keys()
    statistic = sum((fast[one] - slow[one]) ** 2 / (fast[one] + slow[one]) for one in fast)
    freedom = len(fast) - 1
    assert abs(statistic - freedom) < 5 * math.sqrt(2 * freedom)
    if not whole_words:
        positions = [position for position, token in enumerate(text) if token not in (1, 2)]
        assert fast.keys() == set(itertools.combinations(positions, 4))


@pytest.mark.parametrize("whole_words", [False, True])
def test_replacements_are_distributed_like_those_of_static_masks(whole_words: bool) -> None:
    matrix, lengths = full_sequences(4000)
    settings = (0.15, 20, whole_words)
    counts = []
    for masked in (
        mask(matrix, lengths, *settings),
        mask_sequences(matrix, lengths, VOCABULARY, *settings, generator(0, "test")),
    ):
        real = masked.weights > 0
        columns = masked.positions.astype(np.int64)
        seen = np.take_along_axis(masked.input_ids, columns, axis=1)[real]
        # What a token was replaced by: itself (20), [MASK] (3), or another token.
        outcome = np.where(seen == masked.ids[real], 20, seen)
        counts.append(np.bincount(outcome, minlength=21))
    dynamic, static = counts
    assert dynamic.sum() == pytest.approx(static.sum(), rel=0.01)
    assert abs(dynamic[3] / dynamic.sum() - 0.805) < 0.01
    assert abs(dynamic[20] / dynamic.sum() - 0.105) < 0.01
    statistic = np.sum((dynamic - static) ** 2 / (dynamic + static))
    assert abs(statistic - 20) < 5 * math.sqrt(40)


@pytest.mark.parametrize("fractions", REPLACEMENTS)
def test_other_fractions_of_replacement(fractions: tuple[float, float]) -> None:
    matrix, lengths = full_sequences(2000)
    named = dict(zip(("mask_replace_prob", "random_replace_prob"), fractions, strict=True))
    masked = mask(matrix, lengths, 0.15, 20, **named)
    check_masked(matrix, lengths, masked)
    check_replacements(masked, *fractions)
    assert (masked.positions == mask(matrix, lengths, 0.15, 20).positions).all()


@pytest.mark.parametrize("whole_words", [False, True])
def test_masks_of_a_sequence_do_not_depend_on_its_batch(whole_words: bool) -> None:
    draw = np.random.default_rng(1)
    matrix, lengths = pad([[1, *draw.integers(4, 20, 14), 2] for _ in range(11)], 17)
    masker = masking(17, 0.3, 5, whole_words)
    together = masker(tensors(matrix, lengths), 7)
    for sequence in range(11):
        alone = masker(
            tensors(matrix[sequence:][:1], lengths[sequence:][:1]),
            tf.constant(7 + sequence, tf.int64),
        )
        for name, values in alone.items():
            assert (values[0].numpy() == together[name][sequence].numpy()).all(), name


def test_masks_differ_by_sequence_and_seed() -> None:
    matrix, lengths = pad([[1, *range(4, 20), 2]] * 40, 20)
    one, later, other = (
        masking(20, seed=seed)(tensors(matrix, lengths), first)["masked_lm_positions"].numpy()
        for seed, first in ((1, 0), (1, 40), (2, 0))
    )
    assert len(np.unique(one, axis=0)) > 30
    assert (one != later).any() and (one != other).any()
    # The number of a sequence that does not fit into 32 bits.
    far = masking(20)(tensors(matrix, lengths), 1 << 40)
    assert len(np.unique(far["masked_lm_positions"].numpy(), axis=0)) > 30


def test_sequences_that_fill_up_a_batch_have_no_masks() -> None:
    matrix, lengths = pad([[1, 4, 5, 2], []], 6)
    masked = mask(matrix, lengths, 0.5, 3)
    assert masked.weights.sum(axis=1).tolist() == [2, 0]
    assert not masked.input_ids[1].any()


def test_shapes_are_static() -> None:
    specification = {name: tf.TensorSpec([8, 32], tf.int32) for name in ("input_ids", "input_mask")}
    for whole_words in (False, True):
        masker = tf.function(masking(32, whole_words=whole_words).__call__)
        traced = masker.get_concrete_function(specification, tf.TensorSpec([], tf.int64))
        shapes = {name: spec.shape.as_list() for name, spec in traced.structured_outputs.items()}
        assert shapes["input_ids"] == [8, 32]
        assert shapes["masked_lm_positions"] == shapes["masked_lm_weights"] == [8, 5]
