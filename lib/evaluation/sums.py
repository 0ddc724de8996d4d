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
percentile] of the 1,000 values (for few documents further out, see `lib.evaluation.intervals`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lib.evaluation.intervals import RESAMPLES, ends, resamples
from lib.evaluation.metrics import Metric, Total
from lib.run import random


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
        """Adds a scored batch: the scores and the documents, int64 [N], of N words or pairs."""
        self.add(documents, {name: total.values(scores) for name, total in self._totals.items()})

    def add(self, documents: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Adds values [N] to the totals of documents [N]."""
        needed = int(documents.max(initial=-1)) + 1
        for name, sums in self.by_name.items():
            if len(sums) < needed:
                self.by_name[name] = np.pad(sums, (0, 2 * needed - len(sums)))
        for name, own in values.items():
            np.add.at(self.by_name[name], documents, own)

    def joined(self, others: Sequence["DocumentSums"]) -> "DocumentSums":
        """The same of these documents and those of others, under new numbers."""
        whole = DocumentSums(self._metrics)
        whole._totals = self._totals
        whole.by_name = {
            name: np.concatenate([own, *(other.by_name[name] for other in others)])
            for name, own in self.by_name.items()
        }
        return whole

    def total(self, total: Total) -> float:
        """The sum over all documents."""
        return float(self.by_name[total.name].sum())

    def metrics(self) -> dict[str, float]:
        """Each metric by its name."""
        return {
            metric.name: metric.value(self.total(metric.total), self.total(metric.per))
            for metric in self._metrics
        }

    def intervals(self, seed: int, number: int = RESAMPLES) -> dict[str, list[float]]:
        """95 % intervals: [low, high] of each metric that has one, see the module's example.

        There are none for a single document.
        """
        names = list(self.by_name)
        sums = np.stack([self.by_name[name] for name in names])  # [totals, documents]
        sums = sums[:, sums.any(axis=0)]  # Only documents in which something was evaluated.
        documents = sums.shape[1]
        if documents < 2:
            return {}
        draws = random.generator(seed, "bootstrap")
        resampled = np.stack(list(resamples(sums, draws, number)))  # [resamples, totals]
        by_name = dict(zip(names, resampled.T, strict=True))
        found = {}
        for metric in self._metrics:
            if metric.interval:
                quotients = by_name[metric.total.name] / np.maximum(by_name[metric.per.name], 1.0)
                # Percentiles before the transform: it is increasing, so the order is the same.
                found[metric.name] = [metric.value(end, 1.0) for end in ends(quotients, documents)]
        return found


@dataclass(frozen=True)
class ModelSums:
    """Totals per document of one model on sequences of one length.

    Attributes:
        nsp: None: not evaluated on sentence pairs.
    """

    mlm: DocumentSums
    nsp: DocumentSums | None = None

    @classmethod
    def join(cls, parts: Sequence["ModelSums"]) -> "ModelSums":
        """The sums over the documents of all parts, each evaluated in the same way."""
        first, *others = parts
        pairs = [other.nsp for other in others if other.nsp]
        return cls(
            first.mlm.joined([other.mlm for other in others]),
            first.nsp.joined(pairs) if first.nsp else None,
        )

    def metrics(self) -> dict[str, float]:
        """Each metric by its name."""
        return self.mlm.metrics() | (self.nsp.metrics() if self.nsp else {})

    def intervals(self, seed: int) -> dict[str, list[float]]:
        """95 % intervals of all metrics."""
        return self.mlm.intervals(seed) | (self.nsp.intervals(seed) if self.nsp else {})

    def documents(self) -> int:
        """The number of documents up to the last one in which something was evaluated."""
        evaluated = np.flatnonzero(self._columns().to_numpy().any(axis=1))
        return int(evaluated[-1]) + 1 if len(evaluated) else 0

    def table(self, digests: Sequence[str]) -> pd.DataFrame:
        """One line per document in which something was evaluated: `document` and the totals.

        The totals are named `mlm.tokens`, `nsp.pairs` and the like; `document` is the digest, of
        which there are at least `documents()`.
        """
        table = self._columns()[: len(digests)]
        table.insert(0, "document", list(digests[: len(table)]))
        evaluated = table.drop(columns="document").any(axis=1)
        return table.loc[evaluated]

    def _columns(self) -> pd.DataFrame:
        """The totals [documents] by head and name."""
        heads = {"mlm": self.mlm, **({"nsp": self.nsp} if self.nsp else {})}
        columns = {
            f"{head}.{name}": pd.Series(values)
            for head, sums in heads.items()
            for name, values in sums.by_name.items()
        }
        table: pd.DataFrame = pd.DataFrame(columns).fillna(0.0)
        return table
