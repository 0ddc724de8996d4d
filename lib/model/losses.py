"""Sums of losses and hits over a batch of pretraining rows; who divides them decides the mean."""

from collections.abc import Mapping

import tensorflow as tf

from lib.model.bert import DropoutFunction, encode, masked_lm_logits, next_sentence_logits
from lib.model.config import BertConfig
from lib.model.layers import Weights, no_dropout

Batch = Mapping[str, tf.Tensor]


def loss_sums(
    weights: Weights,
    config: BertConfig,
    batch: Batch,
    next_sentence: bool,
    dropout: DropoutFunction = no_dropout,
    precision: str | None = None,
) -> dict[str, tf.Tensor]:
    """Forward pass and the sums from which losses and accuracies are made.

    Args:
        batch: `input_ids`, `segment_ids` int32 [B, S]; `masked_lm_positions`, `masked_lm_ids`
            int32 [B, P]; `masked_lm_weights` float32 [B, P]; `example_weights` float32 [B], 0 for
            rows that only fill up a batch. If each row is one example, `input_mask` int32 [B, S]
            and `next_sentence_labels` int32 [B, 1]. If rows are packed, `position_ids`,
            `example_ids` int32 [B, S]; `cls_positions`, `next_sentence_labels` int32 [B, K];
            `next_sentence_weights` float32 [B, K], 0 where there is no example.
        next_sentence: whether the NSP head is trained.
        precision: see `lib.model.bert.encode`.

    Returns:
        float32 scalars: `masked_lm_loss`, `masked_lm_weight`, `masked_lm_hits`, and, with
        `next_sentence`, `next_sentence_loss`, `next_sentence_weight`, `next_sentence_hits`. An
        example adds to each what it adds in a row of its own.
    """
    hidden = encode(
        weights,
        config,
        batch["input_ids"],
        batch["example_ids" if "example_ids" in batch else "input_mask"],
        batch["segment_ids"],
        dropout,
        batch.get("position_ids"),
        precision,
    )
    row_weight = batch["example_weights"][:, None]
    sums = _sums(
        "masked_lm",
        masked_lm_logits(weights, config, hidden, batch["masked_lm_positions"]),
        batch["masked_lm_ids"],
        batch["masked_lm_weights"] * row_weight,
    )
    if next_sentence:
        sums |= _sums(
            "next_sentence",
            next_sentence_logits(weights, hidden, batch.get("cls_positions")),
            batch["next_sentence_labels"],
            batch.get("next_sentence_weights", 1.0) * row_weight,
        )
    return sums


def loss_weights(batch: Batch, next_sentence: bool) -> tf.Tensor:
    """What the sums of a batch are to be divided by: those of all its parts together.

    Returns:
        float32 [2]: masked tokens and, with `next_sentence`, sentence pairs, which may be none.
    """
    row_weight = batch["example_weights"][:, None]
    masked = tf.reduce_sum(batch["masked_lm_weights"] * row_weight)
    pairs = tf.constant(0.0)
    if next_sentence:
        pairs = tf.reduce_sum(batch.get("next_sentence_weights", 1.0) * row_weight)
    return tf.stack([masked, pairs])


def _sums(
    name: str, logits: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Logits [B, N, classes], labels and weight [B, N] -> weighted sums of loss and hits."""
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    hits = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), labels), tf.float32)
    return {
        f"{name}_loss": tf.reduce_sum(loss * weight),
        f"{name}_weight": tf.reduce_sum(weight),
        f"{name}_hits": tf.reduce_sum(hits * weight),
    }


def summarise(sums: Mapping[str, float]) -> dict[str, float]:
    """The sums of `loss_sums` over any number of batches -> means, by the names of metrics."""
    means = {
        "mlm_loss": sums["masked_lm_loss"] / max(sums["masked_lm_weight"], 1.0),
        "mlm_accuracy": sums["masked_lm_hits"] / max(sums["masked_lm_weight"], 1.0),
    }
    if "next_sentence_loss" in sums:
        weight = max(sums["next_sentence_weight"], 1.0)
        means["nsp_loss"] = sums["next_sentence_loss"] / weight
        means["nsp_accuracy"] = sums["next_sentence_hits"] / weight
    return means
