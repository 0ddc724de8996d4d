"""The optimizer step: microbatches, replicas, one all-reduce, clipping, update."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from lib.model import optimizers
from lib.model.clipping import clip_by_global_norm
from lib.model.config import BertConfig
from lib.model.layers import Dropout
from lib.model.losses import Batch, loss_sums, loss_weights
from lib.model.parameters import parameter_table
from lib.params import Pretrain
from lib.run import random
from lib.run.errors import UserError

# Half of float16's largest exponent; doubled after so many steps without an overflow, halved after
# each one (Micikevicius et al., 2018).
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000
_LOWEST_SCALE, _HIGHEST_SCALE = 1.0, 2.0**24


class Trainer:
    """One model, its optimizer, and the compiled step that moves them.

    The loss of a step is that of its whole global batch: the sum over all masked tokens by their
    number, and the same of sentence pairs, however the rows are divided into microbatches and
    among replicas. So a layout changes nothing but the order of floating-point sums.
    """

    def __init__(
        self,
        config: BertConfig,
        settings: Pretrain,
        next_sentence: bool,
        weights: Mapping[str, np.ndarray],
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        """
        Raises:
            UserError: the batch cannot be divided among replicas and microbatches.
        """
        self._config, self._settings, self._next_sentence = config, settings, next_sentence
        self.strategy = strategy or tf.distribute.get_strategy()
        self.microbatches = _microbatches(
            settings.batch_size, settings.microbatch_size, self.strategy.num_replicas_in_sync
        )
        self._table = parameter_table(config)
        self._names = [parameter.name for parameter in self._table]
        with self.strategy.scope():
            self.variables = {name: tf.Variable(weights[name]) for name in self._names}
            self.optimizer = optimizers.create(
                settings.optimizer,
                self._table,
                settings.weight_decay,
                settings.adam_beta1,
                settings.adam_beta2,
                settings.adam_epsilon,
                settings.bias_correction,
            )
            # float32 scalars: the scale of the loss, and steps since it changed.
            self._scaling = {
                "scale": tf.Variable(_FIRST_SCALE if settings.precision == "float16" else 1.0),
                "since": tf.Variable(0.0),
            }
        self._dropout_seed = tf.constant(
            [random.key(settings.seed, "dropout") >> shift & 0x7FFFFFFF for shift in (0, 32)]
        )
        # Only this part: XLA cannot touch the variables of a second replica on one machine.
        self._compiled = tf.function(self._gradients, jit_compile=settings.xla)

    @tf.function
    def step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One optimizer step on one global batch.

        Args:
            batch: what `lib.train.strategy.distributed` gives, or tensors when there is one
                replica.
            number: int32 scalar, 1 for the first step of the run.
            learning_rate: float32 scalar.

        Returns:
            float32 scalars: the sums of `loss_sums` over the global batch, its `tokens` without
            padding, the gradient's global norm before clipping, and `skipped`, 1 if float16
            overflowed and nothing moved.
        """
        results = self.strategy.run(self._replica_step, args=(batch, number, learning_rate))
        return {
            name: self.strategy.experimental_local_results(value)[0]
            for name, value in results.items()
        }

    def _replica_step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        totals = loss_weights(batch, self._next_sentence)
        if context.num_replicas_in_sync > 1:
            totals = context.all_reduce(tf.distribute.ReduceOp.SUM, totals)
        seed = tf.random.experimental.stateless_fold_in(self._dropout_seed, number)
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * self.microbatches
        weights = [self.variables[name].read_value() for name in self._names]
        scale = self._scaling["scale"].read_value()

        def microbatch(index: int | tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
            rows = next(iter(batch.values())).shape[0] // self.microbatches
            part = {
                name: tf.ensure_shape(
                    values[index * rows : (index + 1) * rows], [rows, *values.shape[1:]]
                )
                for name, values in batch.items()
            }
            own = tf.random.experimental.stateless_fold_in(seed, first + index)
            return self._compiled(weights, part, totals, own, scale)

        gradients, sums = microbatch(0)
        if self.microbatches > 1:
            for index in tf.range(1, self.microbatches):
                more, more_sums = microbatch(index)
                gradients = [one + two for one, two in zip(gradients, more, strict=True)]
                sums = {name: value + more_sums[name] for name, value in sums.items()}
        if context.num_replicas_in_sync > 1:
            # Together with the sums: one all-reduce a step.
            names = list(sums)
            reduced = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [*gradients, *(sums[name] for name in names)]
            )
            gradients = reduced[: len(gradients)]
            sums = dict(zip(names, reduced[len(gradients) :], strict=True))
        gradients = [gradient / scale for gradient in gradients]
        clipped, norm = clip_by_global_norm(gradients, self._settings.clip_norm)
        by_name = dict(zip(self._names, clipped, strict=True))
        skipped = tf.constant(0.0)
        if self._settings.precision == "float16":
            finite = tf.math.is_finite(norm)
            if finite:
                self.optimizer.apply(self.variables, by_name, learning_rate, number)
            skipped = 1.0 - tf.cast(finite, tf.float32)
            self._rescale(finite)
        else:
            self.optimizer.apply(self.variables, by_name, learning_rate, number)
        return {**sums, "gradient_norm": norm, "skipped": skipped}

    def _gradients(
        self,
        weights: Sequence[tf.Tensor],
        batch: Batch,
        totals: tf.Tensor,
        seed: tf.Tensor,
        scale: tf.Tensor,
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """A microbatch's part of the global loss's gradient (times `scale`), and its sums."""
        with tf.GradientTape() as tape:
            tape.watch(weights)
            sums = loss_sums(
                dict(zip(self._names, weights, strict=True)),
                self._config,
                batch,
                self._next_sentence,
                Dropout(seed),
                self._settings.precision,
            )
            divisors = tf.maximum(totals, 1.0)
            loss = sums["masked_lm_loss"] / divisors[0]
            if self._next_sentence:
                loss += sums["next_sentence_loss"] / divisors[1]
            loss *= scale
        # Without padding: an example's number, or 1 where each row is one.
        filled = batch["example_ids" if "example_ids" in batch else "input_mask"]
        sums["tokens"] = tf.reduce_sum(tf.cast(filled > 0, tf.float32))
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradients, sums

    def _rescale(self, finite: tf.Tensor) -> None:
        scale, since = self._scaling["scale"], self._scaling["since"]
        grown = since.read_value() + 1.0
        double = tf.logical_and(finite, grown >= _STEPS_TO_DOUBLE)
        factor = tf.where(finite, tf.where(double, 2.0, 1.0), 0.5)
        new = tf.clip_by_value(scale.read_value() * factor, _LOWEST_SCALE, _HIGHEST_SCALE)
        since_new = tf.where(tf.logical_and(finite, tf.logical_not(double)), grown, 0.0)
        # Through the handle, as the optimizers do: the same value in every replica.
        tf.raw_ops.AssignVariableOp(resource=scale.handle, value=new)
        tf.raw_ops.AssignVariableOp(resource=since.handle, value=since_new)

    @tf.function
    def evaluation_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The sums of `loss_sums` without dropout, on this process's first replica."""
        return loss_sums(self.variables, self._config, batch, self._next_sentence)

    def weights(self) -> dict[str, np.ndarray]:
        """The model's parameters as float32 arrays."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, optimizer slots, and the scale of the loss."""
        scaling = {f"scaling/{name}": value.numpy() for name, value in self._scaling.items()}
        return {**self.weights(), **self.optimizer.state(), **scaling}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes what `state` gave."""
        for name, variable in self.variables.items():
            variable.assign(state[name])
        for name, variable in self._scaling.items():
            variable.assign(state[f"scaling/{name}"])
        self.optimizer.restore(state)


def _microbatches(batch_size: int, microbatch_size: int | None, replicas: int) -> int:
    """Microbatches of each replica in a step."""
    rows, rest = divmod(batch_size, replicas)
    if rest:
        raise UserError(
            f"pretrain.batch_size: {batch_size} rows cannot be divided among {replicas} devices; "
            f"set {batch_size - rest or replicas} or {batch_size - rest + replicas}"
        )
    size = microbatch_size or rows
    if rows % size:
        raise UserError(
            f"pretrain.microbatch_size: {size} should divide the {rows} rows that each of "
            f"{replicas} devices has of batch_size {batch_size}"
        )
    return rows // size
