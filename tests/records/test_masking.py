"""Masking: the rules of the choice, and the fractions in which tokens are replaced."""

import collections
import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records.masking import Masked, VocabularyFacts, mask_sequences
from lib.run.random import generator
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
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


def mask(
    matrix: np.ndarray,
    lengths: np.ndarray,
    probability: float = 0.15,
    max_predictions: int = 5,
    whole_words: bool = False,
    seed: int = 0,
    **fractions: float,
) -> Masked:
    return mask_sequences(
        matrix,
        lengths,
        VOCABULARY,
        probability,
        max_predictions,
        whole_words,
        generator(seed, "test"),
        **fractions,
    )


@given(
    example_lists, st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.integers(1, 80), st.integers(0, 99)
)
@settings(max_examples=200)
def test_number_of_predictions(
    examples: list[list[int]], probability: float, max_predictions: int, seed: int
) -> None:
    matrix, lengths = pad(examples, 64)
    before = matrix.copy()
    masked = mask(matrix, lengths, probability, max_predictions, seed=seed)
    assert (matrix == before).all()
    for example, chosen in zip(examples, check_masked(matrix, lengths, masked), strict=True):
        expected = min(max_predictions, max(1, round(len(example) * probability)))
        assert len(chosen) == min(expected, len(example) - example.count(2) - 1)


@given(example_lists, st.sampled_from([0.15, 0.5, 1.0]), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=200)
def test_words_are_chosen_whole(
    examples: list[list[int]], probability: float, max_predictions: int, seed: int
) -> None:
    matrix, lengths = pad(examples, 64)
    masked = mask(matrix, lengths, probability, max_predictions, whole_words=True, seed=seed)
    for example, chosen in zip(examples, check_masked(matrix, lengths, masked), strict=True):
        expected = min(max_predictions, max(1, round(len(example) * probability)))
        left = expected - len(chosen)
        assert left >= 0
        for word in words_of(example):
            masked_part = set(word) & set(chosen)
            assert masked_part in (set(), set(word))
            assert masked_part or len(word) > left  # a skipped word did not fit


def test_words_are_tried_in_random_order() -> None:
    """Each outcome is as frequent as with a plain shuffle of the words."""
    example = [1, 4, 10, 5, 6, 11, 12, 2, 13, 14, 7, 2]
    runs, predictions = 20_000, 4
    matrix, lengths = pad([example] * runs, 16)
    masked = mask(matrix, lengths, 0.3, 20, whole_words=True)
    fast = collections.Counter(map(tuple, check_masked(matrix, lengths, masked)))
    slow: collections.Counter[tuple[int, ...]] = collections.Counter()
    draw, words = random.Random(0), words_of(example)
    for _ in range(runs):
        draw.shuffle(words)
        chosen: list[int] = []
        for word in words:
            if len(chosen) + len(word) <= predictions:
                chosen += word
        slow[tuple(sorted(chosen))] += 1
    assert fast.keys() == slow.keys()
    for outcome in fast:
        difference = abs(fast[outcome] - slow[outcome])
        assert difference < 5 * math.sqrt(fast[outcome] + slow[outcome]), outcome


def test_tokens_are_chosen_uniformly() -> None:
    example = [1, 4, 10, 5, 6, 2, 7, 2]
    runs = 30_000
    matrix, lengths = pad([example] * runs, 9)
    masked = mask(matrix, lengths, 0.25, 5)
    fast = collections.Counter(map(tuple, check_masked(matrix, lengths, masked)))
    pairs = set(itertools.combinations([1, 2, 3, 4, 6], 2))
    assert fast.keys() == pairs
    for pair in pairs:
        assert abs(fast[pair] - runs / len(pairs)) < 5 * math.sqrt(runs / len(pairs))


@pytest.mark.parametrize("whole_words", [False, True])
def test_fractions_of_replacement(whole_words: bool) -> None:
    matrix, lengths = full_sequences(4000)
    masked = mask(matrix, lengths, 0.15, 20, whole_words)
    check_masked(matrix, lengths, masked)
    real = masked.weights > 0
    labels = masked.ids[real]
    shown = np.take_along_axis(masked.input_ids, masked.positions.astype(np.int64), axis=1)[real]
    count = len(labels)
    # A random token is any of the 20: also [MASK], also the token itself.
    for expected, fraction in (
        (0.8 + 0.1 / 20, np.mean(shown == 3)),
        (0.1 + 0.1 / 20, np.mean(shown == labels)),
    ):
        assert abs(fraction - expected) < 4 * math.sqrt(expected * (1 - expected) / count)
    replaced = shown[(shown != 3) & (shown != labels)]
    # [MASK] is left out above, and so is a random token that equals the label: for the 16 tokens
    # that occur in the text, that is 1 in 16.
    frequencies = np.bincount(replaced, minlength=20)
    assert frequencies[3] == 0
    assert abs(frequencies[:3] - 0.1 * count / 20).max() < 5 * math.sqrt(0.1 * count / 20)
    assert abs(frequencies[4:] - 0.1 * count / 20 * 15 / 16).max() < 5 * math.sqrt(0.1 * count / 20)


@pytest.mark.parametrize("fractions", REPLACEMENTS)
def test_other_fractions_of_replacement(fractions: tuple[float, float]) -> None:
    matrix, lengths = full_sequences(2000)
    names = ("mask_replace_prob", "random_replace_prob")
    masked = mask(matrix, lengths, 0.15, 20, **dict(zip(names, fractions, strict=True)))
    check_masked(matrix, lengths, masked)
    check_replacements(masked, *fractions)
    # The same positions as with the fractions of BERT.
    assert (masked.positions == mask(matrix, lengths, 0.15, 20).positions).all()


def test_halves_are_rounded_to_even() -> None:
    # 10 * 0.25 = 2.5 -> 2; 14 * 0.25 = 3.5 -> 4
    matrix, lengths = pad([[1, *[4] * 8, 2], [1, *[4] * 12, 2]], 16)
    counts = mask(matrix, lengths, 0.25, 9).weights.sum(axis=1)
    assert counts.tolist() == [2, 4]


def test_a_word_that_is_too_long_is_not_masked() -> None:
    matrix, lengths = pad([[1, 4, 10, 11, 12, 13, 2]], 8)
    assert mask(matrix, lengths, 0.15, 5, whole_words=True).weights.sum() == 0


def test_words_do_not_span_sequences_without_padding() -> None:
    """A sequence that starts with ## does not continue the one before, even without [CLS]."""
    matrix = np.full((50, 4), 10, dtype=np.int32)
    masked = mask(matrix, np.full(50, 4), 1.0, 4, whole_words=True)
    assert (masked.weights == 1).all()
    assert (masked.positions == np.arange(4)).all()


def test_masks_depend_on_the_key_only() -> None:
    matrix, lengths = pad([[1, *range(4, 20), 2]] * 30, 20)
    first, again, other = (mask(matrix, lengths, seed=seed).positions for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_facts_of_a_vocabulary() -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "##c"]
    facts = VocabularyFacts.from_tokenizer(WordPieceTokenizer(vocabulary, True, True))
    assert (facts.cls_id, facts.sep_id, facts.mask_id, facts.vocab_size) == (2, 3, 4, 7)
    assert facts.continuation.tolist() == [False] * 6 + [True]
