"""Fine-tuning as Devlin et al. (2019) do it: one new layer, all weights trained, few epochs.

A text's class is told from its pooled [CLS], a word's tag from its first piece.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lib.model.bert import encode
from lib.model.clipping import clip_by_global_norm
from lib.model.config import BertConfig
from lib.model.fused import cross_entropy
from lib.model.layers import NO_DROPOUT, Dropout, Weights, dense
from lib.model.optimizers import AdamW
from lib.model.parameters import Parameter, parameter_table
from lib.model.schedules import schedule
from lib.params import ProbeTask
from lib.probe.sequences import Row, batch_count, padded, shuffled_batches
from lib.run import random, tf
from lib.run.errors import UserError

HEAD = "classifier"
# As Devlin et al., but with Adam's bias correction, without which small sets fail now and then
# (Mosbach et al., 2021).
_WARMUP_SHARE, _WEIGHT_DECAY, _BETA1, _BETA2, _EPSILON = 0.1, 0.01, 0.9, 0.999, 1e-6
_CLIP_NORM = 1.0
_PREDICTED_ROWS = 64


def class_logits(
    weights: Weights,
    config: BertConfig,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    every_token: bool,
    dropout: Dropout = NO_DROPOUT,
) -> tf.Tensor:
    """What transformers' BertForSequenceClassification or BertForTokenClassification computes.

    Args:
        weights: by the names of the parameter table, and `classifier/kernel` [H, classes],
            `classifier/bias` [classes].
        input_ids, input_mask: int32 Tensors of shape [B, S].
        every_token: logits of each token, else of the row, from its pooled [CLS].

    Returns:
        Tensor of the weights' type, of shape [B, S, classes], or [B, 1, classes].
    """
    columns = None if every_token else tf.zeros_like(input_ids[:, :1])
    segments = tf.zeros_like(input_ids)
    hidden = encode(weights, config, input_ids, input_mask, segments, dropout, columns=columns)
    flat = tf.reshape(hidden, [-1, config.hidden_size])
    if not every_token:
        flat = tf.tanh(dense(weights, "bert/pooler/dense", flat))
    logits = dense(weights, HEAD, dropout(flat, config.hidden_dropout_prob))
    return tf.reshape(logits, [-1, hidden.shape[1], logits.shape[-1]])


class FineTuner:
    """One shape of model and one set of classes; trained from many starts, compiled once."""

    def __init__(
        self, config: BertConfig, task: ProbeTask, classes: Sequence[str], pad_id: int
    ) -> None:
        self._config, self._task, self._names, self._pad_id = config, task, classes, pad_id
        self._classes = {name: number for number, name in enumerate(classes)}
        self._every_token = task.kind == "tagging"
        encoder = [
            parameter
            for parameter in parameter_table(config)
            if parameter.name.startswith("bert/")
            and not (self._every_token and parameter.name.startswith("bert/pooler"))
        ]
        self._head = [
            Parameter(f"{HEAD}/kernel", (config.hidden_size, len(classes)), "normal"),
            Parameter(f"{HEAD}/bias", (len(classes),), "zeros"),
        ]
        table = [*encoder, *self._head]
        self._variables = {
            parameter.name: tf.Variable(tf.zeros(parameter.shape)) for parameter in table
        }
        self._optimizer = AdamW(table, _WEIGHT_DECAY, _BETA1, _BETA2, _EPSILON)
        self._seed = tf.Variable([0, 0], trainable=False, dtype=tf.int32)

    def train(
        self,
        weights: Mapping[str, np.ndarray],
        rows: Sequence[Row],
        seed: int,
        advance: Callable[[], None],
    ) -> float:
        """One run from the start.

        Args:
            weights: float32 arrays of the model to start from, by the names of the table.
            seed: of the head's first weights, the order of the rows, and dropout.
            advance: called after every step.

        Returns:
            The mean loss of the last epoch, in nats an answer.

        Raises:
            UserError: the loss is not a number.
        """
        self._start(weights, seed)
        per_epoch = batch_count(len(rows), self._task.batch_size)
        steps = per_epoch * self._task.epochs
        rate = schedule(
            "polynomial", self._task.learning_rate, 0.0, round(_WARMUP_SHARE * steps), steps
        )
        number, loss, answers = 0, 0.0, 0.0
        for epoch in range(self._task.epochs):
            loss, answers = 0.0, 0.0
            for batch in shuffled_batches(rows, self._task.batch_size, seed, epoch):
                number += 1
                of_batch, weight = self._step(
                    self._tensors(batch, self._task.batch_size),
                    tf.constant(number),
                    tf.constant(rate(number)),
                )
                loss, answers = loss + float(of_batch), answers + float(weight)
                advance()
            if not np.isfinite(loss):
                raise UserError(
                    f"the loss of fine-tuning is not a number in epoch {epoch + 1}; lower "
                    "learning_rate of the task"
                )
        return loss / max(answers, 1.0)

    def answers(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """The likeliest label at each column of each row, in the order of the rows."""
        found: list[tuple[str, ...]] = [()] * len(rows)
        order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids))
        for start in range(0, len(order), _PREDICTED_ROWS):
            numbers = order[start : start + _PREDICTED_ROWS]
            batch = self._tensors([rows[number] for number in numbers], _PREDICTED_ROWS)
            best = self._best(batch).numpy()
            for place, number in enumerate(numbers):
                chosen = best[place, rows[number].columns]
                found[number] = tuple(self._names[index] for index in chosen)
        return found

    def _start(self, weights: Mapping[str, np.ndarray], seed: int) -> None:
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

    def _tensors(self, rows: Sequence[Row], batch_size: int) -> dict[str, tf.Tensor]:
        arrays = padded(
            rows,
            batch_size,
            self._task.max_seq_length,
            self._pad_id,
            self._classes,
            self._every_token,
        )
        return {name: tf.constant(array) for name, array in arrays.items()}

    def _logits(self, batch: Mapping[str, tf.Tensor], dropout: Dropout) -> tf.Tensor:
        return class_logits(
            self._variables,
            self._config,
            batch["input_ids"],
            batch["input_mask"],
            self._every_token,
            dropout,
        )

    # Traced once for each of the few shapes of a batch.
    @tf.function(autograph=False)
    def _step(
        self, batch: Mapping[str, tf.Tensor], number: tf.Tensor, learning_rate: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """float32 scalars: the sum of the losses of the batch's answers, and how many they are."""
        seed = tf.random.experimental.stateless_fold_in(self._seed.read_value(), number)
        with tf.GradientTape() as tape:
            logits = self._logits(batch, Dropout(seed))
            flat = tf.reshape(logits, [-1, len(self._names)])
            of_label, _, _ = cross_entropy(flat, tf.reshape(batch["labels"], [-1]))
            total = tf.reduce_sum(of_label * tf.reshape(batch["weights"], [-1]))
            weight = tf.reduce_sum(batch["weights"])
            loss = total / tf.maximum(weight, 1.0)
        gradients = tape.gradient(loss, self._variables)
        clipped, _ = clip_by_global_norm(list(gradients.values()), _CLIP_NORM)
        by_name = dict(zip(gradients, clipped, strict=True))
        self._optimizer.apply(self._variables, by_name, learning_rate, number)
        return total, weight

    @tf.function(autograph=False)
    def _best(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """int32 [B, S], or [B, 1]."""
        return tf.argmax(self._logits(batch, NO_DROPOUT), -1, tf.int32)
