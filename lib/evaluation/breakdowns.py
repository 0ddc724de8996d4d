"""Where a model is good and where it is not: its losses by kinds of pieces and places."""

import numpy as np
import pandas as pd

from lib.evaluation.metrics import PieceScores
from lib.evaluation.nsp_pairs import PairBatch
from lib.evaluation.sequences import HoleBatch

KINDS = ("whole word", "first piece", "later piece")
ANSWERS = ("follows", "random")
_MOST_POSITIONS, _MOST_LENGTHS = 64, 16
_WIDEST = 19  # Decimal digits of a count.


class _Bins:
    """Losses and hits of pieces, summed by bin."""

    def __init__(self, bins: int) -> None:
        self._sums = np.zeros((3, bins))

    def add(self, bins: np.ndarray, losses: np.ndarray, hits: np.ndarray) -> None:
        for sums, values in zip(self._sums, (np.ones(len(bins)), losses, hits), strict=True):
            sums += np.bincount(bins, values, len(sums))

    def table(self, column: str, names: list[str] | list[int]) -> pd.DataFrame:
        """A line for each bin that has pieces."""
        pieces, losses, hits = self._sums
        filled = np.flatnonzero(pieces)
        return pd.DataFrame(
            {
                column: [names[number] for number in filled],
                "pieces": pieces[filled].astype(int),
                "mlm_loss": losses[filled] / pieces[filled],
                "mlm_accuracy": hits[filled] / pieces[filled],
            }
        )


class Breakdowns:
    """Fills the tables of one model while it is asked."""

    def __init__(self, counts: np.ndarray, length: int) -> None:
        """
        Args:
            counts: int64 [vocabulary size]: how often each piece occurs in training text.
            length: cells of a row.
        """
        # Number of decimal digits; 0 for a piece that does not occur.
        self._digits = np.searchsorted(10 ** np.arange(_WIDEST), counts, side="right")
        self._by_digits, self._by_kind = _Bins(_WIDEST + 1), _Bins(len(KINDS))
        self._ends_of = {
            "position": _ends(length, _MOST_POSITIONS),
            "length": _ends(length, _MOST_LENGTHS),
        }
        self._by_place = {name: _Bins(len(ends)) for name, ends in self._ends_of.items()}
        self._answers: list[np.ndarray] = []

    def see(self, batch: HoleBatch, scores: PieceScores) -> None:
        """Adds what is said of a batch of holes."""
        real = batch.numbers >= 0
        losses, hits = scores.losses[real], scores.hits[real]
        self._by_digits.add(self._digits[batch.labels[real]], losses, hits)
        numbers = batch.numbers[real]
        later = np.diff(numbers, prepend=-1) == 0
        alone = np.bincount(numbers)[numbers] == 1
        self._by_kind.add(np.where(alone, 0, np.where(later, 2, 1)), losses, hits)
        lengths = np.broadcast_to(batch.lengths[:, np.newaxis], real.shape)
        for name, places in (("position", batch.positions), ("length", lengths)):
            bins = np.searchsorted(self._ends_of[name], places[real])
            self._by_place[name].add(bins, losses, hits)

    def see_pairs(self, batch: PairBatch, answers: np.ndarray) -> None:
        """Adds answers [N]: what is said of the pairs of a batch, 0 or 1."""
        self._answers.append(np.stack([batch.labels, answers], axis=1))

    def tables(self) -> dict[str, pd.DataFrame]:
        """By the names of their files."""
        digits = range(1, _WIDEST + 1)
        names = ["0", "1-9", *(f"{10 ** (n - 1)}-{10**n - 1}" for n in digits if n > 1)]
        ends = {name: own.tolist() for name, own in self._ends_of.items()}
        answers = np.concatenate([np.zeros((0, 2), int), *self._answers])
        return {
            "by_frequency": self._by_digits.table("times_in_training", names),
            "by_position": self._by_place["position"].table("position", ends["position"]),
            "by_length": self._by_place["length"].table("tokens", ends["length"]),
            "by_token_type": self._by_kind.table("piece", list(KINDS)),
            "nsp_confusion": pd.DataFrame(
                np.array(ANSWERS)[answers.astype(int)], columns=["actual", "predicted"]
            ),
        }


def _ends(length: int, most: int) -> np.ndarray:
    """The last value of each of at most so many bins of equal width, from 1 to `length`."""
    width = -(-length // most)
    return np.arange(width, length + width, width)
