"""Totals per test document, and from them metrics with bootstrap intervals.

A test set is a sample of documents. The words of one document resemble each other, so intervals
come from resampled documents, not words (Efron and Tibshirani, 1993, An Introduction to the
Bootstrap, chapter 13).

Example: three documents with these totals.

    document     bits    characters
    0             300           100
    1              50            25
    2             110            40

    bits per character = (300 + 50 + 110) / (100 + 25 + 40) = 460 / 165 = 2.788

One resample draws three documents with replacement, say 0, 2 and 2, and computes the same quotient
of sums: (300 + 110 + 110) / (100 + 40 + 40) = 2.889. A long document weighs more than a short one,
as it does in the metric itself. After 1,000 resamples the interval is [2.5th percentile, 97.5th
percentile] of the 1,000 values.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lib.evaluation.metrics import Metric, Total
from lib.run import random

_RESAMPLES = 1000
_TAIL = 2.5  # per cent on each side of a 95 % interval


class DocumentSums:
    """Totals per document; every metric is the quotient of two.

    Attributes:
        by_name: float64 [documents] for each total; documents without a value have 0.
    """

    def __init__(self, metrics: Sequence[Metric], extra: Iterable[Total] = ()) -> None:
        """
        Args:
            metrics: all of the MLM head, or all of the NSP head.
            extra: totals that are needed in addition to the metrics'.
        """
        self._metrics = metrics
        totals = [*(each for metric in metrics for each in (metric.total, metric.per)), *extra]
        self._totals = {total.name: total for total in totals}
        self.by_name = {name: np.zeros(0) for name in self._totals}

    def update(self, documents: np.ndarray, scores: Any) -> None:
        """Adds a scored batch.

        Args:
            documents: int64 [N]: the document of each word or pair.
            scores: what the `values` of the totals take: MaskedWordScores or PairScores.
        """
        self.add(documents, {name: total.values(scores) for name, total in self._totals.items()})

    def add(self, documents: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Adds values [N] to the totals of documents [N]."""
        needed = int(documents.max(initial=-1)) + 1
        for name, sums in self.by_name.items():
            if len(sums) < needed:
                self.by_name[name] = np.pad(sums, (0, 2 * needed - len(sums)))
        for name, own in values.items():
            np.add.at(self.by_name[name], documents, own)

    def total(self, total: Total) -> float:
        """The sum over all documents."""
        return float(self.by_name[total.name].sum())

    def metrics(self) -> dict[str, float]:
        """Each metric by its name."""
        return {
            metric.name: metric.value(self.total(metric.total), self.total(metric.per))
            for metric in self._metrics
        }

    def intervals(self, seed: int, resamples: int = _RESAMPLES) -> dict[str, list[float]]:
        """95 % intervals: [low, high] of each metric that has one, see the module's example."""
        names = list(self.by_name)
        sums = np.stack([self.by_name[name] for name in names])  # [totals, documents]
        sums = sums[:, sums.any(axis=0)]  # Only documents in which something was evaluated.
        documents = sums.shape[1]
        draws = random.generator(seed, "bootstrap")
        resampled = np.empty((resamples, len(names)))
        for number in range(resamples):
            times = np.bincount(draws.integers(documents, size=documents), minlength=documents)
            resampled[number] = sums @ times
        by_name = dict(zip(names, resampled.T, strict=True))
        found = {}
        for metric in self._metrics:
            if metric.interval:
                quotients = by_name[metric.total.name] / np.maximum(by_name[metric.per.name], 1.0)
                ends = np.percentile(quotients, [_TAIL, 100 - _TAIL])
                # Percentiles before the transform: it is increasing, so the order is the same.
                found[metric.name] = [metric.value(float(end), 1.0) for end in ends]
        return found
