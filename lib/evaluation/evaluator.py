"""Inference with a trained model.

Shapes: B sequences, S token positions, P masked positions per sequence, V vocabulary entries.
"""

from collections.abc import Mapping

import numpy as np

from lib.evaluation.metrics import TokenScores
from lib.evaluation.sequences import MaskedTokens
from lib.model.bert import next_sentence_logits
from lib.model.encoder_config import EncoderConfig
from lib.model.encoders import encoder
from lib.model.layers import Batch, Weights
from lib.model.losses import head_logits
from lib.run import tf


class Evaluator:
    """Inference-only wrapper around a model: constant weights, no dropout."""

    def __init__(self, config: EncoderConfig, weights: Mapping[str, np.ndarray]) -> None:
        self.config = config
        self._weights = _tensors(weights)

    def predict_mlm(self, batch: MaskedTokens) -> TokenScores:
        """Scores [B, P] of the tokens at the batch's positions."""
        features, labels = _tensors(batch.features()), tf.constant(batch.labels)
        losses, higher, equal = _score_labels(self._weights, self.config, features, labels)
        return TokenScores(losses.numpy().astype(float), higher.numpy(), equal.numpy())

    def predict_nsp(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-probabilities float64 [B, 2] of "B follows A" and "B is random".

        Args:
            batch: `input_ids`, `input_mask`, `segment_ids` int32 [B, S].
        """
        logs: np.ndarray = _nsp_log_probabilities(
            self._weights, self.config, _tensors(batch)
        ).numpy()
        return logs.astype(float)

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
        batch = {"input_ids": inputs, "input_mask": mask, "segment_ids": tf.zeros_like(inputs)}
        model = encoder(self.config)
        hidden = model.encode(self._weights, self.config, batch)
        chosen = hidden[:, position : position + 1]  # [1, S, H] -> [1, 1, H]
        logits = model.masked_lm_logits(self._weights, self.config, chosen)  # [1, 1, V]
        values, indices = tf.math.top_k(tf.nn.softmax(logits[0, 0])[:vocabulary_size], k)
        return list(zip(indices.numpy().tolist(), values.numpy().tolist(), strict=True))


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}


# Functions of the weights, so that models of one size share what is compiled for the first.
@tf.function
def _score_labels(
    weights: Weights, config: EncoderConfig, features: Batch, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Losses [B, P] of the labels, and numbers of more likely and of equally likely entries."""
    logits, _ = head_logits(weights, config, features, next_sentence=False)  # [B, P, V]
    of_label = tf.gather(logits, labels, batch_dims=2)[..., None]  # [B, P, 1]
    higher = tf.math.count_nonzero(logits > of_label, -1, dtype=tf.int32)  # [B, P]
    equal = tf.math.count_nonzero(tf.equal(logits, of_label), -1, dtype=tf.int32)  # [B, P]
    return tf.reduce_logsumexp(logits, -1) - of_label[..., 0], higher, equal


@tf.function
def _nsp_log_probabilities(weights: Weights, config: EncoderConfig, batch: Batch) -> tf.Tensor:
    """[B, 2]."""
    first = tf.zeros_like(batch["input_ids"][:, :1])  # Only the position of [CLS], [B, 1].
    hidden = encoder(config).encode(weights, config, batch, positions=first)  # [B, 1, H]
    return tf.nn.log_softmax(next_sentence_logits(weights, hidden)[:, 0])
