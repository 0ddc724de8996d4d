"""Masked positions: which tokens of a row the model has to predict, and what it sees there.

The procedure is `create_masked_lm_predictions` of google-research/bert (Devlin et al., 2019),
over a block of rows at once. Choosing is a sort of random keys; a row's place or group rides in
the low bits of its key, so that nothing but the keys is sorted.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)  # key of what must not be chosen: sorts behind everything


class Tokenizer(Protocol):
    """What `lib.vocab.tokenizer.WordPieceTokenizer` tells of its vocabulary."""

    cls_id: int
    sep_id: int
    mask_id: int
    vocabulary: list[str]
    continuation: np.ndarray


@dataclass(frozen=True)
class VocabularyFacts:
    """What the records must know of a vocabulary.

    Attributes:
        cls_id, sep_id, mask_id: ids of [CLS], [SEP] and [MASK].
        vocab_size: number of pieces.
        continuation: bool array [vocab_size]: the piece continues a word (it starts with ##).
    """

    cls_id: int
    sep_id: int
    mask_id: int
    vocab_size: int
    continuation: np.ndarray

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> Self:
        return cls(
            tokenizer.cls_id,
            tokenizer.sep_id,
            tokenizer.mask_id,
            len(tokenizer.vocabulary),
            tokenizer.continuation,
        )


@dataclass(frozen=True)
class Masked:
    """R masked rows of S cells with P predictions each.

    Attributes:
        input_ids: int32 [R, S]: what the model sees.
        positions: int32 [R, P]: masked positions, ascending; 0 beyond the row's predictions.
        ids: int32 [R, P]: the tokens that stood there; 0 beyond.
        weights: float32 [R, P]: 1 for a prediction, 0 beyond.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    ids: np.ndarray
    weights: np.ndarray


def prediction_counts(
    lengths: np.ndarray, masked_lm_prob: float, max_predictions_per_seq: int
) -> np.ndarray:
    """int64 array: min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))).

    A length counts [CLS] and [SEP], and round goes to the even neighbour, both as in Google's
    script.
    """
    wanted = np.rint(lengths * masked_lm_prob).astype(np.int64)
    return np.clip(wanted, 1, max_predictions_per_seq)


def mask_sequences(
    input_ids: np.ndarray,
    lengths: np.ndarray,
    vocabulary: VocabularyFacts,
    masked_lm_prob: float,
    max_predictions_per_seq: int,
    whole_word_mask: bool,
    generator: np.random.Generator,
) -> Masked:
    """Chooses and hides the tokens to be predicted.

    A row has as many predictions as `prediction_counts` says; fewer only if it has fewer tokens,
    or no whole word fits. A chosen token becomes [MASK] with probability 0.8, a token drawn
    uniformly from the whole vocabulary with 0.1, and is left as it is with 0.1.

    Args:
        input_ids: int32 [R, S]: unmasked rows (left as they are).
        lengths: integer array [R]: tokens of each row, special ones included, padding not.
        whole_word_mask: choose words, not pieces. A word is a piece and the ## pieces that
            directly follow it. (Google's script also joins ## pieces after a [SEP] to the word
            before it; a word cut by the truncation is a word of its own here.)
    """
    filled = np.arange(input_ids.shape[1]) < lengths[:, np.newaxis]
    candidates = filled & (input_ids != vocabulary.cls_id) & (input_ids != vocabulary.sep_id)
    most = min(max_predictions_per_seq, input_ids.shape[1])
    wanted = prediction_counts(lengths, masked_lm_prob, most)
    if whole_word_mask:
        selected = _choose_words(
            candidates, vocabulary.continuation.take(input_ids), wanted, generator
        )
    else:
        selected = _choose_tokens(candidates, wanted, generator)
    return _hide(input_ids, selected, vocabulary, max_predictions_per_seq, generator)


def _choose_tokens(
    candidates: np.ndarray, wanted: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """bool [R, S]: `wanted` [R] cells of each row, or all candidates where there are fewer.

    Each cell gets a random key; those with the smallest keys are chosen. 64 bits, because with
    32 two equal keys in a row are an everyday event and would let in one prediction too many;
    the column in the low bits rules it out altogether.
    """
    rows, columns = candidates.shape
    keys = _random_keys(rows, columns, columns.bit_length(), generator)
    keys |= np.arange(columns, dtype=np.uint64)
    np.copyto(keys, _LAST, where=~candidates)
    last_wanted = np.sort(keys, axis=1)[np.arange(rows), wanted - 1]
    selected: np.ndarray = keys <= last_wanted[:, np.newaxis]
    return selected & candidates  # where these are too few, the last wanted key is _LAST itself


def _choose_words(
    candidates: np.ndarray,
    continuation: np.ndarray,
    wanted: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """bool [R, S]: whole words of each row, tried in random order, `wanted` [R] cells at most.

    A word that would pass the number is skipped and the next is tried.
    """
    rows, columns = candidates.shape
    # A word starts with a piece that continues nothing, or whose neighbour is no candidate, and
    # reaches to the next start or to the next cell that is no candidate.
    after_other = np.ones(rows * columns, dtype=bool)
    np.logical_not(candidates.reshape(-1)[:-1], out=after_other[1:])
    after_other[::columns] = True
    starts = candidates & (~continuation | after_other.reshape(rows, columns))
    boundaries = np.flatnonzero(starts | ~candidates)
    widths = np.zeros(rows * columns, dtype=np.uint64)
    widths[boundaries] = np.diff(boundaries, append=rows * columns)

    # A key: random bits, then the word's width, then its column. _LAST has a width that never
    # fits.
    bits = (columns + 1).bit_length()
    low = np.uint64((1 << bits) - 1)
    keys = _random_keys(rows, columns, 2 * bits, generator)
    keys |= widths.reshape(rows, columns) << np.uint64(bits)
    keys |= np.arange(columns, dtype=np.uint64)
    np.copyto(keys, _LAST, where=~starts)
    keys.sort(axis=1)

    # One turn tries one word of every row.
    turns = int(np.count_nonzero(starts, axis=1).max(initial=0))
    taken = np.zeros((turns, rows), dtype=bool)
    left = wanted.astype(np.uint64)
    for turn in range(turns):
        width = (keys[:, turn] >> np.uint64(bits)) & low
        fits = np.less_equal(width, left, out=taken[turn])
        left -= width * fits
        if not left.any():
            break

    turn_numbers, row = np.nonzero(taken)
    words = keys[row, turn_numbers]
    width = ((words >> np.uint64(bits)) & low).astype(np.int64)
    first = row * columns + (words & low).astype(np.int64)
    within = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
    selected = np.zeros(rows * columns, dtype=bool)
    selected[np.repeat(first, width) + within] = True
    return selected.reshape(rows, columns)


def _random_keys(
    rows: int, columns: int, free_bits: int, generator: np.random.Generator
) -> np.ndarray:
    """uint64 [rows, columns]: random but for the `free_bits` low bits, which are 0."""
    keys = np.asarray(generator.bit_generator.random_raw(rows * columns), dtype=np.uint64)
    keys &= _LAST << np.uint64(free_bits)
    return keys.reshape(rows, columns)


def _hide(
    input_ids: np.ndarray,
    selected: np.ndarray,
    vocabulary: VocabularyFacts,
    max_predictions_per_seq: int,
    generator: np.random.Generator,
) -> Masked:
    """Takes the selected cells (bool [R, S]) out of the rows, 80/10/10."""
    rows, columns = input_ids.shape
    cells = np.flatnonzero(selected)  # row by row, ascending: as the positions should be
    row = cells // columns
    counts = np.bincount(row, minlength=rows)
    slots = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    slots += row * max_predictions_per_seq

    labels = input_ids.take(cells)
    choice = generator.random(len(cells))
    shown = np.where(choice < 0.8, np.int32(vocabulary.mask_id), labels)
    replaced = choice >= 0.9
    shown[replaced] = generator.integers(
        0, vocabulary.vocab_size, np.count_nonzero(replaced), dtype=np.int32
    )
    hidden = input_ids.copy()
    hidden.reshape(-1)[cells] = shown

    positions = np.zeros((rows, max_predictions_per_seq), dtype=np.int32)
    ids = np.zeros_like(positions)
    weights = np.zeros(positions.shape, dtype=np.float32)
    positions.reshape(-1)[slots] = cells - row * columns
    ids.reshape(-1)[slots] = labels
    weights.reshape(-1)[slots] = 1
    return Masked(hidden, positions, ids, weights)
