"""Several examples in one row: their cells moved together, with what keeps them apart.

A trainer lets a token attend to those of the same number in `example_ids` only, restarts the
positions with `position_ids`, and predicts the next sentence at each of `cls_positions`. Then an
example has the same loss as in a row of its own.
"""

from collections.abc import Mapping

import numpy as np


def pack_rows(
    examples: Mapping[str, np.ndarray],
    lengths: np.ndarray,
    packs: np.ndarray,
    predictions_per_row: int,
) -> dict[str, np.ndarray]:
    """Lays out packs, one a row. K examples, P predictions a row at most.

    Args:
        examples: Google's features of R examples, as `lib.records.shard.features` gives them;
            those of masking may be missing.
        lengths: int64 [R]: tokens of each example.
        packs: int64 [rows, K]: the examples of each row, then -1 (see `packing.pack`).
        predictions_per_row: P.

    Returns:
        input_ids: int32 [rows, S]: the examples one after the other, then 0.
        segment_ids: uint8 [rows, S].
        position_ids: int32 [rows, S]: places within the example; 0 in the padding.
        example_ids: uint8 (int32 where K > 255) [rows, S]: 1 to K, the number of the example in
            its row; 0 in the padding.
        cls_positions: int32 [rows, K]: the column where each example starts; 0 where there is none.
        next_sentence_labels: uint8 [rows, K], 0 where there is none.
        next_sentence_weights: float32 [rows, K]: 1 for an example, 0 where there is none.
        masked_lm_positions, masked_lm_ids: int32 [rows, P]: of all examples of the row, the
            positions ascending and counted from the start of the row; 0 beyond.
        masked_lm_weights: float32 [rows, P]: 1 for a prediction, 0 beyond.
        The last three only if the examples have them.
    """
    rows, most = packs.shape
    columns = examples["input_ids"].shape[1]
    taken = packs >= 0
    sizes = np.where(taken, lengths[packs], 0)
    starts = np.where(taken, np.cumsum(sizes, axis=1) - sizes, 0)
    chosen, start, size = packs[taken], starts[taken], sizes[taken]  # row by row, slot by slot
    row, slot = np.nonzero(taken)

    def moved(values: np.ndarray, source: np.ndarray, target: np.ndarray, width: int) -> np.ndarray:
        """[rows, width]: cells of flat `values` at other places."""
        result = np.zeros(rows * width, dtype=values.dtype)
        result[target] = values.reshape(-1).take(source)
        return result.reshape(rows, width)

    within = _counting(size)
    source = np.repeat(chosen * columns, size) + within
    target = np.repeat(row * columns + start, size) + within
    numbers = np.repeat((slot + 1).astype(np.uint8 if most < 256 else np.int32), size)
    everywhere = np.arange(len(within))
    packed = {
        "input_ids": moved(examples["input_ids"], source, target, columns),
        "segment_ids": moved(examples["segment_ids"], source, target, columns),
        "position_ids": moved(within.astype(np.int32), everywhere, target, columns),
        "example_ids": moved(numbers, everywhere, target, columns),
        "cls_positions": starts.astype(np.int32),
        "next_sentence_labels": np.where(taken, examples["next_sentence_labels"][packs, 0], 0),
        "next_sentence_weights": taken.astype(np.float32),
    }
    if "masked_lm_positions" in examples:
        counts = np.count_nonzero(examples["masked_lm_weights"], axis=1)
        of_slot = np.where(taken, counts[packs], 0)
        before = (np.cumsum(of_slot, axis=1) - of_slot)[taken]
        count = of_slot[taken]
        within = _counting(count)
        source = np.repeat(chosen * examples["masked_lm_ids"].shape[1], count) + within
        target = np.repeat(row * predictions_per_row + before, count) + within
        everywhere = np.arange(len(within))
        positions = examples["masked_lm_positions"].reshape(-1).take(source)
        positions += np.repeat(start, count).astype(np.int32)
        for name, values, places in (
            ("masked_lm_positions", positions, everywhere),
            ("masked_lm_ids", examples["masked_lm_ids"], source),
            ("masked_lm_weights", examples["masked_lm_weights"], source),
        ):
            packed[name] = moved(values, places, target, predictions_per_row)
    return packed


def _counting(sizes: np.ndarray) -> np.ndarray:
    """int64 [sum of sizes]: 0 to size - 1 for each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
