"""Masking: every rule of the choice, and the shares in which tokens are replaced."""

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

# [PAD] [CLS] [SEP] [MASK], pieces that begin a word (4-9), pieces that continue one (10-19).
VOCABULARY = VocabularyFacts(
    cls_id=1, sep_id=2, mask_id=3, vocab_size=20, continuation=np.arange(20) >= 10
)


def rows_of(texts: list[list[int]], columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded matrix and lengths of rows that are given with their special tokens."""
    matrix = np.zeros((len(texts), columns), dtype=np.int32)
    for row, text in zip(matrix, texts, strict=True):
        row[: len(text)] = text
    return matrix, np.array([len(text) for text in texts])


def mask(
    matrix: np.ndarray,
    lengths: np.ndarray,
    probability: float = 0.15,
    most: int = 5,
    whole_words: bool = False,
    seed: int = 0,
) -> Masked:
    return mask_sequences(
        matrix, lengths, VOCABULARY, probability, most, whole_words, generator(seed, "test")
    )


def words_of(text: list[int]) -> list[list[int]]:
    """Positions of each word, by a plain loop."""
    words: list[list[int]] = []
    for place, piece in enumerate(text):
        if piece in (1, 2):
            continue
        if piece >= 10 and text[place - 1] not in (1, 2):
            words[-1].append(place)
        else:
            words.append([place])
    return words


def check(matrix: np.ndarray, lengths: np.ndarray, masked: Masked) -> list[list[int]]:
    """What must hold of any masking; returns the positions of each row."""
    result = []
    for row, length, hidden, positions, ids, weights in zip(
        matrix, lengths, masked.input_ids, masked.positions, masked.ids, masked.weights, strict=True
    ):
        count = int(weights.sum())
        chosen = positions[:count].tolist()
        assert weights.tolist() == [1.0] * count + [0.0] * (len(weights) - count)
        assert chosen == sorted(set(chosen))
        assert not positions[count:].any()
        assert not ids[count:].any()
        assert ids[:count].tolist() == row[chosen].tolist()
        assert not set(row[chosen]) & {1, 2}
        assert not chosen or chosen[-1] < length
        elsewhere = np.delete(np.arange(len(row)), chosen)
        assert (hidden[elsewhere] == row[elsewhere]).all()
        result.append(chosen)
    return result


segments = st.lists(st.integers(4, 19), min_size=1, max_size=30)
texts = st.lists(
    st.builds(
        lambda a, b: [1, *a, 2, *b, 2] if b else [1, *a, 2], segments, segments | st.just([])
    ),
    max_size=6,
)


@given(texts, st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_number_of_predictions(
    rows: list[list[int]], probability: float, most: int, seed: int
) -> None:
    matrix, lengths = rows_of(rows, 64)
    before = matrix.copy()
    masked = mask(matrix, lengths, probability, most, seed=seed)
    assert (matrix == before).all()
    for text, chosen in zip(rows, check(matrix, lengths, masked), strict=True):
        wanted = min(most, max(1, round(len(text) * probability)))
        assert len(chosen) == min(wanted, len(text) - text.count(2) - 1)


@given(texts, st.sampled_from([0.15, 0.5, 1.0]), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_words_are_chosen_whole(
    rows: list[list[int]], probability: float, most: int, seed: int
) -> None:
    matrix, lengths = rows_of(rows, 64)
    masked = mask(matrix, lengths, probability, most, whole_words=True, seed=seed)
    for text, chosen in zip(rows, check(matrix, lengths, masked), strict=True):
        wanted = min(most, max(1, round(len(text) * probability)))
        left = wanted - len(chosen)
        assert left >= 0
        for word in words_of(text):
            taken = set(word) & set(chosen)
            assert taken in (set(), set(word))
            assert taken or len(word) > left  # whatever was skipped did not fit


def test_words_are_tried_in_random_order() -> None:
    """Each outcome is as frequent as with a plain shuffle of the words."""
    text = [1, 4, 10, 5, 6, 11, 12, 2, 13, 14, 7, 2]
    runs, wanted = 20_000, 4
    matrix, lengths = rows_of([text] * runs, 16)
    masked = mask(matrix, lengths, 0.3, 20, whole_words=True)
    fast = collections.Counter(map(tuple, check(matrix, lengths, masked)))
    slow: collections.Counter[tuple[int, ...]] = collections.Counter()
    draw, words = random.Random(0), words_of(text)
    for _ in range(runs):
        draw.shuffle(words)
        chosen: list[int] = []
        for word in words:
            if len(chosen) + len(word) <= wanted:
                chosen += word
        slow[tuple(sorted(chosen))] += 1
    assert fast.keys() == slow.keys()
    for outcome in fast:
        difference = abs(fast[outcome] - slow[outcome])
        assert difference < 5 * math.sqrt(fast[outcome] + slow[outcome]), outcome


def test_tokens_are_chosen_uniformly() -> None:
    text = [1, 4, 10, 5, 6, 2, 7, 2]
    runs = 30_000
    matrix, lengths = rows_of([text] * runs, 9)
    masked = mask(matrix, lengths, 0.25, 5)
    fast = collections.Counter(map(tuple, check(matrix, lengths, masked)))
    pairs = set(itertools.combinations([1, 2, 3, 4, 6], 2))
    assert fast.keys() == pairs
    for pair in pairs:
        assert abs(fast[pair] - runs / len(pairs)) < 5 * math.sqrt(runs / len(pairs))


@pytest.mark.parametrize("whole_words", [False, True])
def test_shares_of_replacement(whole_words: bool) -> None:
    draw = np.random.default_rng(0)
    matrix = draw.integers(4, 20, (4000, 64), dtype=np.int32)
    matrix[:, 0], matrix[:, 63] = 1, 2
    lengths = np.full(4000, 64)
    masked = mask(matrix, lengths, 0.15, 20, whole_words)
    check(matrix, lengths, masked)
    real = masked.weights > 0
    labels = masked.ids[real]
    shown = np.take_along_axis(masked.input_ids, masked.positions.astype(np.int64), axis=1)[real]
    count = len(labels)
    # A replacement is any of the 20 pieces: also [MASK], also the token itself.
    for share, seen in (
        (0.8 + 0.1 / 20, np.mean(shown == 3)),
        (0.1 + 0.1 / 20, np.mean(shown == labels)),
    ):
        assert abs(seen - share) < 4 * math.sqrt(share * (1 - share) / count)
    replaced = shown[(shown != 3) & (shown != labels)]
    # Each piece but [MASK]; a label that it cannot be told from leaves out 1 in 16 for most.
    frequencies = np.bincount(replaced, minlength=20)
    assert frequencies[3] == 0
    assert abs(frequencies[:3] - 0.1 * count / 20).max() < 5 * math.sqrt(0.1 * count / 20)
    assert abs(frequencies[4:] - 0.1 * count / 20 * 15 / 16).max() < 5 * math.sqrt(0.1 * count / 20)


def test_half_goes_to_the_even_number() -> None:
    # 10 * 0.25 = 2.5 → 2; 14 * 0.25 = 3.5 → 4
    matrix, lengths = rows_of([[1, *[4] * 8, 2], [1, *[4] * 12, 2]], 16)
    counts = mask(matrix, lengths, 0.25, 9).weights.sum(axis=1)
    assert counts.tolist() == [2, 4]


def test_a_word_that_is_too_long_is_left_alone() -> None:
    matrix, lengths = rows_of([[1, 4, 10, 11, 12, 13, 2]], 8)
    assert mask(matrix, lengths, 0.15, 5, whole_words=True).weights.sum() == 0


def test_rows_without_padding_do_not_run_into_each_other() -> None:
    """A word that begins a row does not continue the row above, even without [CLS]."""
    matrix = np.full((50, 4), 10, dtype=np.int32)
    masked = mask(matrix, np.full(50, 4), 1.0, 4, whole_words=True)
    assert (masked.weights == 1).all()
    assert (masked.positions == np.arange(4)).all()


def test_same_key_same_masks() -> None:
    matrix, lengths = rows_of([[1, *range(4, 20), 2]] * 30, 20)
    one, again, other = (mask(matrix, lengths, seed=seed).positions for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
