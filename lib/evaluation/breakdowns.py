"""MLM loss and accuracy by token frequency, token type, position and length."""

import numpy as np
import pandas as pd

from lib.evaluation.metrics import PairScores, TokenScores
from lib.evaluation.sequences import MaskedWordBatch

TOKEN_TYPES = ("whole word", "first wordpiece", "later wordpiece")
NSP_CLASSES = ("follows", "random")
_MAX_POSITION_BINS, _MAX_LENGTH_BINS = 64, 16
_MAX_DIGITS = 19  # of a count


class _Bins:
    """Losses and top-1 hits of masked tokens, summed by bin."""

    def __init__(self, bins: int) -> None:
        self._sums = np.zeros((3, bins))

    def add(self, bins: np.ndarray, losses: np.ndarray, correct: np.ndarray) -> None:
        """Adds values [T] to bins [T]."""
        for sums, values in zip(self._sums, (np.ones(len(bins)), losses, correct), strict=True):
            sums += np.bincount(bins, values, len(sums))

    def table(self, column: str, names: list[str] | list[int]) -> pd.DataFrame:
        """One line for each bin that has tokens."""
        tokens, losses, correct = self._sums
        filled = np.flatnonzero(tokens)
        return pd.DataFrame(
            {
                column: [names[number] for number in filled],
                "tokens": tokens[filled].astype(int),
                "mlm_loss": losses[filled] / tokens[filled],
                "mlm_accuracy": correct[filled] / tokens[filled],
            }
        )


class Breakdowns:
    """Collects the tables of one model while it is evaluated."""

    def __init__(self, counts: np.ndarray, length: int) -> None:
        """
        Args:
            counts: int64 [V]: how often each token occurs in training text.
            length: token positions of a sequence.
        """
        # Number of decimal digits; 0 for a token that does not occur.
        self._digits = np.searchsorted(10 ** np.arange(_MAX_DIGITS), counts, side="right")
        self._by_digits, self._by_type = _Bins(_MAX_DIGITS + 1), _Bins(len(TOKEN_TYPES))
        self._edges = {
            "position": _bin_edges(length, _MAX_POSITION_BINS),
            "length": _bin_edges(length, _MAX_LENGTH_BINS),
        }
        self._by_edge = {name: _Bins(len(edges)) for name, edges in self._edges.items()}
        self._pairs: list[np.ndarray] = []

    def update(self, batch: MaskedWordBatch, scores: TokenScores) -> None:
        """Adds predictions [B, P] for a batch of masked words."""
        masked = batch.masked_tokens()  # [B, P], T of them true
        losses, correct = scores.losses[masked], scores.in_top(1)[masked]  # [T]
        self._by_digits.add(self._digits[batch.labels[masked]], losses, correct)
        words = batch.words[masked]
        is_later = np.diff(words, prepend=-1) == 0
        is_whole = np.bincount(words)[words] == 1
        self._by_type.add(np.where(is_whole, 0, np.where(is_later, 2, 1)), losses, correct)
        lengths = np.broadcast_to(batch.lengths[:, np.newaxis], masked.shape)  # [B] -> [B, P]
        for name, values in (("position", batch.positions), ("length", lengths)):
            bins = np.searchsorted(self._edges[name], values[masked])
            self._by_edge[name].add(bins, losses, correct)

    def update_pairs(self, scores: PairScores) -> None:
        """Adds predictions [N] for sentence pairs."""
        self._pairs.append(np.stack([scores.labels, scores.predicted()], axis=1))  # [N, 2]

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by the names of their files."""
        digits = range(1, _MAX_DIGITS + 1)
        names = ["0", "1-9", *(f"{10 ** (n - 1)}-{10**n - 1}" for n in digits if n > 1)]
        edges = {name: own.tolist() for name, own in self._edges.items()}
        pairs = np.concatenate([np.zeros((0, 2), int), *self._pairs])
        return {
            "by_frequency": self._by_digits.table("times_in_training", names),
            "by_position": self._by_edge["position"].table("position", edges["position"]),
            "by_length": self._by_edge["length"].table("length", edges["length"]),
            "by_token_type": self._by_type.table("token_type", list(TOKEN_TYPES)),
            "nsp_confusion": pd.DataFrame(
                np.array(NSP_CLASSES)[pairs.astype(int)], columns=["actual", "predicted"]
            ),
        }


def _bin_edges(length: int, max_bins: int) -> np.ndarray:
    """The last value of each bin: bins of equal width from 1 to `length`."""
    width = -(-length // max_bins)
    return np.arange(width, length + width, width)
