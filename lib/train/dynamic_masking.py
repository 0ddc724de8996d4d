"""Dynamic masking: new masks every time an example is read, computed in the input graph.

The procedure is `create_masked_lm_predictions` of google-research/bert (Devlin et al., 2019), which
`lib.records.masking` implements for static masks. Here it consists of operations on whole batches
with static shapes. Google's code walks over the shuffled words of one example and takes those that
fit; here the words of all examples are sorted by random keys, and those that fit are taken in a few
rounds. An example of 7 tokens with masked_lm_prob 0.3, thus 2 tokens to mask, and whole words:

    tokens          [CLS] un ##aff ##able my dog [SEP]
    position          0    1    2     3    4   5    6
    words                  un ##aff ##able | my | dog    width 3 | 1 | 1
    random order    unaffable, dog, my
    round 1         unaffable does not fit into 2 tokens; dog and my do, and together, too
    positions       4 5

Then of the chosen tokens 80 % are replaced by [MASK], 10 % by a random token, and 10 % stay, unless
the records were made for other fractions.

Shapes: B sequences in the batch, S tokens per sequence, K examples per sequence, P masked positions
per sequence.
"""

from typing import Protocol

import numpy as np

from lib.model.layers import example_ids
from lib.records.manifest import Manifest
from lib.run import random, tf

# The sort key of a word: example (descending), random bits, width in tokens.
_WIDTH_BITS, _RANDOM_BITS = 16, 32
_WIDTH = (1 << _WIDTH_BITS) - 1
_PHILOX = 1
_PHILOX_NUMBERS = 4  # of 32 bits, from each value of the counter


class Vocabulary(Protocol):
    """The part of `lib.vocab.tokenizer.Tokenizer` that masking needs."""

    cls_id: int
    sep_id: int
    mask_id: int
    continuation: np.ndarray | None

    @property
    def vocab_size(self) -> int: ...


class DynamicMasking:
    """Masks batches; masks are a function of (key, number of the sequence) only."""

    def __init__(
        self, manifest: Manifest, vocabulary: Vocabulary, seed: int, *indices: int
    ) -> None:
        """
        Args:
            seed, indices: key of the random stream.
        """
        self._cls_id, self._sep_id = vocabulary.cls_id, vocabulary.sep_id
        self._mask_id = vocabulary.mask_id
        self._vocab_size = vocabulary.vocab_size
        # Unless the records have word marks.
        self._continuation = (
            None if vocabulary.continuation is None else tf.constant(vocabulary.continuation)
        )
        self._whole_words = manifest.whole_word_mask
        self._examples = manifest.examples_per_sequence
        self._predictions = manifest.predictions_per_sequence
        # Limits of 32 random bits: below the first, [MASK]; from the second on, a random token.
        self._mask_below = int(manifest.mask_replace_prob * 2**32)
        self._random_from = int((1 - manifest.random_replace_prob) * 2**32)
        # min(max_predictions_per_seq, max(1, round(length * masked_lm_prob))) by length of the
        # example; 0 for examples that are not there, of length 0.
        lengths = np.arange(manifest.max_seq_length + 1)
        counts = np.rint(lengths * manifest.masked_lm_prob).astype(np.int32)
        max_count = min(manifest.max_predictions_per_seq, manifest.max_seq_length)
        self._target_counts = tf.constant(np.clip(counts, 1, max_count) * (lengths > 0))
        key = random.key(seed, "dynamic masks", *indices) & 0xFFFFFFFFFFFFFFFF
        self._key = tf.constant([key], tf.uint64)

    def __call__(
        self, batch: dict[str, tf.Tensor], first_sequence: tf.Tensor | int
    ) -> dict[str, tf.Tensor]:
        """Masks a batch.

        Args:
            batch: unmasked sequences: `input_ids` int32 [B, S]; `example_ids` int32 [B, S], or
                `input_mask` if each sequence is one example; `continues_word` int32 [B, S] if the
                vocabulary does not say which tokens continue a word.
            first_sequence: int64 scalar: number of the first sequence of the batch; the others
                follow.

        Returns:
            The batch with most of the chosen tokens in `input_ids` replaced by [MASK] or a random
            token, and with `masked_lm_positions`, `masked_lm_ids` int32 [B, P] and
            `masked_lm_weights` float32 [B, P]; positions ascend.
        """
        batch = dict(batch)
        ids, marks = batch["input_ids"], batch.pop("continues_word", None)
        examples = example_ids(batch)
        length, slots = ids.shape[1], self._predictions
        bits = self._random_bits(first_sequence, tf.shape(ids)[0], length + 2 * slots)
        # [B, S], [B, P], [B, P]
        key_bits, choice, other = tf.split(bits[:, : length + 2 * slots], [length, slots, slots], 1)

        candidates = (examples > 0) & (ids != self._cls_id) & (ids != self._sep_id)
        continues = None
        if self._whole_words:
            continues = (
                tf.cast(marks, tf.bool)
                if self._continuation is None
                else tf.gather(self._continuation, ids)
            )
        positions, weights = self._choose(ids, examples, candidates, continues, key_bits)
        # Position 0, which empty slots have, is [CLS] and never chosen.
        labels = tf.gather(ids, positions, batch_dims=1)  # [B, P]
        random_ids = tf.cast(_shift(other * self._vocab_size, 32), tf.int32)
        new_ids = tf.where(choice < self._random_from, labels, random_ids)
        new_ids = tf.where(choice < self._mask_below, self._mask_id, new_ids)
        new_ids = tf.where(weights, new_ids, labels)
        sequences = tf.broadcast_to(tf.range(tf.shape(ids)[0])[:, None], tf.shape(positions))
        indices = tf.stack([sequences, positions], 2)  # [B, P, 2]
        return {
            **batch,
            "input_ids": tf.tensor_scatter_nd_update(ids, indices, new_ids),
            "masked_lm_positions": positions,
            "masked_lm_ids": tf.where(weights, labels, 0),
            "masked_lm_weights": tf.cast(weights, tf.float32),
        }

    def _random_bits(
        self, first_sequence: tf.Tensor | int, sequences: tf.Tensor, count: int
    ) -> tf.Tensor:
        """int64 [sequences, count or a few more], values from 0 to 2^32 - 1.

        Philox computes its numbers from a counter, so that the numbers of one sequence can be
        computed alone: its counter begins where the numbers of all earlier sequences end.
        """
        blocks = -(-count // _PHILOX_NUMBERS)
        counter = tf.cast(first_sequence, tf.uint64) * blocks
        bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=tf.stack([sequences, blocks * _PHILOX_NUMBERS]),
            key=self._key,
            counter=tf.stack([counter, tf.zeros_like(counter)]),
            alg=_PHILOX,
            dtype=tf.uint32,
        )
        return tf.cast(bits, tf.int64)

    def _choose(
        self,
        ids: tf.Tensor,
        examples: tf.Tensor,
        candidates: tf.Tensor,
        continues: tf.Tensor | None,
        bits: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Chooses positions: int32 [B, P], ascending, then 0; and bool [B, P]: which are used."""
        length, slots = ids.shape[1], self._predictions
        # [B, K + 1] -> [B, K]
        bounds = _bounds(tf.where(examples > 0, examples - 1, self._examples), self._examples)
        target_counts = tf.gather(self._target_counts, bounds[:, 1:] - bounds[:, :-1])

        # Sorted: the words of the first example in random order, then those of the second...
        starts, widths = _words(ids, candidates, continues)
        keys = tf.cast(self._examples + 1 - examples, tf.int64) * (1 << _RANDOM_BITS) + bits
        keys = keys * (1 << _WIDTH_BITS) + tf.cast(widths, tf.int64)
        keys, positions = tf.math.top_k(tf.where(starts, keys, 0), length)  # [B, S] each
        number = self._examples + 1 - tf.cast(_shift(keys, _RANDOM_BITS + _WIDTH_BITS), tf.int32)
        bounds = _bounds(number - 1, self._examples)

        if self._whole_words:
            widths = tf.cast(keys & _WIDTH, tf.int32)  # 0 after the last word
            chosen = _choose_fitting(widths, number - 1, bounds, target_counts)
            # The chosen words in ascending order, as distance from the end and width.
            words = (length - positions) * (1 << _WIDTH_BITS) + widths
            words = tf.math.top_k(tf.where(chosen, words, 0), min(slots, length)).values
            positions, weights = _members(
                length - _shift(words, _WIDTH_BITS), words & _WIDTH, slots
            )
        else:
            counts = tf.minimum(target_counts, bounds[:, 1:] - bounds[:, :-1])
            indices, weights = _members(bounds[:, :-1], counts, slots)
            positions = tf.gather(positions, tf.where(weights, indices, 0), batch_dims=1)
            positions = tf.sort(tf.where(weights, positions, length))
        return tf.where(weights, positions, 0), weights


def _words(
    ids: tf.Tensor, candidates: tf.Tensor, continues: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether a word starts at a position (bool [B, S]), and its width (int32 [B, S]).

    Args:
        continues: bool [B, S]: the token continues a word; None: each token is a word.
    """
    if continues is None:
        return candidates, tf.ones_like(ids)
    after_candidate = tf.pad(candidates[:, :-1], [[0, 0], [1, 0]])
    starts = candidates & ~(continues & after_candidate)
    # Each position begins a run, or continues a word; run lengths are the widths of the words.
    boundaries = tf.reshape(starts | ~candidates, [-1])  # [B * S]
    run = tf.cumsum(tf.cast(boundaries, tf.int32)) - 1
    sizes = tf.math.unsorted_segment_sum(tf.ones_like(run), run, tf.size(run))
    return starts, tf.reshape(tf.gather(sizes, run), tf.shape(ids))  # [B * S] -> [B, S]


def _choose_fitting(
    widths: tf.Tensor, number: tf.Tensor, bounds: tf.Tensor, target_counts: tf.Tensor
) -> tf.Tensor:
    """Chooses words in their order and skips those that do not fit into what remains.

    A word that does not fit never will, as the remainder only shrinks. So each round chooses, of
    the words that are narrow enough for the remainder, as many as fit together. After a round the
    remainder is smaller than the width of the next word, so that there are few rounds.

    Args:
        widths: int32 [B, S]: tokens of each word, 0 after the last.
        number: int32 [B, S]: its example, from 0, ascending; K after the last.
        bounds: int32 [B, K + 1]: the words of example k are bounds[k] to bounds[k + 1] - 1.
        target_counts: int32 [B, K]: maximum number of tokens to choose per example.

    Returns:
        bool [B, S]
    """
    examples = target_counts.shape[1]

    def per_word(values: tf.Tensor) -> tf.Tensor:
        """Values [B, K] of examples -> values [B, S] of their words."""
        if examples == 1:
            return values  # broadcast
        return tf.gather(values, tf.minimum(number, examples - 1), batch_dims=1)

    def fitting(chosen: tf.Tensor, remaining: tf.Tensor) -> tf.Tensor:
        return ~chosen & (widths > 0) & (widths <= per_word(remaining))

    def running_totals(chosen: tf.Tensor) -> tf.Tensor:
        """Tokens of the chosen words up to and including each word."""
        return tf.cumsum(tf.where(chosen, widths, 0), 1)

    def at_bounds(totals: tf.Tensor) -> tf.Tensor:
        """[B, S] -> [B, K + 1]"""
        return tf.gather(tf.pad(totals, [[0, 0], [1, 0]]), bounds, batch_dims=1)

    def one_round(
        chosen: tf.Tensor, remaining: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        total = running_totals(fits)
        now = fits & (total <= per_word(at_bounds(total)[:, :-1] + remaining))
        ends = at_bounds(running_totals(now))
        chosen, remaining = chosen | now, remaining - (ends[:, 1:] - ends[:, :-1])
        return chosen, remaining, fitting(chosen, remaining)

    none = tf.zeros_like(widths, tf.bool)
    return tf.while_loop(
        lambda chosen, remaining, fits: tf.reduce_any(fits),
        one_round,
        (none, target_counts, fitting(none, target_counts)),
    )[0]


def _bounds(numbers: tf.Tensor, examples: int) -> tf.Tensor:
    """Where each example begins: its numbers int32 [B, S], ascending -> int32 [B, K + 1].

    With K = 3, numbers 0 0 1 1 1 3 -> bounds 0 2 5 5.
    """
    values = tf.broadcast_to(tf.range(examples + 1), [tf.shape(numbers)[0], examples + 1])
    return tf.searchsorted(numbers, values)


def _members(first: tf.Tensor, counts: tf.Tensor, slots: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The members of consecutive ranges: first 3 7, counts 2 1 -> 3 4 7.

    First and counts int32 [B, n] -> members int32 [B, slots], and bool: which slots have one.
    """
    ends = tf.cumsum(counts, 1)
    slot = tf.broadcast_to(tf.range(slots), [tf.shape(ends)[0], slots])
    ranges = tf.minimum(tf.searchsorted(ends, slot, "right"), ends.shape[1] - 1)
    return tf.gather(first - ends + counts, ranges, batch_dims=1) + slot, slot < ends[:, -1:]


def _shift(values: tf.Tensor, bits: int) -> tf.Tensor:
    """Integers divided by 2^bits."""
    return tf.bitwise.right_shift(values, tf.constant(bits, values.dtype))
