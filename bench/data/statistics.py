"""Statistics of record files, and of their differences over many seeds."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def file_statistics(
    features: Mapping[str, np.ndarray], mask_id: int, max_seq_length: int
) -> dict[str, float]:
    """Statistics of one file that two correct tools agree on, on average.

    Args:
        features: features of Google's records, each an array [examples, values].
    """
    ids, labels = features["input_ids"], features["masked_lm_ids"]
    used = features["masked_lm_weights"] > 0
    lengths = features["input_mask"].sum(axis=1)
    inputs = np.take_along_axis(ids, features["masked_lm_positions"], axis=1)[used]
    originals = labels[used]
    second = features["segment_ids"].sum(axis=1)
    return {
        "pairs": float(len(ids)),
        "length, mean": float(lengths.mean()),
        **{
            f"length, {quantile:.0%} quantile": float(np.quantile(lengths, quantile))
            for quantile in QUANTILES
        },
        "length, standard deviation": float(lengths.std()),
        "sequences without padding": float((lengths == max_seq_length).mean()),
        "second segment, mean": float(second.mean()),
        "random next": float(features["next_sentence_labels"].mean()),
        "masked fraction of tokens": float(used.sum() / lengths.sum()),
        "replaced by [MASK]": float((inputs == mask_id).mean()),
        "left unchanged": float((inputs == originals).mean()),
        "replaced by another token": float(((inputs != mask_id) & (inputs != originals)).mean()),
        "masked position, mean": float(features["masked_lm_positions"][used].mean()),
        "masked id, mean": float(originals.mean()),
    }


def fraction_with_expected_predictions(
    features: Mapping[str, np.ndarray],
    probability: float,
    max_predictions: int,
    continuation: np.ndarray | None,
) -> float:
    """Fraction of sequences with Google's number of predictions.

    That is min(max_predictions, max(1, round(length * probability))).

    Args:
        continuation: for whole-word masking, bool [vocabulary size]: tokens that continue a word. A
            sequence may then have fewer predictions if each of its unmasked words has more tokens
            than predictions are missing.
    """
    lengths = features["input_mask"].sum(axis=1)
    counts = (features["masked_lm_weights"] > 0).sum(axis=1)
    # Python's round (half to even), as in Google's script.
    expected = np.array(
        [min(max_predictions, max(1, round(int(length) * probability))) for length in lengths]
    )
    correct = counts == expected
    if continuation is not None:
        for number in np.flatnonzero(counts < expected):
            missing = int(expected[number] - counts[number])
            sizes = _unmasked_word_sizes(features, int(number), continuation)
            correct[number] = all(size > missing for size in sizes)
    return float(correct.mean())


def _unmasked_word_sizes(
    features: Mapping[str, np.ndarray], number: int, continuation: np.ndarray
) -> list[int]:
    """Number of tokens of each word of a sequence that is not masked."""
    count = int((features["masked_lm_weights"][number] > 0).sum())
    ids = features["input_ids"][number].copy()
    masked = features["masked_lm_positions"][number][:count]
    ids[masked] = features["masked_lm_ids"][number][:count]
    length = int(features["input_mask"][number].sum())
    first_separator = int((features["segment_ids"][number] == 0)[:length].sum()) - 1
    words: list[list[int]] = []
    for position in range(1, length - 1):
        if position == first_separator:
            continue
        if words and continuation[ids[position]]:
            words[-1].append(position)
        else:
            words.append([position])
    masked_positions = set(masked.tolist())
    return [len(word) for word in words if not masked_positions.intersection(word)]


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Welch's statistic: difference of two means in units of its standard error.

    0 if both are the same constant, infinite if they are different constants.
    """
    difference = float(np.mean(first) - np.mean(second))
    error = math.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second))
    if error == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / error
