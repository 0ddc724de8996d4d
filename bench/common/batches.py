"""Training batches of the step benchmarks, in the form of our records and of Hugging Face's."""

from collections.abc import Sequence

import numpy as np


def example_lengths(example_ids: np.ndarray) -> np.ndarray:
    """Number of tokens of each example in a batch.

    [[1, 1, 1, 2, 2, 0]] is one sequence of two examples: lengths 3 and 2, and one padding token.

    Args:
        example_ids: integer array [B, S]: number of a token's example within its sequence, 0 for
            padding.
    """
    counts = np.stack(
        [(example_ids == number).sum(axis=1) for number in range(1, int(example_ids.max()) + 1)]
    )
    return counts[counts > 0]


def random_sequences(
    count: int, length: int, predictions: int, vocab_size: int, seed: int = 1
) -> dict[str, np.ndarray]:
    """Random sequences without padding, each with `predictions` masked positions, as in records."""
    draw = np.random.default_rng(seed)
    order = np.argsort(draw.random((count, length - 2)), axis=1)[:, :predictions]
    shape = (count, length)
    return {
        "input_ids": draw.integers(5, vocab_size, shape),
        "input_mask": np.ones(shape, np.int64),
        "segment_ids": (np.arange(length) >= length // 2) * np.ones(shape, np.int64),
        "masked_lm_positions": np.sort(order, axis=1) + 1,
        "masked_lm_ids": draw.integers(5, vocab_size, (count, predictions)),
        "masked_lm_weights": np.ones((count, predictions), np.float32),
        "next_sentence_labels": draw.integers(0, 2, (count, 1)),
    }


def collate(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """A batch as Hugging Face's collators make it, padded to its longest example.

    Args:
        examples: records of one example each, padded to the same length S.

    Returns:
        int64 arrays: `input_ids`, `attention_mask`, `token_type_ids` and `labels` [B, longest],
        with label -100 where nothing is predicted; `next_sentence_label` [B].
    """
    stacked = {name: np.stack([one[name] for one in examples]) for name in examples[0]}
    longest = int(stacked["input_mask"].sum(axis=1).max())
    labels = np.full(stacked["input_ids"].shape, -100, np.int64)  # [B, S]
    row, column = np.nonzero(stacked["masked_lm_weights"] > 0)
    labels[row, stacked["masked_lm_positions"][row, column]] = stacked["masked_lm_ids"][row, column]
    batch = {
        "input_ids": stacked["input_ids"],
        "attention_mask": stacked["input_mask"],
        "token_type_ids": stacked["segment_ids"],
        "labels": labels,
    }
    cut = {name: values[:, :longest].astype(np.int64) for name, values in batch.items()}
    return {**cut, "next_sentence_label": stacked["next_sentence_labels"][:, 0].astype(np.int64)}
