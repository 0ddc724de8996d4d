"""Several examples in one row: their cells moved together, with what keeps them apart.

A trainer lets a token attend to those of the same number in `example_ids` only, restarts the
positions with `position_ids`, and predicts the next sentence at each of `cls_positions`. Then an
example has the same loss as in a row of its own.
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
    """Lays out packs, one a row. K examples, P predictions a row at most.

    Args:
        examples: Google's features of R examples, as `lib.records.shard.features` gives them;
            those of masking may be missing.
        lengths: int64 [R]: tokens of each example.
        packs: int64 [rows, K]: the examples of each row, then -1 (see `packing.pack`).
        predictions_per_sequence: P.
        next_sentence: the examples are sentence pairs.

    Returns:
        input_ids: int32 [rows, S]: the examples one after the other, then 0.
        segment_ids: uint8 [rows, S].
        position_ids: int32 [rows, S]: places within the example; 0 in the padding.
        example_ids: uint8 (int32 where K > 255) [rows, S]: 1 to K, the number of the example in
            its row; 0 in the padding.
        cls_positions: int32 [rows, K]: the column where each example starts; 0 where there is none.
        next_sentence_labels: uint8 [rows, K], 0 where there is none.
        next_sentence_weights: float32 [rows, K]: 1 for a sentence pair, 0 where there is none.
        masked_lm_positions, masked_lm_ids: int32 [rows, P]: of all examples of the row, the
            positions ascending and counted from the start of the row; 0 beyond.
        masked_lm_weights: float32 [rows, P]: 1 for a prediction, 0 beyond.
        The last three only if the examples have them.
    """
    columns = examples["input_ids"].shape[1]
    taken = packs >= 0
    slots = _Slots(np.where(taken, lengths[packs], 0), columns)
    within, source = slots.sources(packs, columns)
    filled = slots.spread(taken)
    numbers = np.arange(1, packs.shape[1] + 1, dtype=np.uint8 if packs.shape[1] < 256 else np.int32)
    packed = {
        name: examples[name].take(source, mode="clip") * filled
        for name in ("input_ids", "segment_ids")
    }
    packed["position_ids"] = within * filled
    packed["example_ids"] = slots.spread(taken * numbers)
    packed["cls_positions"] = slots.starts * taken
    packed["next_sentence_labels"] = examples["next_sentence_labels"][packs, 0] * taken
    packed["next_sentence_weights"] = (taken & next_sentence).astype(np.float32)
    if "masked_lm_positions" in examples:
        counts = np.zeros_like(packs)
        counts[taken] = np.count_nonzero(examples["masked_lm_weights"][packs[taken]], axis=1)
        predictions = _Slots(counts, predictions_per_sequence)
        _, source = predictions.sources(packs, examples["masked_lm_ids"].shape[1])
        filled = predictions.spread(taken)
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            packed[name] = examples[name].take(source, mode="clip")
        packed["masked_lm_positions"] += predictions.spread(slots.starts)
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            packed[name] *= filled
    return packed


class _Slots:
    """Sequences of `width` cells, divided among the slots of each row; the rest is padding.

    Attributes:
        starts: int32 [rows, K]: the cell that each slot begins with.
    """

    def __init__(self, sizes: np.ndarray, width: int) -> None:
        """
        Args:
            sizes: int64 [rows, K]: cells of each slot.
        """
        ends = np.cumsum(sizes, axis=1)
        self.starts = (ends - sizes).astype(np.int32)
        self._cells = np.column_stack([sizes, width - ends[:, -1]]).reshape(-1)
        self._shape = len(sizes), width

    def spread(self, values: np.ndarray) -> np.ndarray:
        """[rows, width]: in each cell the value of its slot ([rows, K]), in the padding 0."""
        with_padding = np.pad(values, ((0, 0), (0, 1)))
        return np.repeat(with_padding.reshape(-1), self._cells).reshape(self._shape)

    def sources(self, packs: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each cell comes from; of no meaning in the padding.

        Args:
            packs: int64 [rows, K]: the row of each slot's example among the examples' rows, which
                have `width` cells.

        Returns:
            int32 [rows, width]: its place in the example's row; int64 [rows, width]: its place
            in all those rows, one after the other.
        """
        within = np.arange(self._shape[1], dtype=np.int32) - self.spread(self.starts)
        return within, within + self.spread(packs * width)
