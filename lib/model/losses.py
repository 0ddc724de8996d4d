"""Sums of losses and hits over a batch of pretraining rows; who divides them decides the mean."""

from collections.abc import Mapping

from lib.model.bert import encode, masked_lm_logits, next_sentence_logits
from lib.model.config import BertConfig
from lib.model.fused import cross_entropy
from lib.model.layers import NO_DROPOUT, Dropout, Weights
from lib.run import tf

Batch = Mapping[str, tf.Tensor]


def loss_sums(
    weights: Weights,
    config: BertConfig,
    batch: Batch,
    next_sentence: bool,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    label_smoothing: float = 0.0,
    gradient_checkpointing: bool = False,
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
        precision, gradient_checkpointing: see `lib.model.bert.encode`.
        label_smoothing: share of certainty that is taken from the label and given to all other
            pieces alike, in `masked_lm_objective`. With s' = s V / (V - 1), an example's part of
            it is -(1 - s') log p(label) - s' mean log p, as NeMo's SmoothedCrossEntropyLoss.

    Returns:
        float32 scalars: `masked_lm_objective`, which is to be made small (the loss itself without
        smoothing), `masked_lm_loss`, `masked_lm_weight`, `masked_lm_hits`, and, with
        `next_sentence`, `next_sentence_loss`, `next_sentence_weight`, `next_sentence_hits`. An
        example adds to each what it adds in a row of its own.
    """
    of_pieces, of_pairs = head_logits(
        weights, config, batch, next_sentence, dropout, precision, gradient_checkpointing
    )
    row_weight = batch["example_weights"][:, None]
    of_label, of_mean, hits, weight = _of_each(
        of_pieces,
        batch["masked_lm_ids"],
        batch["masked_lm_weights"] * row_weight,
    )
    smoothing = label_smoothing * config.vocab_size / (config.vocab_size - 1)
    objective = (1.0 - smoothing) * of_label + smoothing * of_mean if smoothing else of_label
    sums = {
        "masked_lm_objective": tf.reduce_sum(objective * weight),
        "masked_lm_loss": tf.reduce_sum(of_label * weight),
        "masked_lm_weight": tf.reduce_sum(weight),
        "masked_lm_hits": tf.reduce_sum(hits * weight),
    }
    if of_pairs is not None:
        of_label, _, hits, weight = _of_each(
            of_pairs,
            batch["next_sentence_labels"],
            batch.get("next_sentence_weights", 1.0) * row_weight,
        )
        sums |= {
            "next_sentence_loss": tf.reduce_sum(of_label * weight),
            "next_sentence_weight": tf.reduce_sum(weight),
            "next_sentence_hits": tf.reduce_sum(hits * weight),
        }
    return sums


def head_logits(
    weights: Weights,
    config: BertConfig,
    batch: Batch,
    next_sentence: bool,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """What both heads say where they are asked; arguments as for `loss_sums`.

    Returns:
        Logits [B, P, V] of the masked positions, and with `next_sentence` [B, K, 2] of the pairs.
    """
    columns = batch["masked_lm_positions"]
    predictions = columns.shape[1]
    if next_sentence:
        # A row of one example begins with its [CLS].
        first = batch.get("cls_positions", tf.zeros_like(columns[:, :1]))
        columns = tf.concat([columns, first], 1)
    hidden = encode(
        weights,
        config,
        batch["input_ids"],
        batch["example_ids" if "example_ids" in batch else "input_mask"],
        batch["segment_ids"],
        dropout,
        batch.get("position_ids"),
        precision,
        gradient_checkpointing,
        columns,
    )
    of_pieces = masked_lm_logits(weights, config, hidden[:, :predictions])
    if not next_sentence:
        return of_pieces, None
    return of_pieces, next_sentence_logits(weights, hidden[:, predictions:])


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


def _of_each(
    logits: tf.Tensor, labels: tf.Tensor, weight: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Logits [B, N, classes], labels and weight [B, N] -> `cross_entropy` and weight, [B * N]."""
    flat = tf.reshape(logits, [-1, logits.shape[-1]])
    return *cross_entropy(flat, tf.reshape(labels, [-1])), tf.reshape(weight, [-1])


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
