"""What one gets without a model."""

import numpy as np

from lib.evaluation.metrics import AT, PieceScores
from lib.evaluation.sequences import HoleBatch


class Unigram:
    """Knows only how frequent each piece is in training text, and says the same of every hole.

    Its accuracy is that of always saying the commonest piece.

    Attributes:
        losses: float64 [vocabulary size]: -log p of each piece, in nats.
        top: the commonest piece.
    """

    def __init__(self, counts: np.ndarray) -> None:
        """
        Args:
            counts: int64 [vocabulary size]: of training text. One is added to each, so that no
                piece is impossible.
        """
        shares = (counts + 1) / (counts.sum() + len(counts))
        self.losses = -np.log(shares)
        self._by_frequency = np.argsort(-counts, kind="stable")
        self.top = int(self._by_frequency[0])

    def score(self, batch: HoleBatch) -> PieceScores:
        """See `lib.evaluation.evaluator.Evaluator.score`."""
        labels = batch.labels
        return PieceScores(
            self.losses[labels],
            (labels == self.top).astype(float),
            np.isin(labels, self._by_frequency[:AT]).astype(float),
        )
