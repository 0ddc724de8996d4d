"""Dynamic masking: other masks whenever an example comes up, made in the input's graph.

The procedure is `create_masked_lm_predictions` of google-research/bert (Devlin et al., 2019), of
which `lib.records.masking` is the form for static masks. Here it consists of operations on whole
batches with static shapes. Where Google's code walks over the words of one example, the words of
all examples are sorted by random keys, and those that fit are taken in a few rounds.

B is the batch, S the sequence length, K the examples a row, P the predictions a row.
"""

from typing import Protocol

import numpy as np
import tensorflow as tf

from lib.run import random
from lib.train.manifest import Manifest

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
        self._examples = manifest.examples_per_row
        self._predictions = manifest.predictions_per_row
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
        starts, widths = self._words(ids, candidates)
        keys = tf.cast(self._examples + 1 - examples, tf.int64) * (1 << _RANDOM_BITS) + bits
        keys = keys * (1 << _WIDTH_BITS) + tf.cast(widths, tf.int64)
        # Sorted: the words of the first example in random order, then those of the second...
        single = self._examples == 1 and not self._whole_words
        keys, columns = tf.math.top_k(
            tf.where(starts, keys, 0), min(slots, length) if single else length
        )
        widths = tf.cast(keys & _WIDTH, tf.int32)  # 0 behind the last word
        number = tf.cast(_shift(keys, _RANDOM_BITS + _WIDTH_BITS), tf.int32)
        number = tf.minimum(self._examples - number, self._examples - 1)  # from 0

        each = tf.range(1, self._examples + 1) == examples[:, :, None]  # [B, S, K]
        wanted = tf.gather(self._wanted, _count(each))
        ends = tf.cumsum(_count(each & starts[:, :, None]), 1)
        ends = tf.pad(ends, [[0, 0], [1, 0]])  # [B, K + 1]: where each example's words begin
        if self._whole_words:
            taken = _take_fitting(widths, number, ends, wanted)
        else:
            taken = tf.range(columns.shape[1]) < _of_example(ends[:, :-1] + wanted, number)
            taken &= widths > 0
        # The columns of the words that are taken, ascending, as column from the end and width.
        first = (length - columns) * (1 << _WIDTH_BITS) + widths
        first = tf.math.top_k(tf.where(taken, first, 0), min(slots, length)).values
        first = tf.pad(first, [[0, 0], [0, slots - first.shape[1]]])
        widths, columns = first & _WIDTH, length - _shift(first, _WIDTH_BITS)
        filled = tf.cumsum(widths, 1)
        weights = tf.range(slots) < filled[:, -1:]
        if self._whole_words:
            cells = tf.broadcast_to(tf.range(slots), tf.shape(filled))
            word = tf.minimum(tf.searchsorted(filled, cells, "right"), slots - 1)
            columns = tf.gather(columns - filled + widths, word, batch_dims=1) + cells
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
    widths: tf.Tensor, number: tf.Tensor, ends: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    """Which words are taken when they are tried in their order and skipped if they do not fit.

    A word that does not fit never will, as what is left only shrinks. So in each round the words
    are taken that are narrow enough for what is left, as many as fit together. After a round less
    is left than the width of the next one, so that rounds are few.

    Args:
        widths: int32 [B, S]: tokens of each word, 0 behind the last.
        number: int32 [B, S]: its example, from 0, ascending.
        ends: int32 [B, K + 1]: the words of example k are ends[k] to ends[k + 1] - 1.
        wanted: int32 [B, K]: tokens to take in each example, at most.

    Returns:
        bool [B, S]
    """

    def fitting(taken: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        return ~taken & (widths > 0) & (widths <= _of_example(left, number))

    def some_fit(taken: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(fitting(taken, left))

    def take(taken: tf.Tensor, left: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fits = fitting(taken, left)
        total = tf.cumsum(tf.where(fits, widths, 0), 1)
        before = tf.gather(tf.pad(total, [[0, 0], [1, 0]]), ends[:, :-1], batch_dims=1)
        now = fits & (total <= _of_example(before + left, number))
        total = tf.pad(tf.cumsum(tf.where(now, widths, 0), 1), [[0, 0], [1, 0]])
        at_ends = tf.gather(total, ends, batch_dims=1)
        return taken | now, left - (at_ends[:, 1:] - at_ends[:, :-1])

    taken, _ = tf.while_loop(some_fit, take, (tf.zeros_like(widths, tf.bool), wanted))
    return taken


def _of_example(values: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """[B, S]: for each word the value of its example, of values [B, K]."""
    if values.shape[1] == 1:
        return values  # broadcast
    return tf.gather(values, number, batch_dims=1)


def _shift(values: tf.Tensor, bits: int) -> tf.Tensor:
    """Whole numbers divided by 2^bits."""
    return tf.bitwise.right_shift(values, tf.constant(bits, values.dtype))


def _count(each: tf.Tensor) -> tf.Tensor:
    """bool [B, S, K] -> int32 [B, K]."""
    return tf.reduce_sum(tf.cast(each, tf.int32), 1)
