"""The unigram baseline: predicts tokens by how frequent they are in training text."""

import numpy as np

from lib.evaluation.metrics import TokenScores
from lib.evaluation.sequences import MaskedTokens


class Unigram:
    """The same prediction for every masked token, from token frequencies alone.

    It always predicts the most frequent token first.

    Attributes:
        losses: float64 [V], V the vocabulary size: -log p of each token, in nats.
        ranks: int64 [V]: how many tokens come before it by frequency; of equally frequent ones the
            one with the lower id comes first.
        top: the most frequent token.
    """

    def __init__(self, counts: np.ndarray) -> None:
        """
        Args:
            counts: int64 [V]: occurrences of each token in training text. One is added to each, so
                that no token is impossible.
        """
        self.losses = -np.log((counts + 1) / (counts.sum() + len(counts)))
        by_frequency = np.argsort(-counts, kind="stable")
        self.ranks = np.empty(len(counts), np.int64)
        self.ranks[by_frequency] = np.arange(len(counts))
        self.top = int(by_frequency[0])

    def predict_mlm(self, batch: MaskedTokens) -> TokenScores:
        """See `lib.evaluation.evaluator.Evaluator.predict_mlm`."""
        labels = batch.labels  # [B, P]
        return TokenScores(self.losses[labels], self.ranks[labels], np.ones_like(labels))
