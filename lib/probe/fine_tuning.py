"""Fine-tuning as in Devlin et al. (2019): one new layer, all weights trained, few epochs.

A text's class is predicted from its [CLS] or from the mean of its tokens, a word's tag from its
first token.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np

from lib.model.clipping import clip_by_global_norm
from lib.model.encoder_config import EncoderConfig
from lib.model.encoders import encoder
from lib.model.fused import cross_entropy
from lib.model.layers import NO_DROPOUT, Batch, Dropout, Weights, dense
from lib.model.optimizers import AdamW
from lib.model.parameters import Parameter
from lib.model.schedules import schedule
from lib.params import ProbeTask
from lib.probe.sequences import LabelledSequence, batch_count, pad_batch, shuffled_batches
from lib.run import random, tf
from lib.run.errors import UserError

HEAD = "classifier"
# As in Devlin et al., but with Adam's bias correction, without which fine-tuning on small sets
# occasionally fails (Mosbach et al., 2021).
_WARMUP_RATIO, _WEIGHT_DECAY, _BETA1, _BETA2, _EPSILON = 0.1, 0.01, 0.9, 0.999, 1e-6
_CLIP_NORM = 1.0
_PREDICTION_BATCH_SIZE = 64


def class_logits(
    weights: Weights,
    config: EncoderConfig,
    batch: Batch,
    per_token: bool,
    pooling: str = "cls",
    dropout: Dropout = NO_DROPOUT,
) -> tf.Tensor:
    """Logits as computed by transformers' classes for an architecture, such as
    BertForSequenceClassification and ModernBertForTokenClassification.

    Args:
        weights: by the names of the parameter table, plus `classifier/kernel` [H, classes] and
            `classifier/bias` [classes].
        batch: `input_ids`, `input_mask`: int32 [B, S].
        per_token: logits [B, S, classes] of every token; otherwise [B, 1, classes].
        pooling: what represents a sequence: "cls", its first token, or "mean" of all its tokens.
    """
    averaged = not per_token and pooling == "mean"
    segments = tf.zeros_like(batch["input_ids"])
    positions = None if per_token or averaged else segments[:, :1]
    model, batch = encoder(config), {**batch, "segment_ids": segments}
    # [B, P, H]; P is 1 if only the first token is needed, otherwise S
    hidden = model.encode(weights, config, batch, dropout, positions=positions)
    if averaged:
        mask = tf.cast(batch["input_mask"], hidden.dtype)[:, :, None]  # [B, S, 1]
        total = tf.reduce_sum(hidden * mask, 1, keepdims=True)  # [B, S, H] -> [B, 1, H]
        # A sequence that only fills up the batch has no tokens.
        hidden = total / tf.maximum(tf.reduce_sum(mask, 1, keepdims=True), 1.0)
    flat = tf.reshape(hidden, [-1, config.hidden_size])  # [B, P, H] -> [B * P, H]
    flat = model.classification_states(weights, config, flat, per_token)
    logits = dense(weights, HEAD, dropout(flat, config.classifier_dropout))
    # [B * P, classes] -> [B, P, classes]
    return tf.reshape(logits, [-1, hidden.shape[1], logits.shape[-1]])


class FineTuner:
    """Fine-tunes models of one config on one set of classes; compiled once for all of them."""

    def __init__(
        self, config: EncoderConfig, task: ProbeTask, classes: Sequence[str], pad_id: int
    ) -> None:
        self._config, self._task, self._names, self._pad_id = config, task, classes, pad_id
        self._classes = {name: index for index, name in enumerate(classes)}
        self._per_token = task.kind == "tagging"
        used = config.classifier_parts(self._per_token)
        model = [parameter for parameter in config.parameter_table() if parameter.part in used]
        self._head = [
            Parameter(f"{HEAD}/kernel", (config.hidden_size, len(classes)), "normal"),
            Parameter(f"{HEAD}/bias", (len(classes),), "zeros"),
        ]
        table = [*model, *self._head]
        self._variables = {
            parameter.name: tf.Variable(tf.zeros(parameter.shape)) for parameter in table
        }
        self._optimizer = AdamW(table, _WEIGHT_DECAY, _BETA1, _BETA2, _EPSILON)
        self._seed = tf.Variable([0, 0], trainable=False, dtype=tf.int32)

    def train(
        self,
        weights: Mapping[str, np.ndarray],
        sequences: Sequence[LabelledSequence],
        seed: int,
        on_step: Callable[[], None],
        learning_rate: float | None = None,
    ) -> float:
        """Runs one fine-tuning from the given weights; nothing of an earlier run is kept.

        Args:
            weights: float32 arrays of the pretrained model, by the names of the parameter table.
            seed: determines the initial weights of the head, the order of the sequences, and
                dropout.
            on_step: called after every step.
            learning_rate: the peak; None for the task's.

        Returns:
            The mean loss of the last epoch, in nats per label; a UserError if it is not finite.
        """
        self._initialize(weights, seed)
        per_epoch = batch_count(len(sequences), self._task.batch_size)
        steps = per_epoch * self._task.epochs
        peak = learning_rate or self._task.learning_rate
        rate = schedule("polynomial", peak, 0.0, round(_WARMUP_RATIO * steps), steps)
        step, loss, labels = 0, 0.0, 0.0
        for epoch in range(self._task.epochs):
            loss, labels = 0.0, 0.0
            for batch in shuffled_batches(sequences, self._task.batch_size, seed, epoch):
                step += 1
                batch_loss, batch_labels = self._step(
                    self._tensors(batch, self._task.batch_size),
                    tf.constant(step),
                    tf.constant(rate(step)),
                )
                loss, labels = loss + float(batch_loss), labels + float(batch_labels)
                on_step()
            if not np.isfinite(loss):
                raise UserError(
                    f"the fine-tuning loss is not a number in epoch {epoch + 1}; lower the task's "
                    "learning_rate"
                )
        return loss / max(labels, 1.0)

    def predict(self, sequences: Sequence[LabelledSequence]) -> list[tuple[str, ...]]:
        """The most likely label at each labelled position, in the order of the sequences."""
        predictions: list[tuple[str, ...]] = [()] * len(sequences)
        by_length = sorted(range(len(sequences)), key=lambda index: len(sequences[index].ids))
        for start in range(0, len(by_length), _PREDICTION_BATCH_SIZE):
            indices = by_length[start : start + _PREDICTION_BATCH_SIZE]
            batch = [sequences[index] for index in indices]
            classes = self._predict(self._tensors(batch, _PREDICTION_BATCH_SIZE)).numpy()
            for index, sequence, own in zip(indices, batch, classes, strict=False):
                predictions[index] = tuple(self._names[x] for x in own[sequence.positions])
        return predictions

    def predict_examples(
        self, examples: Sequence[Sequence[LabelledSequence]]
    ) -> list[tuple[str, ...]]:
        """The most likely labels of each example, which may have several sequences."""
        predictions = iter(self.predict(list(chain(*examples))))
        return [tuple(chain(*(next(predictions) for _ in each))) for each in examples]

    def _initialize(self, weights: Mapping[str, np.ndarray], seed: int) -> None:
        draw = random.generator(seed, "probe head")
        kernel, bias = self._head
        values = {
            **weights,
            kernel.name: draw.normal(0.0, self._config.initializer_range, kernel.shape),
            bias.name: np.zeros(bias.shape),
        }
        for name, variable in self._variables.items():
            variable.assign(values[name].astype(np.float32))
        for slot in self._optimizer.slots.values():
            slot.assign(tf.zeros_like(slot))
        key = random.key(seed, "probe dropout")
        self._seed.assign([key >> shift & 0x7FFFFFFF for shift in (0, 32)])

    def _tensors(
        self, sequences: Sequence[LabelledSequence], batch_size: int
    ) -> dict[str, tf.Tensor]:
        arrays = pad_batch(
            sequences,
            batch_size,
            self._task.max_seq_length,
            self._pad_id,
            self._classes,
            self._per_token,
        )
        return {name: tf.constant(array) for name, array in arrays.items()}

    def _logits(self, batch: Batch, dropout: Dropout) -> tf.Tensor:
        pooling = self._task.pooling
        return class_logits(self._variables, self._config, batch, self._per_token, pooling, dropout)

    # Traced once per shape of a batch; there are only a few.
    @tf.function(autograph=False)
    def _step(
        self, batch: Batch, step: tf.Tensor, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Two float32 scalars: the sum of the batch's losses, and its number of labels."""
        seed = tf.random.experimental.stateless_fold_in(self._seed.read_value(), step)
        with tf.GradientTape() as tape:
            logits = self._logits(batch, Dropout(seed))
            flat = tf.reshape(logits, [-1, len(self._names)])  # [B, P, classes] -> [B * P, classes]
            labels = tf.reshape(batch["labels"], [-1])  # [B, P] -> [B * P]
            losses, _, _ = cross_entropy(flat, labels)  # [B * P]
            total = tf.reduce_sum(losses * tf.reshape(batch["weights"], [-1]))
            weight = tf.reduce_sum(batch["weights"])
            loss = total / tf.maximum(weight, 1.0)
        gradients = tape.gradient(loss, self._variables)
        clipped, _ = clip_by_global_norm(list(gradients.values()), _CLIP_NORM)
        by_name = dict(zip(gradients, clipped, strict=True))
        self._optimizer.apply(self._variables, by_name, learning_rate, step)
        return total, weight

    @tf.function(autograph=False)
    def _predict(self, batch: Batch) -> tf.Tensor:
        """The most likely class at each position: int32 [B, S] per token, otherwise [B, 1]."""
        return tf.argmax(self._logits(batch, NO_DROPOUT), -1, tf.int32)
