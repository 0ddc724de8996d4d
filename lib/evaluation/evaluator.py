"""Inference with a trained model, and the one place where evaluation loads one.

Shapes: B sequences, S token positions, P masked positions per sequence, V vocabulary entries.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from lib.checkpoints.huggingface import read_model
from lib.evaluation.metrics import TokenScores
from lib.evaluation.sequences import MaskedTokens
from lib.model.bert import next_sentence_logits
from lib.model.encoder_config import EncoderConfig
from lib.model.encoders import encoder
from lib.model.layers import Weights
from lib.model.losses import head_logits, loss_sums, mean_metrics
from lib.run import tf
from lib.run.errors import UserError


def load_evaluator(model: Path, max_length: int = 0) -> "Evaluator":
    """Loads a model directory for evaluation.

    Args:
        max_length: tokens of the longest sequences that it will be evaluated on.

    Raises:
        UserError: there is no model that can be read, or it has fewer positions.
    """
    config, weights = read_model(model)
    if max_length > config.max_position_embeddings:
        raise UserError(
            f"evaluate.lengths: {max_length} is more than the {config.max_position_embeddings} "
            f"positions of {model}; remove it"
        )
    return Evaluator(config, weights)


class Evaluator:
    """Inference-only wrapper around a model: constant weights, no dropout."""

    def __init__(self, config: EncoderConfig, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self._weights = {name: tf.constant(array) for name, array in weights.items()}

    def predict_mlm(self, batch: MaskedTokens) -> TokenScores:
        """Scores [B, P] of the tokens at the batch's positions."""
        features = {name: tf.constant(array) for name, array in batch.features().items()}
        labels = tf.constant(batch.labels)
        losses, higher, equal = _score_labels(self._weights, self.config, features, labels)
        return TokenScores(losses.numpy().astype(float), higher.numpy(), equal.numpy())

    def predict_nsp(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-probabilities float64 [B, 2] of "B follows A" and "B is random".

        Args:
            batch: `input_ids`, `input_mask`, `segment_ids` int32 [B, S].
        """
        tensors = [tf.constant(batch[name]) for name in ("input_ids", "input_mask", "segment_ids")]
        logs: np.ndarray = _nsp_log_probabilities(self._weights, self.config, *tensors).numpy()
        return logs.astype(float)

    def evaluate_records(
        self, batches: Iterable[Mapping[str, np.ndarray]], next_sentence: bool
    ) -> dict[str, float]:
        """Mean losses and accuracies over records (see `lib.model.losses.loss_sums`).

        Args:
            batches: of one shape.
        """
        totals: dict[str, float] = {}
        for batch in batches:
            tensors = {name: tf.constant(array) for name, array in batch.items()}
            sums = _record_sums(self._weights, self.config, tensors, next_sentence)
            for name, value in sums.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return mean_metrics(totals)

    def top_tokens(
        self, ids: list[int], position: int, k: int, vocabulary_size: int, length: int
    ) -> list[tuple[int, float]]:
        """The k most likely tokens at one position of a sequence, with their probabilities.

        Args:
            vocabulary_size: only ids below it are considered; a model may have spare entries.
            length: the sequence is padded to it, so that sequences of any length share the
                functions that TensorFlow compiles by shape.
        """
        padding = [0] * (length - len(ids))
        inputs = tf.constant([ids + padding], tf.int32)  # [1, S]
        mask = tf.constant([[1] * len(ids) + padding], tf.int32)  # [1, S]
        model = encoder(self.config)
        hidden = model.encode(self._weights, self.config, inputs, mask, tf.zeros_like(inputs))
        chosen = hidden[:, position : position + 1]  # [1, S, H] -> [1, 1, H]
        logits = model.masked_lm_logits(self._weights, self.config, chosen)  # [1, 1, V]
        values, indices = tf.math.top_k(tf.nn.softmax(logits[0, 0])[:vocabulary_size], k)
        return list(zip(indices.numpy().tolist(), values.numpy().tolist(), strict=True))


# Functions of the weights, so that models of one size share what is compiled for the first.
@tf.function
def _score_labels(
    weights: Weights, config: EncoderConfig, features: Mapping[str, tf.Tensor], labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Losses [B, P] of the labels, and numbers of more likely and of equally likely entries."""
    logits, _ = head_logits(weights, config, features, next_sentence=False)  # [B, P, V]
    of_label = tf.gather(logits, labels, batch_dims=2)[..., None]  # [B, P, 1]
    higher = tf.math.count_nonzero(logits > of_label, -1, dtype=tf.int32)  # [B, P]
    equal = tf.math.count_nonzero(tf.equal(logits, of_label), -1, dtype=tf.int32)  # [B, P]
    return tf.reduce_logsumexp(logits, -1) - of_label[..., 0], higher, equal


@tf.function
def _nsp_log_probabilities(
    weights: Weights, config: EncoderConfig, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor
) -> tf.Tensor:
    """[B, 2]."""
    first = tf.zeros_like(ids[:, :1])  # Of each sequence only the position of [CLS], [B, 1].
    hidden = encoder(config).encode(
        weights, config, ids, mask, segments, positions=first
    )  # [B, 1, H]
    return tf.nn.log_softmax(next_sentence_logits(weights, hidden)[:, 0])


@tf.function
def _record_sums(
    weights: Weights, config: EncoderConfig, batch: Mapping[str, tf.Tensor], next_sentence: bool
) -> dict[str, tf.Tensor]:
    return loss_sums(weights, config, batch, next_sentence)
