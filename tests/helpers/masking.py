"""A small vocabulary, sequences to mask, and what must hold of any masked sequence."""

import math

import numpy as np
from hypothesis import strategies as st

from lib.records.masking import Masked, VocabularyFacts

# [PAD] [CLS] [SEP] [MASK], wordpieces that begin a word (4-9), wordpieces that continue one (10-19)
VOCABULARY = VocabularyFacts(
    cls_id=1, sep_id=2, mask_id=3, vocab_size=20, continuation=np.arange(20) >= 10
)

_segments = st.lists(st.integers(4, 19), min_size=1, max_size=30)
# Up to six examples, [CLS] A [SEP] B [SEP] or [CLS] A [SEP]
example_lists = st.lists(
    st.builds(
        lambda a, b: [1, *a, 2, *b, 2] if b else [1, *a, 2], _segments, _segments | st.just([])
    ),
    max_size=6,
)


def pad(sequences: list[list[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """The sequences as a padded matrix int32 [B, length], and their lengths [B]."""
    matrix = np.zeros((len(sequences), length), dtype=np.int32)
    for row, sequence in zip(matrix, sequences, strict=True):
        row[: len(sequence)] = sequence
    return matrix, np.array([len(sequence) for sequence in sequences])


def words_of(sequence: list[int]) -> list[list[int]]:
    """Positions of each word, by a plain loop."""
    words: list[list[int]] = []
    for position, token in enumerate(sequence):
        if token in (1, 2):
            continue
        if token >= 10 and sequence[position - 1] not in (1, 2):
            words[-1].append(position)
        else:
            words.append([position])
    return words


def check_masked(matrix: np.ndarray, lengths: np.ndarray, masked: Masked) -> list[list[int]]:
    """Checks the labels and the unmasked tokens; returns the masked positions of each sequence."""
    result = []
    for row, length, shown, positions, ids, weights in zip(
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
        others = np.delete(np.arange(len(row)), chosen)
        assert (shown[others] == row[others]).all()
        result.append(chosen)
    return result


def full_sequences(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of [CLS], 62 random tokens and [SEP], int32 [count, 64], and their lengths."""
    matrix = np.random.default_rng(0).integers(4, 20, (count, 64), dtype=np.int32)
    matrix[:, 0], matrix[:, 63] = 1, 2
    return matrix, np.full(count, 64)


# Fractions of [MASK] and of random tokens. With 0.7 and 0.3 none is kept, with rounding errors.
REPLACEMENTS = [(1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (0.7, 0.3), (0.5, 0.25)]


def check_replacements(
    masked: Masked, mask_replace_prob: float, random_replace_prob: float
) -> None:
    """Checks the fractions of a vocabulary of 20 in which tokens were replaced, to 4 deviations."""
    real = masked.weights > 0
    shown = np.take_along_axis(masked.input_ids, masked.positions.astype(np.int64), axis=1)[real]
    # A random token is any of the 20: also [MASK], also the token itself.
    kept = 1 - mask_replace_prob - random_replace_prob
    for expected, fraction in (
        (mask_replace_prob + random_replace_prob / 20, np.mean(shown == 3)),
        (kept + random_replace_prob / 20, np.mean(shown == masked.ids[real])),
    ):
        deviation = math.sqrt(max(expected * (1 - expected), 0) / len(shown))
        assert abs(fraction - expected) <= 4 * deviation + 1e-9
