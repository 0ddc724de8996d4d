"""The optimizer step: microbatches, replicas, one all-reduce, clipping, update."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lib.model.clipping import clip_by_global_norm
from lib.model.config import BertConfig
from lib.model.layers import Dropout
from lib.model.losses import Batch, loss_normalisers, loss_sums
from lib.model.optimizers import OPTIMIZERS
from lib.model.parameters import parameter_table
from lib.params import Pretrain
from lib.run import random, tf
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
        self.config, self._settings, self._next_sentence = config, settings, next_sentence
        self.strategy = strategy or tf.distribute.get_strategy()
        self.microbatches = _microbatches(
            settings.batch_size, settings.microbatch_size, self.strategy.num_replicas_in_sync
        )
        self._table = parameter_table(config)
        self._names = [parameter.name for parameter in self._table]
        with self.strategy.scope():
            self.variables = {name: tf.Variable(weights[name]) for name in self._names}
            self.optimizer = OPTIMIZERS[settings.optimizer](
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
        self._compiled = tf.function(
            self._gradients, jit_compile=settings.xla or None, autograph=False
        )

    # Without AutoGraph: reading the source of all that the step calls takes longer than tracing it.
    @tf.function(autograph=False)
    def steps(
        self,
        batches: Iterator[Batch],
        first: tf.Tensor,
        learning_rates: tf.Tensor,
        stop: tf.Tensor,
        count: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Some optimizer steps in one call, so that a fast device need not wait for the host.

        Args:
            batches: an iterator over what `lib.train.strategy.distributed` gives.
            first: int32 scalar, number of the first of these steps.
            learning_rates: float32 Tensor, of each step.
            stop: float32 scalar: 1 if this worker was asked to stop.
            count: int32 scalar: how many of these steps to make, at least one; None: one only.

        Returns:
            What `step` gives, summed over the steps; and `stop`, which is above 0 if any worker
            was asked to stop.
        """
        sums = self._global_step(next(batches), first, learning_rates[0], stop)
        if count is None:
            return sums

        def another(index: tf.Tensor, sums: dict[str, tf.Tensor]) -> tuple[Any, ...]:
            more = self._global_step(next(batches), first + index, learning_rates[index], stop)
            return index + 1, {name: value + more[name] for name, value in sums.items()}

        return tf.while_loop(
            lambda index, _: index < count, another, (tf.constant(1), sums), parallel_iterations=1
        )[1]

    @tf.function(autograph=False)
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
        return self._global_step(batch, number, learning_rate, tf.constant(0.0))

    def _global_step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        results = self.strategy.run(self._replica_step, args=(batch, number, learning_rate, stop))
        return {
            name: self.strategy.experimental_local_results(value)[0]
            for name, value in results.items()
        }

    def _replica_step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        totals = tf.concat([loss_normalisers(batch, self._next_sentence), [stop]], 0)
        if context.num_replicas_in_sync > 1:
            totals = context.all_reduce(tf.distribute.ReduceOp.SUM, totals)
        totals, stop = totals[:-1], totals[-1]
        seed = tf.random.experimental.stateless_fold_in(self._dropout_seed, number)
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * self.microbatches
        weights = [self.variables[name].read_value() for name in self._names]
        scale = self._scaling["scale"].read_value()

        def microbatch(index: int | tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
            rows = next(iter(batch.values())).shape[0] // self.microbatches
            # By tf.slice, whose sizes are constants: values[a:b] has its size at run time only, and
            # XLA needs it as it compiles.
            part = {
                name: tf.slice(
                    values,
                    [index * rows, *[0] * (values.shape.rank - 1)],
                    [rows, *values.shape[1:]],
                )
                for name, values in batch.items()
            }
            own = tf.random.experimental.stateless_fold_in(seed, first + index)
            return self._compiled(weights, part, totals, own, scale)

        gradients, sums = microbatch(0)
        if self.microbatches > 1:

            def add(
                index: tf.Tensor, gradients: list[tf.Tensor], sums: dict[str, tf.Tensor]
            ) -> tuple[Any, ...]:
                more, more_sums = microbatch(index)
                gradients = [one + two for one, two in zip(gradients, more, strict=True)]
                return index + 1, gradients, {n: v + more_sums[n] for n, v in sums.items()}

            # One after the other: the memory of two at a time is what microbatches are to save.
            _, gradients, sums = tf.while_loop(
                lambda index, *_: index < self.microbatches,
                add,
                (tf.constant(1), gradients, sums),
                parallel_iterations=1,
            )
        if context.num_replicas_in_sync > 1:
            # Together with the sums: one all-reduce a step.
            names = list(sums)
            reduced = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [*gradients, *(sums[name] for name in names)]
            )
            gradients = reduced[: len(gradients)]
            sums = dict(zip(names, reduced[len(gradients) :], strict=True))
        scaled = self._settings.precision == "float16"
        if scaled:
            gradients = [gradient / scale for gradient in gradients]
        clipped, norm = clip_by_global_norm(gradients, self._settings.clip_norm)

        def move() -> tf.Tensor:
            by_name = dict(zip(self._names, clipped, strict=True))
            self.optimizer.apply(self.variables, by_name, learning_rate, number)
            return tf.constant(0.0)

        if scaled:
            finite = tf.math.is_finite(norm)
            skipped = tf.cond(finite, move, lambda: tf.constant(1.0))
            self._rescale(finite)
        else:
            skipped = move()
        return {**sums, "gradient_norm": norm, "skipped": skipped, "stop": stop}

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
                self.config,
                batch,
                self._next_sentence,
                Dropout(seed),
                self._settings.precision,
                self._settings.label_smoothing,
                self._settings.gradient_checkpointing,
            )
            divisors = tf.maximum(totals, 1.0)
            loss = sums["masked_lm_objective"] / divisors[0]
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

    @tf.function(autograph=False)
    def evaluation_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """The sums of `loss_sums` without dropout, over the replicas' parts of a batch."""

        def sums(part: Batch) -> dict[str, tf.Tensor]:
            return loss_sums(self.variables, self.config, part, self._next_sentence)

        found = self.strategy.run(sums, args=(batch,))
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in found.items()
        }

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
