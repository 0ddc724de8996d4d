"""MLM masking: chooses the tokens that the model has to predict and replaces them (80/10/10).

The procedure is `create_masked_lm_predictions` of google-research/bert (Devlin et al., 2019), for
a batch of sequences at once. Tokens or words are chosen by sorting random keys. What the choice
needs to know of a candidate (its position, its width) is stored in the low bits of its key, so
that only the keys have to be sorted.

With `masked_lm_prob` 0.3, one sequence of 7 tokens has round(7 * 0.3) = 2 predictions:

    position   0      1    2   3         4       5    6
    token      [CLS]  the  un  ##believ  ##able  cat  [SEP]

Single tokens: two of the positions 1 to 5, all pairs equally likely. Whole words: the words are
tried in random order, say `un ##believ ##able`, `the`, `cat`. The first has three tokens, more
than 2, and is skipped; `the` and `cat` fit. If `the` becomes [MASK] (80 %) and `cat` stays as it
is (10 %), the result is

    input_ids  [CLS] [MASK] un ##believ ##able cat [SEP]
    positions  1    5    0 ...     (P slots)
    ids        the  cat  0 ...
    weights    1    1    0 ...

Shapes: B sequences in the batch, S max_seq_length, P max_predictions_per_seq.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np

_LAST = np.uint64(0xFFFFFFFFFFFFFFFF)  # key of a position that is not a candidate: sorts last


class Tokenizer(Protocol):
    """The part of `lib.vocab.tokenizer.Tokenizer` that masking needs."""

    cls_id: int
    sep_id: int
    mask_id: int
    continuation: np.ndarray | None

    @property
    def vocab_size(self) -> int: ...


@dataclass(frozen=True)
class VocabularyFacts:
    """What the records need to know about a vocabulary.

    Attributes:
        cls_id, sep_id, mask_id: ids of [CLS], [SEP] and [MASK].
        vocab_size: number of entries.
        continuation: bool [vocab_size]: the wordpiece continues a word (it starts with ##). None
            if the ids of the text are marked instead (`lib.vocab.tokenizer.CONTINUES_WORD`).
    """

    cls_id: int
    sep_id: int
    mask_id: int
    vocab_size: int
    continuation: np.ndarray | None

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> Self:
        return cls(
            tokenizer.cls_id,
            tokenizer.sep_id,
            tokenizer.mask_id,
            tokenizer.vocab_size,
            tokenizer.continuation,
        )


@dataclass(frozen=True)
class Masked:
    """A batch of masked sequences and their labels.

    Attributes:
        input_ids: int32 [B, S]: the model's input.
        positions: int32 [B, P]: masked positions, ascending; 0 in unused slots.
        ids: int32 [B, P]: the original tokens at these positions; 0 in unused slots.
        weights: float32 [B, P]: 1 for a prediction, 0 in unused slots.
    """

    input_ids: np.ndarray
    positions: np.ndarray
    ids: np.ndarray
    weights: np.ndarray


def prediction_counts(
    lengths: np.ndarray, masked_lm_prob: float, max_predictions_per_seq: int
) -> np.ndarray:
    """int64 array: min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))).

    As in Google's script, the length includes [CLS] and [SEP], and halves are rounded to even.
    """
    rounded = np.rint(lengths * masked_lm_prob).astype(np.int64)
    return np.clip(rounded, 1, max_predictions_per_seq)


def mask_sequences(
    input_ids: np.ndarray,
    lengths: np.ndarray,
    vocabulary: VocabularyFacts,
    masked_lm_prob: float,
    max_predictions_per_seq: int,
    whole_word_mask: bool,
    generator: np.random.Generator,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
    continues_word: np.ndarray | None = None,
) -> Masked:
    """Masks a batch of sequences.

    A sequence has the number of predictions that `prediction_counts` gives; fewer only if it has
    fewer tokens, or if no whole word fits. A chosen token is replaced by [MASK] with probability
    `mask_replace_prob`, by a token drawn uniformly from the whole vocabulary with
    `random_replace_prob`, and otherwise kept. Which tokens are chosen does not depend on the two.

    Args:
        input_ids: int32 [B, S]: unmasked sequences; not changed.
        lengths: integer array [B]: tokens per sequence, special tokens included, padding not.
        whole_word_mask: choose words, not tokens. A word is a token and the ## tokens that
            directly follow it. (Google's script also joins ## tokens after a [SEP] to the word
            before it. Here a word that truncation cut is a word of its own.)
        continues_word: bool [B, S]: tokens that continue a word, if the vocabulary does not say so.
    """
    is_token = np.arange(input_ids.shape[1]) < lengths[:, np.newaxis]  # [B, S]
    candidates = is_token & (input_ids != vocabulary.cls_id) & (input_ids != vocabulary.sep_id)
    limit = min(max_predictions_per_seq, input_ids.shape[1])
    counts = prediction_counts(lengths, masked_lm_prob, limit)  # [B]
    if whole_word_mask:
        if vocabulary.continuation is not None:
            continues_word = vocabulary.continuation.take(input_ids)
        assert continues_word is not None
        selected = _choose_words(candidates, continues_word, counts, generator)
    else:
        selected = _choose_tokens(candidates, counts, generator)
    return _replace(
        input_ids,
        selected,
        vocabulary,
        max_predictions_per_seq,
        generator,
        mask_replace_prob,
        random_replace_prob,
    )


def _choose_tokens(
    candidates: np.ndarray, counts: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """bool [B, S]: `counts` [B] candidates of each sequence, or all if there are fewer.

    Every position gets a random key, and the smallest keys win. The keys have 64 bits: with 32,
    two equal keys in one sequence would be common and would admit one prediction too many. The
    position in the low bits rules out equal keys altogether.
    """
    batch, length = candidates.shape
    keys = _random_keys(batch, length, length.bit_length(), generator)
    keys |= np.arange(length, dtype=np.uint64)
    np.copyto(keys, _LAST, where=~candidates)
    largest_chosen = np.sort(keys, axis=1)[np.arange(batch), counts - 1]  # [B]
    selected: np.ndarray = keys <= largest_chosen[:, np.newaxis]
    return selected & candidates  # with too few candidates, largest_chosen is _LAST itself


def _choose_words(
    candidates: np.ndarray,
    continuation: np.ndarray,
    counts: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """bool [B, S]: whole words, tried in random order, at most `counts` [B] tokens per sequence.

    A word that would exceed the number is skipped, and the next one is tried.
    """
    batch, length = candidates.shape
    # A word starts at a token that is no continuation, or whose left neighbour is no candidate,
    # and extends to the next start or to the next position that is no candidate.
    after_other = np.ones(batch * length, dtype=bool)
    np.logical_not(candidates.reshape(-1)[:-1], out=after_other[1:])  # [B, S] -> [B * S]
    after_other[::length] = True
    starts = candidates & (~continuation | after_other.reshape(batch, length))
    boundaries = np.flatnonzero(starts | ~candidates)
    widths = np.zeros(batch * length, dtype=np.uint64)
    widths[boundaries] = np.diff(boundaries, append=batch * length)

    # Key: random bits, then the word's width, then its position. The width in _LAST never fits.
    bits = (length + 1).bit_length()
    low = np.uint64((1 << bits) - 1)
    keys = _random_keys(batch, length, 2 * bits, generator)
    keys |= widths.reshape(batch, length) << np.uint64(bits)  # [B * S] -> [B, S]
    keys |= np.arange(length, dtype=np.uint64)
    np.copyto(keys, _LAST, where=~starts)
    keys.sort(axis=1)

    # One round tries one word of every sequence.
    rounds = int(np.count_nonzero(starts, axis=1).max(initial=0))
    chosen = np.zeros((rounds, batch), dtype=bool)
    left = counts.astype(np.uint64)
    for number in range(rounds):
        width = (keys[:, number] >> np.uint64(bits)) & low
        fits = np.less_equal(width, left, out=chosen[number])
        left -= width * fits
        if not left.any():
            break

    number_of_word, sequence = np.nonzero(chosen)
    words = keys[sequence, number_of_word]  # [words chosen]
    width = ((words >> np.uint64(bits)) & low).astype(np.int64)
    first = sequence * length + (words & low).astype(np.int64)
    within = np.arange(width.sum()) - np.repeat(np.cumsum(width) - width, width)
    selected = np.zeros(batch * length, dtype=bool)
    selected[np.repeat(first, width) + within] = True
    return selected.reshape(batch, length)  # [B * S] -> [B, S]


def _random_keys(
    batch: int, length: int, free_bits: int, generator: np.random.Generator
) -> np.ndarray:
    """uint64 [B, S]: random, except for the lowest `free_bits` bits, which are 0."""
    keys = np.asarray(generator.bit_generator.random_raw(batch * length), dtype=np.uint64)
    keys &= _LAST << np.uint64(free_bits)
    return keys.reshape(batch, length)  # [B * S] -> [B, S]


def _replace(
    input_ids: np.ndarray,
    selected: np.ndarray,
    vocabulary: VocabularyFacts,
    max_predictions_per_seq: int,
    generator: np.random.Generator,
    mask_replace_prob: float,
    random_replace_prob: float,
) -> Masked:
    """Replaces the selected tokens (bool [B, S]) and makes them labels."""
    batch, length = input_ids.shape
    # Indices into [B * S], ascending, as the positions have to be. N masked tokens in all.
    indices = np.flatnonzero(selected)  # [N]
    sequence = indices // length
    counts = np.bincount(sequence, minlength=batch)  # [B]
    # Slot of each masked token in [B * P].
    slots = np.arange(len(indices)) - np.repeat(np.cumsum(counts) - counts, counts)
    slots += sequence * max_predictions_per_seq

    labels = input_ids.take(indices)
    choice = generator.random(len(indices))
    replacements = np.where(choice < mask_replace_prob, np.int32(vocabulary.mask_id), labels)
    is_random = choice >= 1 - random_replace_prob
    replacements[is_random] = generator.integers(
        0, vocabulary.vocab_size, np.count_nonzero(is_random), dtype=np.int32
    )
    masked = input_ids.copy()
    masked.reshape(-1)[indices] = replacements  # a view [B * S]

    positions = np.zeros((batch, max_predictions_per_seq), dtype=np.int32)
    ids = np.zeros_like(positions)
    weights = np.zeros(positions.shape, dtype=np.float32)
    positions.reshape(-1)[slots] = indices - sequence * length  # views [B * P]
    ids.reshape(-1)[slots] = labels
    weights.reshape(-1)[slots] = 1
    return Masked(masked, positions, ids, weights)
