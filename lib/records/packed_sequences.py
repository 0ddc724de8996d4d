"""Packed sequences: several examples in one, with the features that keep them apart.

Two examples of 5 and 4 tokens, packed into a sequence of 11:

    input_ids      [CLS] 8 [SEP] 9 [SEP] [CLS] 5 6 [SEP] 0 0
    segment_ids      0   0   0   1   1     0   0 0   0   0 0
    example_ids      1   1   1   1   1     2   2 2   2   0 0
    position_ids     0   1   2   3   4     0   1 2   3   0 0
    cls_positions    0 5 0 ...   (K slots)

The training step lets a token attend only to tokens with the same number in `example_ids`, uses
`position_ids` instead of the position in the sequence, and predicts the next sentence at each of
`cls_positions`. Then every example has the same loss as in a sequence of its own.

Shapes: N examples, B packed sequences, S max_seq_length; per sequence, K slots for examples and P
slots for predictions.
"""

from collections.abc import Mapping

import numpy as np


def assemble_packed(
    examples: Mapping[str, np.ndarray],
    lengths: np.ndarray,
    packs: np.ndarray,
    predictions_per_sequence: int,
    next_sentence: bool,
) -> dict[str, np.ndarray]:
    """Builds packed sequences from unpacked ones.

    Args:
        examples: Google's features of N examples, as `lib.records.shard.features` gives them;
            the masked_lm features may be missing.
        lengths: int64 [N]: tokens per example.
        packs: int64 [B, K]: the examples of each sequence, then -1 (see `packing.pack`).
        predictions_per_sequence: P.
        next_sentence: the examples are sentence pairs.

    Returns:
        input_ids: int32 [B, S]: the examples one after the other, then 0.
        segment_ids: uint8 [B, S].
        continues_word: uint8 [B, S], if the examples have it.
        position_ids: int32 [B, S]: position within the example; 0 in the padding.
        example_ids: uint8 (int32 if K > 255) [B, S]: 1 to K, the number of the example in its
            sequence; 0 in the padding.
        cls_positions: int32 [B, K]: where each example starts; 0 in unused slots.
        next_sentence_labels: uint8 [B, K]; 0 in unused slots.
        next_sentence_weights: float32 [B, K]: 1 for a sentence pair, 0 in unused slots.
        masked_lm_positions, masked_lm_ids: int32 [B, P]: of all examples of the sequence; positions
            are ascending and count from the start of the sequence; 0 in unused slots.
        masked_lm_weights: float32 [B, P]: 1 for a prediction, 0 in unused slots.
        The last three are there only if the examples have them.
    """
    length = examples["input_ids"].shape[1]
    is_used = packs >= 0  # [B, K]
    slots = _Slots(np.where(is_used, lengths[packs], 0), length)
    position_ids, sources = slots.sources(packs, length)  # [B, S]
    is_token = slots.spread(is_used)
    numbers = np.arange(1, packs.shape[1] + 1, dtype=np.uint8 if packs.shape[1] < 256 else np.int32)
    packed = {
        name: examples[name].take(sources, mode="clip") * is_token
        for name in ("input_ids", "segment_ids", "continues_word")
        if name in examples
    }
    packed["position_ids"] = position_ids * is_token
    packed["example_ids"] = slots.spread(is_used * numbers)
    packed["cls_positions"] = slots.starts * is_used
    packed["next_sentence_labels"] = examples["next_sentence_labels"][packs, 0] * is_used
    packed["next_sentence_weights"] = (is_used & next_sentence).astype(np.float32)
    if "masked_lm_positions" in examples:
        counts = np.zeros_like(packs)  # [B, K]
        counts[is_used] = np.count_nonzero(examples["masked_lm_weights"][packs[is_used]], axis=1)
        predictions = _Slots(counts, predictions_per_sequence)
        _, sources = predictions.sources(packs, examples["masked_lm_ids"].shape[1])  # [B, P]
        is_prediction = predictions.spread(is_used)
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            packed[name] = examples[name].take(sources, mode="clip")
        packed["masked_lm_positions"] += predictions.spread(slots.starts)
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            packed[name] *= is_prediction
    return packed


class _Slots:
    """The layout of B arrays of `width` values that are divided into K slots and padding.

    With sizes [[5, 4, 0]] and width 11, slot 0 has the positions 0 to 4, slot 1 has 5 to 8, slot 2
    is empty, and 9 and 10 are padding.

    Attributes:
        starts: int32 [B, K]: the first position of each slot.
    """

    def __init__(self, sizes: np.ndarray, width: int) -> None:
        """
        Args:
            sizes: int64 [B, K]: positions per slot.
        """
        ends = np.cumsum(sizes, axis=1)
        self.starts = (ends - sizes).astype(np.int32)
        # [B, K + 1] -> [B * (K + 1)]: sizes of the slots and of the padding.
        self._sizes = np.column_stack([sizes, width - ends[:, -1]]).reshape(-1)
        self._shape = len(sizes), width

    def spread(self, values: np.ndarray) -> np.ndarray:
        """[B, K] -> [B, width]: the value of the slot at each of its positions, 0 in the padding.

        With the layout above, [[7, 8, 9]] becomes [[7, 7, 7, 7, 7, 8, 8, 8, 8, 0, 0]].
        """
        with_padding = np.pad(values, ((0, 0), (0, 1)))
        # [B * (K + 1)] -> [B * width] -> [B, width]
        return np.repeat(with_padding.reshape(-1), self._sizes).reshape(self._shape)

    def sources(self, packs: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the value at each position comes from; meaningless in the padding.

        Args:
            packs: int64 [B, K]: the example of each slot.
            width: values per example, as in the arrays [N, width] of the examples.

        Returns:
            int32 [B, own width]: the position within the example; int64 [B, own width]: the index
            into the flattened examples [N * width].
        """
        within = np.arange(self._shape[1], dtype=np.int32) - self.spread(self.starts)
        return within, within + self.spread(packs * width)
