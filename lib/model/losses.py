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
) -> dict[str, tf.Tensor]:
    """Forward pass and the sums from which losses and accuracies are made.

    Args:
        batch: `input_ids`, `input_mask`, `segment_ids` int32 [B, S]; `masked_lm_positions`,
            `masked_lm_ids` int32 [B, P]; `masked_lm_weights` float32 [B, P];
            `next_sentence_labels` int32 [B, 1]; `example_weights` float32 [B], 0 for rows that
            only fill up a batch.
        next_sentence: whether the NSP head is trained.

    Returns:
        float32 scalars: `masked_lm_loss`, `masked_lm_weight`, `masked_lm_hits`, and, with
        `next_sentence`, `next_sentence_loss`, `next_sentence_weight`, `next_sentence_hits`.
    """
    hidden = encode(
        weights, config, batch["input_ids"], batch["input_mask"], batch["segment_ids"], dropout
    )
    logits = tf.cast(
        masked_lm_logits(weights, config, hidden, batch["masked_lm_positions"]), tf.float32
    )
    labels = batch["masked_lm_ids"]
    weight = batch["masked_lm_weights"] * batch["example_weights"][:, None]
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    hits = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), labels), tf.float32)
    sums = {
        "masked_lm_loss": tf.reduce_sum(loss * weight),
        "masked_lm_weight": tf.reduce_sum(weight),
        "masked_lm_hits": tf.reduce_sum(hits * weight),
    }
    if next_sentence:
        logits = tf.cast(next_sentence_logits(weights, hidden), tf.float32)
        labels = batch["next_sentence_labels"][:, 0]
        weight = batch["example_weights"]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        hits = tf.cast(tf.equal(tf.argmax(logits, -1, output_type=tf.int32), labels), tf.float32)
        sums |= {
            "next_sentence_loss": tf.reduce_sum(loss * weight),
            "next_sentence_weight": tf.reduce_sum(weight),
            "next_sentence_hits": tf.reduce_sum(hits * weight),
        }
    return sums
