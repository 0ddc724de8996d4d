"""From what a model says of each hidden piece to sums per document, metrics and intervals.

Documents are what a test set is a sample of: the words of one are alike, so intervals are made by
drawing documents anew (Efron and Tibshirani, 1993, An Introduction to the Bootstrap, chapter 13).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from lib.evaluation.sequences import HoleBatch
from lib.run import random

T = TypeVar("T")
AT = 5
# Metric: what is summed, and by what the sum is divided.
OF_HOLES = {
    "mlm_loss": ("loss", "pieces"),
    "mlm_accuracy": ("hits", "pieces"),
    f"mlm_accuracy_at_{AT}": ("hits_at_5", "pieces"),
    "bits_per_character": ("bits", "characters"),
    "word_accuracy": ("words_right", "words"),
}
OF_PAIRS = {"nsp_loss": ("loss", "pairs"), "nsp_accuracy": ("hits", "pairs")}
_RESAMPLES = 1000
_OUTSIDE = 2.5  # per cent on each side of a 95 % interval


@dataclass(frozen=True)
class PieceScores:
    """What is said of each hidden piece; float64 [R, P], of no meaning beyond a row's pieces.

    Attributes:
        losses: -log p(label), in nats.
        hits, hits_at_5: 1 where the label is the likeliest piece, or among the five likeliest; a
            part of it where it shares its place with others.
    """

    losses: np.ndarray
    hits: np.ndarray
    hits_at_5: np.ndarray


class DocumentSums:
    """Sums by document, of which every metric is a quotient.

    Attributes:
        by_name: float64 [documents] each.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.by_name = {name: np.zeros(0) for name in names}

    @classmethod
    def of_holes(cls) -> Self:
        return cls(tuple(dict.fromkeys(name for pair in OF_HOLES.values() for name in pair)))

    @classmethod
    def of_pairs(cls) -> Self:
        names = (name for pair in OF_PAIRS.values() for name in pair)
        return cls(tuple(dict.fromkeys([*names, "random"])))

    def add(self, documents: np.ndarray, **values: np.ndarray) -> None:
        """Adds values [N] to the sums of documents [N]."""
        most = int(documents.max(initial=-1)) + 1
        for name, sums in self.by_name.items():
            if len(sums) < most:
                self.by_name[name] = np.pad(sums, (0, 2 * most - len(sums)))
        for name, own in values.items():
            np.add.at(self.by_name[name], documents, own)

    def see(self, batch: HoleBatch, scores: PieceScores) -> None:
        """Adds what is said of a batch of holes."""
        real = batch.numbers >= 0
        numbers, words = batch.numbers[real], len(batch.documents)

        def by_word(values: np.ndarray) -> np.ndarray:
            return np.bincount(numbers, values[real], words)

        pieces, losses = np.bincount(numbers, minlength=words), by_word(scores.losses)
        # A part of a hit is no word that is right.
        right = by_word((scores.hits == 1.0).astype(float)) == pieces
        self.add(
            batch.documents,
            pieces=pieces,
            loss=losses,
            hits=by_word(scores.hits),
            hits_at_5=by_word(scores.hits_at_5),
            words=np.ones(words),
            words_right=right & (batch.spelling_bits == 0),
            bits=losses / math.log(2) + batch.spelling_bits,
            characters=batch.characters,
        )

    def total(self, name: str) -> float:
        return float(self.by_name[name].sum())

    def metrics(self, of: Mapping[str, tuple[str, str]]) -> dict[str, float]:
        """The quotients of the sums over all documents; perplexity is that of an average piece."""
        means = {
            metric: self.total(above) / max(self.total(below), 1.0)
            for metric, (above, below) in of.items()
        }
        return _with_perplexity(means, math.exp)

    def intervals(
        self, of: Mapping[str, tuple[str, str]], seed: int, resamples: int = _RESAMPLES
    ) -> dict[str, list[float]]:
        """95 % intervals of the metrics: [low, high], percentiles over resampled documents."""
        names = list(self.by_name)
        sums = np.stack([self.by_name[name] for name in names])
        # Nothing was asked of the others.
        sums = sums[:, sums.any(axis=0)]
        documents = sums.shape[1]
        draws = random.generator(seed, "bootstrap")
        totals = np.empty((resamples, len(names)))
        for number in range(resamples):
            chosen = np.bincount(draws.integers(documents, size=documents), minlength=documents)
            totals[number] = sums @ chosen
        of_name = dict(zip(names, totals.T, strict=True))
        found = {}
        for metric, (above, below) in of.items():
            values = of_name[above] / np.maximum(of_name[below], 1.0)
            low, high = np.percentile(values, [_OUTSIDE, 100 - _OUTSIDE])
            found[metric] = [float(low), float(high)]
        return _with_perplexity(found, lambda bounds: [math.exp(bound) for bound in bounds])


def _with_perplexity(metrics: dict[str, T], of_loss: Callable[[T], T]) -> dict[str, T]:
    """The metrics with the perplexity behind the loss, if there is one."""
    found = {}
    for name, value in metrics.items():
        found[name] = value
        if name == "mlm_loss":
            found["mlm_perplexity"] = of_loss(value)
    return found
