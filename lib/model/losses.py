"""Pretraining losses: unnormalised sums over a batch; the caller normalises.

Shapes: B sequences in the batch, S tokens per sequence, V vocabulary size, K examples per sequence
(1 unless packed), P masked positions per sequence.
"""

from collections.abc import Mapping

from lib.model.bert import next_sentence_logits
from lib.model.encoder_config import EncoderConfig
from lib.model.encoders import encoder
from lib.model.fused import cross_entropy
from lib.model.layers import NO_DROPOUT, Batch, Dropout, Weights
from lib.run import tf


def loss_sums(
    weights: Weights,
    config: EncoderConfig,
    batch: Batch,
    next_sentence: bool,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    label_smoothing: float = 0.0,
    gradient_checkpointing: bool = False,
) -> dict[str, tf.Tensor]:
    """Forward pass, and the sums from which losses and accuracies are computed.

    An example contributes the same to each sum whether it is packed or has a sequence of its own.

    Args:
        batch: `input_ids`, `segment_ids` int32 [B, S]; `masked_lm_positions`, `masked_lm_ids`
            int32 [B, P]; `masked_lm_weights` float32 [B, P]; `example_weights` float32 [B], 0 for
            sequences that only fill up a batch. Without packing also `input_mask` int32 [B, S] and
            `next_sentence_labels` int32 [B, 1]. With packing also `position_ids`, `example_ids`
            int32 [B, S]; `cls_positions`, `next_sentence_labels` int32 [B, K];
            `next_sentence_weights` float32 [B, K], 0 where there is no example.
        next_sentence: whether the NSP head is trained.
        precision, gradient_checkpointing: see `lib.model.bert.encode`.
        label_smoothing: fraction s of the label's probability that is spread evenly over the
            other tokens, in `masked_lm_objective`. With s' = s V / (V - 1), the loss of a masked
            token is -(1 - s') log p(label) - s' mean log p, as in NeMo's
            SmoothedCrossEntropyLoss.

    Returns:
        float32 scalars: `masked_lm_objective`, which training minimises (equal to the loss without
        smoothing), `masked_lm_loss`, `masked_lm_weight`, `masked_lm_correct`, and, with
        `next_sentence`, `next_sentence_loss`, `next_sentence_weight`, `next_sentence_correct`.
    """
    mlm_logits, nsp_logits = head_logits(
        weights, config, batch, next_sentence, dropout, precision, gradient_checkpointing
    )
    sequence_weight = batch["example_weights"][:, None]  # [B, 1]
    label_loss, mean_loss, correct, weight = _cross_entropy(
        mlm_logits, batch["masked_lm_ids"], batch["masked_lm_weights"] * sequence_weight
    )
    smoothing = label_smoothing * config.vocab_size / (config.vocab_size - 1)
    objective = (1.0 - smoothing) * label_loss + smoothing * mean_loss if smoothing else label_loss
    sums = {
        "masked_lm_objective": tf.reduce_sum(objective * weight),
        "masked_lm_loss": tf.reduce_sum(label_loss * weight),
        "masked_lm_weight": tf.reduce_sum(weight),
        "masked_lm_correct": tf.reduce_sum(correct * weight),
    }
    if nsp_logits is not None:
        label_loss, _, correct, weight = _cross_entropy(
            nsp_logits,
            batch["next_sentence_labels"],
            batch.get("next_sentence_weights", 1.0) * sequence_weight,
        )
        sums |= {
            "next_sentence_loss": tf.reduce_sum(label_loss * weight),
            "next_sentence_weight": tf.reduce_sum(weight),
            "next_sentence_correct": tf.reduce_sum(correct * weight),
        }
    return sums


def head_logits(
    weights: Weights,
    config: EncoderConfig,
    batch: Batch,
    next_sentence: bool,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Logits of both heads; arguments as for `loss_sums`.

    Returns:
        MLM logits [B, P, V] at the masked positions, and with `next_sentence` NSP logits [B, K, 2].
    """
    model = encoder(config)
    positions = batch["masked_lm_positions"]  # [B, P]
    predictions = positions.shape[1]
    if next_sentence:
        # The [CLS] of an unpacked sequence is its first token.
        cls_positions = batch.get("cls_positions", tf.zeros_like(positions[:, :1]))
        positions = tf.concat([positions, cls_positions], 1)  # [B, P + K]
    hidden = model.encode(
        weights, config, batch, dropout, precision, gradient_checkpointing, positions
    )
    mlm_logits = model.masked_lm_logits(weights, config, hidden[:, :predictions])
    if not next_sentence:
        return mlm_logits, None
    return mlm_logits, next_sentence_logits(weights, hidden[:, predictions:])


def loss_normalisers(batch: Batch, next_sentence: bool) -> tf.Tensor:
    """Total weights by which the loss sums of a batch are divided, over all parts of the batch.

    Returns:
        float32 [2]: masked tokens; sentence pairs, 0 without `next_sentence`.
    """
    sequence_weight = batch["example_weights"][:, None]
    masked = tf.reduce_sum(batch["masked_lm_weights"] * sequence_weight)
    pairs = tf.constant(0.0)
    if next_sentence:
        pairs = tf.reduce_sum(batch.get("next_sentence_weights", 1.0) * sequence_weight)
    return tf.stack([masked, pairs])


def _cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """`cross_entropy` of [B, n, classes] and labels [B, n], and the weights: each [B * n]."""
    flat = tf.reshape(logits, [-1, logits.shape[-1]])  # [B * n, classes]
    return *cross_entropy(flat, tf.reshape(labels, [-1])), tf.reshape(weight, [-1])


def mean_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Losses and accuracies from `loss_sums`, added up over any number of batches."""
    means = {
        "mlm_loss": sums["masked_lm_loss"] / max(sums["masked_lm_weight"], 1.0),
        "mlm_accuracy": sums["masked_lm_correct"] / max(sums["masked_lm_weight"], 1.0),
    }
    if "next_sentence_loss" in sums:
        weight = max(sums["next_sentence_weight"], 1.0)
        means["nsp_loss"] = sums["next_sentence_loss"] / weight
        means["nsp_accuracy"] = sums["next_sentence_correct"] / weight
    return means
