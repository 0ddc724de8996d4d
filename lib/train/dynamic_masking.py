"""Dynamic masking: other masks whenever an example comes up, made in the input's graph.

The procedure is `create_masked_lm_predictions` of google-research/bert (Devlin et al., 2019), of
which `lib.records.masking` is the form for static masks. Here it consists of operations on whole
batches with static shapes. Where Google's code walks over the words of one example, the words of
all examples are sorted by random keys, and those that fit are taken in a few rounds.

B is the batch, S the sequence length, K the examples a row, P the predictions a row.
"""

from typing import Protocol

import numpy as np

from lib.records.manifest import Manifest
from lib.run import random, tf

# A word's key: example (descending), random bits, width in tokens.
_WIDTH_BITS, _RANDOM_BITS = 16, 32
_WIDTH = (1 << _WIDTH_BITS) - 1
_PHILOX = 1
_PHILOX_NUMBERS = 4  # of 32 bits, from each value of the counter


class Vocabulary(Protocol):
    """What `lib.vocab.tokenizer.WordPieceTokenizer` tells of its vocabulary."""

    cls_id: int
    sep_id: int
    mask_id: int
    continuation: np.ndarray


class DynamicMasking:
    """Masks rows; a row's masks are a function of (key, number of the row) alone."""

    def __init__(
        self, manifest: Manifest, vocabulary: Vocabulary, seed: int, *indices: int
    ) -> None:
        """
        Args:
            seed, indices: key of the random stream.
        """
        self._cls_id, self._sep_id = vocabulary.cls_id, vocabulary.sep_id
        self._mask_id = vocabulary.mask_id
        self._continuation = tf.constant(vocabulary.continuation)
        self._whole_words = manifest.whole_word_mask
        self._examples = manifest.examples_per_sequence
        self._predictions = manifest.predictions_per_sequence
        # min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))) by length; an
        # example that is not there has none.
        lengths = np.arange(manifest.max_seq_length + 1)
        wanted = np.rint(lengths * manifest.masked_lm_prob).astype(np.int32)
        most = min(manifest.max_predictions_per_seq, manifest.max_seq_length)
        self._wanted = tf.constant(np.clip(wanted, 1, most) * (lengths > 0))
        key = random.key(seed, "dynamic masks", *indices) & 0xFFFFFFFFFFFFFFFF
        self._key = tf.constant([key], tf.uint64)

    def __call__(
        self, batch: dict[str, tf.Tensor], first_row: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """The batch with masks.

        Args:
            batch: unmasked rows: `input_ids` int32 [B, S]; `example_ids` int32 [B, S], or
                `input_mask` where each row is one example.
            first_row: int64 scalar: number of the batch's first row; the others follow.

        Returns:
            The batch with 80 % of the chosen tokens in `input_ids` replaced by [MASK] and 10 % by
            any token, and with `masked_lm_positions`, `masked_lm_ids` int32 [B, P] and
            `masked_lm_weights` float32 [B, P], the positions ascending.
        """
        ids = batch["input_ids"]
        examples = batch["example_ids" if "example_ids" in batch else "input_mask"]
        length, slots = ids.shape[1], self._predictions
        bits = self._random_bits(first_row, tf.shape(ids)[0], length + 2 * slots)
        key_bits, choice, other = tf.split(bits[:, : length + 2 * slots], [length, slots, slots], 1)

        candidates = (examples > 0) & (ids != self._cls_id) & (ids != self._sep_id)
        positions, weights = self._choose(ids, examples, candidates, key_bits)
        # Position 0, which empty slots have, is [CLS] and never chosen.
        labels = tf.gather(ids, positions, batch_dims=1)
        vocabulary_size = self._continuation.shape[0]
        drawn = tf.cast(_shift(other * vocabulary_size, 32), tf.int32)
        shown = tf.where(choice < int(0.9 * 2**32), labels, drawn)
        shown = tf.where(choice < int(0.8 * 2**32), self._mask_id, shown)
        shown = tf.where(weights, shown, labels)
        rows = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        return {
            **batch,
            "input_ids": tf.tensor_scatter_nd_update(ids, tf.stack([rows, positions], 2), shown),
            "masked_lm_positions": positions,
            "masked_lm_ids": tf.where(weights, labels, 0),
            "masked_lm_weights": tf.cast(weights, tf.float32),
        }

    def _random_bits(self, first_row: tf.Tensor | int, rows: tf.Tensor, columns: int) -> tf.Tensor:
        """int64 [rows, columns or a few more], 0 to 2^32 - 1.

        Philox makes its numbers from a counter, so that a row's numbers can be had by themselves:
        the counter starts where the numbers of all rows before end.
        """
        blocks = -(-columns // _PHILOX_NUMBERS)
        counter = tf.cast(first_row, tf.uint64) * blocks
        bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=tf.stack([rows, blocks * _PHILOX_NUMBERS]),
            key=self._key,
            counter=tf.stack([counter, tf.zeros_like(counter)]),
            alg=_PHILOX,
            dtype=tf.uint32,
        )
        return tf.cast(bits, tf.int64)

    def _choose(
        self, ids: tf.Tensor, examples: tf.Tensor, candidates: tf.Tensor, bits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Positions int32 [B, P], ascending, then 0, and bool [B, P]: which of them count."""
        length, slots = ids.shape[1], self._predictions
        bounds = _bounds(tf.where(examples > 0, examples - 1, self._examples), self._examples)
        wanted = tf.gather(self._wanted, bounds[:, 1:] - bounds[:, :-1])

        # Sorted: the words of the first example in random order, then those of the second...
        starts, widths = self._words(ids, candidates)
        keys = tf.cast(self._examples + 1 - examples, tf.int64) * (1 << _RANDOM_BITS) + bits
        keys = keys * (1 << _WIDTH_BITS) + tf.cast(widths, tf.int64)
        keys, columns = tf.math.top_k(tf.where(starts, keys, 0), length)
        number = self._examples + 1 - tf.cast(_shift(keys, _RANDOM_BITS + _WIDTH_BITS), tf.int32)
        bounds = _bounds(number - 1, self._examples)

        if self._whole_words:
            widths = tf.cast(keys & _WIDTH, tf.int32)  # 0 behind the last word
            taken = _take_fitting(widths, number - 1, bounds, wanted)
            # The words taken, ascending, as column from the end and width.
            words = (length - columns) * (1 << _WIDTH_BITS) + widths
            words = tf.math.top_k(tf.where(taken, words, 0), min(slots, length)).values
            columns, weights = _members(length - _shift(words, _WIDTH_BITS), words & _WIDTH, slots)
        else:
            counts = tf.minimum(wanted, bounds[:, 1:] - bounds[:, :-1])
            places, weights = _members(bounds[:, :-1], counts, slots)
            columns = tf.gather(columns, tf.where(weights, places, 0), batch_dims=1)
            columns = tf.sort(tf.where(weights, columns, length))
        return tf.where(weights, columns, 0), weights

    def _words(self, ids: tf.Tensor, candidates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Whether a word starts in a cell (bool [B, S]) and how many tokens it has (int32 [B, S]).

        Without whole-word masking each token is a word.
        """
        if not self._whole_words:
            return candidates, tf.ones_like(ids)
        after_candidate = tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
        starts = candidates & ~(tf.gather(self._continuation, ids) & after_candidate)
        # A cell is in a run of its own or in a word; the runs' sizes are the words' widths.
        boundaries = tf.reshape(starts | ~candidates, [-1])
        run = tf.cumsum(tf.cast(boundaries, tf.int32)) - 1
        sizes = tf.math.unsorted_segment_sum(tf.ones_like(run), run, tf.size(run))
        return starts, tf.reshape(tf.gather(sizes, run), tf.shape(ids))


def _take_fitting(
    widths: tf.Tensor, number: tf.Tensor, bounds: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    """Which words are taken when they are tried in their order and skipped if they do not fit.

    A word that does not fit never will, as what is left only shrinks. So in each round the words
    are taken that are narrow enough for what is left, as many as fit together. After a round less
    is left than the width of the next one, so that rounds are few.

    Args:
        widths: int32 [B, S]: tokens of each word, 0 behind the last.
        number: int32 [B, S]: its example, from 0, ascending; K behind the last.
        bounds: int32 [B, K + 1]: the words of example k are bounds[k] to bounds[k + 1] - 1.
        wanted: int32 [B, K]: tokens to take in each example, at most.

    Returns:
        bool [B, S]
    """
    examples = wanted.shape[1]

    def of_example(values: tf.Tensor) -> tf.Tensor:
        """For each word the value of its example, of values [B, K]."""
        if examples == 1:
            return values  # broadcast
        return tf.gather(values, tf.minimum(number, examples - 1), batch_dims=1)

    def fitting(taken: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        return ~taken & (widths > 0) & (widths <= of_example(left))

    def totals(chosen: tf.Tensor) -> tf.Tensor:
        """Tokens of the chosen words up to each word, itself included."""
        return tf.cumsum(tf.where(chosen, widths, 0), 1)

    def at_bounds(totals: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.pad(totals, [[0, 0], [1, 0]]), bounds, batch_dims=1)

    def take(
        taken: tf.Tensor, left: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        total = totals(fits)
        now = fits & (total <= of_example(at_bounds(total)[:, :-1] + left))
        ends = at_bounds(totals(now))
        taken, left = taken | now, left - (ends[:, 1:] - ends[:, :-1])
        return taken, left, fitting(taken, left)

    nothing = tf.zeros_like(widths, tf.bool)
    return tf.while_loop(
        lambda taken, left, fits: tf.reduce_any(fits),
        take,
        (nothing, wanted, fitting(nothing, wanted)),
    )[0]


def _bounds(numbers: tf.Tensor, examples: int) -> tf.Tensor:
    """Where each example begins in rows of numbers: int32 [B, S], ascending -> [B, K + 1]."""
    wanted = tf.broadcast_to(tf.range(examples + 1), [tf.shape(numbers)[0], examples + 1])
    return tf.searchsorted(numbers, wanted)


def _members(first: tf.Tensor, counts: tf.Tensor, slots: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The members of ranges, one range after the other.

    Args:
        first, counts: int32 [B, N]: range n is first[n] to first[n] + counts[n] - 1.

    Returns:
        int32 [B, slots]: the members; bool [B, slots]: which slots have one.
    """
    ends = tf.cumsum(counts, 1)
    slot = tf.broadcast_to(tf.range(slots), [tf.shape(ends)[0], slots])
    each = tf.minimum(tf.searchsorted(ends, slot, "right"), ends.shape[1] - 1)
    return tf.gather(first - ends + counts, each, batch_dims=1) + slot, slot < ends[:, -1:]


def _shift(values: tf.Tensor, bits: int) -> tf.Tensor:
    """Whole numbers divided by 2^bits."""
    return tf.bitwise.right_shift(values, tf.constant(bits, values.dtype))
