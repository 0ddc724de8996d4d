"""Held-out numbers of a finished model, beside what one gets without a model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from lib.model.bert import encode, masked_lm_logits
from lib.model.config import BertConfig
from lib.model.losses import loss_sums, summarise


class Evaluator:
    """A model that is only looked at."""

    def __init__(
        self, config: BertConfig, weights: Mapping[str, np.ndarray], next_sentence: bool
    ) -> None:
        self._config, self._next_sentence = config, next_sentence
        self._weights = {
            name: tf.Variable(array, trainable=False) for name, array in weights.items()
        }

    @tf.function
    def _sums(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return loss_sums(self._weights, self._config, batch, self._next_sentence)

    def evaluate(self, batches: Iterable[Mapping[str, np.ndarray]]) -> dict[str, float]:
        """Means over all batches of equal shape (see `lib.model.losses.loss_sums`)."""
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


@dataclass
class Unigram:
    """The baseline that knows only how frequent each piece is in training text.

    counts: int64 [vocabulary size]. One is added to each, so that no piece is impossible.
    """

    counts: np.ndarray

    def __post_init__(self) -> None:
        shares = (self.counts + 1) / (self.counts.sum() + len(self.counts))
        self.losses = -np.log(shares)
        self.top = int(np.argmax(self.counts))
        self._loss = self._hits = self._weight = 0.0
        self._random_next = np.zeros(2)

    def see(self, batch: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Scores the masked positions of a batch, and passes it on."""
        weight = batch["masked_lm_weights"] * batch["example_weights"][:, None]
        labels = batch["masked_lm_ids"]
        self._loss += float((self.losses[labels] * weight).sum())
        self._hits += float(((labels == self.top) * weight).sum())
        self._weight += float(weight.sum())
        self._random_next += np.bincount(
            batch["next_sentence_labels"][:, 0], weights=batch["example_weights"], minlength=2
        )
        return batch

    def metrics(self) -> dict[str, float]:
        """Loss of the unigram distribution, and accuracy of always saying the commonest."""
        return {
            "mlm_loss_unigram": self._loss / max(self._weight, 1.0),
            "mlm_accuracy_top_token": self._hits / max(self._weight, 1.0),
            "nsp_accuracy_majority": float(self._random_next.max() / self._random_next.sum()),
            "masked_tokens": int(self._weight),
            "examples": int(self._random_next.sum()),
        }
