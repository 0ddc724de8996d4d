"""Statistics of a file of records, and whether two tools agree on them over many seeds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def file_statistics(
    features: Mapping[str, np.ndarray], mask_id: int, max_seq_length: int
) -> dict[str, float]:
    """What is to agree of one file.

    Args:
        features: Google's features, each a matrix [rows, values].
    """
    ids, labels = features["input_ids"], features["masked_lm_ids"]
    used = features["masked_lm_weights"] > 0
    lengths = features["input_mask"].sum(axis=1)
    shown = np.take_along_axis(ids, features["masked_lm_positions"], axis=1)[used]
    hidden = labels[used]
    second = features["segment_ids"].sum(axis=1)
    return {
        "pairs": float(len(ids)),
        "length, mean": float(lengths.mean()),
        **{
            f"length, {share:.0%} quantile": float(np.quantile(lengths, share))
            for share in QUANTILES
        },
        "length, standard deviation": float(lengths.std()),
        "full rows": float((lengths == max_seq_length).mean()),
        "second segment, mean": float(second.mean()),
        "random next": float(features["next_sentence_labels"].mean()),
        "masked share of tokens": float(used.sum() / lengths.sum()),
        "shown as [MASK]": float((shown == mask_id).mean()),
        "shown as they are": float((shown == hidden).mean()),
        "shown as another": float(((shown != mask_id) & (shown != hidden)).mean()),
        "masked position, mean": float(features["masked_lm_positions"][used].mean()),
        "masked id, mean": float(hidden.mean()),
    }


def rows_as_the_formula(
    features: Mapping[str, np.ndarray],
    probability: float,
    most: int,
    continuation: np.ndarray | None,
) -> float:
    """Share of rows with min(most, max(1, round(length * probability))) predictions.

    Args:
        continuation: bool [vocabulary size], for whole words: a row may then have fewer, if each
            word of it that is not masked is longer than what is missing.
    """
    lengths = features["input_mask"].sum(axis=1)
    counts = (features["masked_lm_weights"] > 0).sum(axis=1)
    # Python's own round, half to even, as the script has it.
    wanted = [min(most, max(1, round(int(length) * probability))) for length in lengths]
    good = counts == np.array(wanted)
    if continuation is not None:
        for row in np.flatnonzero(~good & (counts < wanted)):
            missing = wanted[row] - int(counts[row])
            good[row] = all(size > missing for size in _open_words(features, row, continuation))
    return float(good.mean())


def _open_words(
    features: Mapping[str, np.ndarray], row: int, continuation: np.ndarray
) -> list[int]:
    """Numbers of pieces of the words of a row that are not masked."""
    count = int((features["masked_lm_weights"][row] > 0).sum())
    ids = features["input_ids"][row].copy()
    masked = features["masked_lm_positions"][row][:count]
    ids[masked] = features["masked_lm_ids"][row][:count]
    length = int(features["input_mask"][row].sum())
    first_stop = int((features["segment_ids"][row] == 0)[:length].sum()) - 1
    words: list[list[int]] = []
    for place in range(1, length - 1):
        if place == first_stop:
            continue
        if words and continuation[ids[place]]:
            words[-1].append(place)
        else:
            words.append([place])
    hidden = set(masked.tolist())
    return [len(word) for word in words if not hidden.intersection(word)]


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Welch's statistic: the difference of two means in its standard errors.

    0 where both are the same constant, infinite where they are different constants.
    """
    difference = float(np.mean(first) - np.mean(second))
    error = math.sqrt(np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second))
    if error == 0:
        return 0.0 if difference == 0 else math.copysign(math.inf, difference)
    return difference / error


def agreement(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], bar: float
) -> list[dict[str, Any]]:
    """One row a statistic: both means over the seeds, Welch's statistic, and |z| < bar."""
    rows = []
    for name in theirs[0]:
        first, second = [one[name] for one in ours], [one[name] for one in theirs]
        z = welch(first, second)
        rows.append(
            {
                "name": name,
                "ours": float(np.mean(first)),
                "theirs": float(np.mean(second)),
                "z": z,
                "passed": abs(z) < bar,
            }
        )
    return rows
