"""A model that is only looked at."""

from collections.abc import Iterable, Mapping

import numpy as np

from lib.evaluation.metrics import AT, PieceScores
from lib.evaluation.sequences import HoleBatch
from lib.model.bert import encode, masked_lm_logits, next_sentence_logits
from lib.model.config import BertConfig
from lib.model.layers import Weights
from lib.model.losses import head_logits, loss_sums, summarise
from lib.run import tf


class Evaluator:
    """Asks a model; nothing of it is changed, nothing is dropped out."""

    def __init__(
        self, config: BertConfig, weights: Mapping[str, np.ndarray], next_sentence: bool
    ) -> None:
        self._config, self._next_sentence = config, next_sentence
        self._weights = {name: tf.constant(array) for name, array in weights.items()}

    def score(self, batch: HoleBatch) -> PieceScores:
        """What the model says of hidden pieces, all of a row hidden at once."""
        features = {name: tf.constant(array) for name, array in batch.features().items()}
        labels = tf.constant(batch.labels)
        losses, above, level = _of_pieces(self._weights, self._config, features, labels)

        def hits(guesses: int) -> np.ndarray:
            return np.clip((guesses - above.numpy()) / level.numpy(), 0.0, 1.0)

        return PieceScores(losses.numpy().astype(float), hits(1), hits(AT))

    def answer(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-probabilities float64 [R, 2] of "B follows A" and "B is random".

        Args:
            batch: `input_ids`, `input_mask`, `segment_ids` int32 [R, S].
        """
        tensors = [tf.constant(batch[name]) for name in ("input_ids", "input_mask", "segment_ids")]
        answers: np.ndarray = _of_pairs(self._weights, self._config, *tensors).numpy()
        return answers.astype(float)

    @tf.function
    def _sums(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return loss_sums(self._weights, self._config, batch, self._next_sentence)

    def evaluate(self, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """Means over records, in batches of equal shape (see `lib.model.losses.loss_sums`)."""
        totals: dict[str, float] = {}
        for batch in batches:
            tensors = {name: tf.constant(array) for name, array in batch.items()}
            for name, value in self._sums(tensors).items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return summarise(totals)

    def best_pieces(
        self, ids: list[int], hole: int, count: int, pieces: int
    ) -> list[tuple[int, float]]:
        """The likeliest of the first `pieces` ids at one position of a row; with probabilities."""
        row = tf.constant([ids], tf.int32)
        hidden = encode(self._weights, self._config, row, tf.ones_like(row), tf.zeros_like(row))
        logits = masked_lm_logits(self._weights, self._config, hidden[:, hole : hole + 1])
        values, indices = tf.math.top_k(tf.nn.softmax(logits[0, 0])[:pieces], count)
        return list(zip(indices.numpy().tolist(), values.numpy().tolist(), strict=True))


# Functions of the weights, so that models of one size share what was compiled for them.
@tf.function
def _of_pieces(
    weights: Weights, config: BertConfig, features: Mapping[str, tf.Tensor], labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Losses [R, P], and how many pieces are likelier than the label, or as likely (itself)."""
    logits, _ = head_logits(weights, config, features, next_sentence=False)
    own = tf.gather(logits, labels, batch_dims=2)[..., None]
    above = tf.math.count_nonzero(logits > own, -1, dtype=tf.int32)
    level = tf.math.count_nonzero(tf.equal(logits, own), -1, dtype=tf.int32)
    return tf.reduce_logsumexp(logits, -1) - own[..., 0], above, level


@tf.function
def _of_pairs(
    weights: Weights, config: BertConfig, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor
) -> tf.Tensor:
    """Log-probabilities [R, 2]."""
    hidden = encode(weights, config, ids, mask, segments, columns=tf.zeros_like(ids[:, :1]))
    return tf.nn.log_softmax(next_sentence_logits(weights, hidden)[:, 0])
