"""Optimizer step: microbatches, replicas, one all-reduce, clipping, update.

The loss of a step is the loss of its global batch: the sum over all masked tokens divided by their
number, plus the same for sentence pairs, however the sequences are divided into microbatches and
among replicas. So gradients are accumulated as sums that are normalised by the global number. An
example with two microbatches, of which one has 3 masked tokens with a loss of 6 in total, the other
1 masked token with a loss of 4:

    loss of the batch            (6 + 4) / (3 + 1) = 2.5
    here                         6 / 4 + 4 / 4     = 2.5
    mean of the two means        (6 / 3 + 4 / 1) / 2 = 3    (not what one large batch has)

The layout thus changes nothing but the order of floating-point sums.

A step whose loss or gradient is not finite changes neither weights nor slots, and its losses are
left out of the sums. All replicas decide the same, as they see the same sums. The learning rate
follows the number of the step; the bias correction of the moments counts updates.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from lib.model.clipping import clip_by_global_norm
from lib.model.encoder_config import EncoderConfig
from lib.model.layers import Batch, Dropout, example_ids
from lib.model.losses import loss_normalisers, loss_sums
from lib.model.optimizers import OPTIMIZERS
from lib.params import Pretrain
from lib.run import random, tf
from lib.run.errors import UserError

# Loss scale of float16, of half its largest exponent; doubled after this many steps without an
# overflow, halved after each overflow (Micikevicius et al., 2018).
_FIRST_SCALE = 2.0**15
_STEPS_TO_DOUBLE = 2000
_LOWEST_SCALE, _HIGHEST_SCALE = 1.0, 2.0**24
SCALE_HALVINGS = round(math.log2(_HIGHEST_SCALE / _LOWEST_SCALE))
"""Number of consecutive overflows that a smaller loss scale may fix."""


class Trainer:
    """A model, its optimizer, and the compiled training step."""

    def __init__(
        self,
        config: EncoderConfig,
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
        self._table = config.parameter_table()
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
                settings.muon_momentum,
                settings.precision,
            )
            # float32 scalars: the loss scale, and steps since it changed; skipped steps of the run,
            # and since the last step that was not skipped.
            self._scalars = {
                "scaling/scale": tf.Variable(
                    _FIRST_SCALE if settings.precision == "float16" else 1.0
                ),
                "scaling/since": tf.Variable(0.0),
                "skipped/total": tf.Variable(0.0),
                "skipped/consecutive": tf.Variable(0.0),
            }
        self._dropout_seed = tf.constant(
            [random.key(settings.seed, "dropout") >> shift & 0x7FFFFFFF for shift in (0, 32)]
        )
        compiles = _compiles(settings.xla, self.strategy)
        replicas = self.strategy.num_replicas_in_sync
        # All of the step, if it needs no all-reduce. Otherwise the parts before and after it; the
        # latter not with several devices in a process, as XLA cannot access the variables of a
        # second replica, nor if the optimizer itself communicates.
        alone = replicas == 1 or len(self.strategy.extended.worker_devices) == 1
        alone = alone and not (replicas > 1 and self.optimizer.communicates)
        self._whole = _function(self._replica_step, compiles and replicas == 1)
        self._compiled_gradients = tf.function(
            self._gradients, jit_compile=compiles or None, autograph=False
        )
        self._compiled_update = _function(self._update, compiles and alone)
        self._compiled_evaluation = _function(self._evaluation, compiles)

    # Without AutoGraph: analysing the source of all called functions takes longer than tracing.
    @tf.function(autograph=False)
    def steps(
        self,
        batches: Iterator[Batch],
        first: tf.Tensor,
        learning_rates: tf.Tensor,
        stop: tf.Tensor,
        count: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Several optimizer steps in one call, so that a fast device need not wait for the host.

        Args:
            batches: an iterator over the result of `lib.train.strategy.distribute`.
            first: int32 scalar, number of the first of these steps.
            learning_rates: float32 [steps].
            stop: float32 scalar: 1 if this worker should stop.
            count: int32 scalar: number of steps to make, at least one; None: one.

        Returns:
            The results of `step`, summed over the steps, `consecutive_skips` their highest; and
            `stop`, above 0 if any worker should stop.
        """
        sums = self._global_step(next(batches), first, learning_rates[0], stop)
        if count is None:
            return sums

        def another(index: tf.Tensor, sums: dict[str, tf.Tensor]) -> tuple[Any, ...]:
            more = self._global_step(next(batches), first + index, learning_rates[index], stop)
            highest = tf.maximum(sums["consecutive_skips"], more["consecutive_skips"])
            sums = {name: value + more[name] for name, value in sums.items()}
            return index + 1, sums | {"consecutive_skips": highest}

        return tf.while_loop(
            lambda index, _: index < count, another, (tf.constant(1), sums), parallel_iterations=1
        )[1]

    @tf.function(autograph=False)
    def step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One optimizer step on one global batch.

        Args:
            batch: an element of `lib.train.strategy.distribute`, or tensors if there is one
                replica.
            number: int32 scalar, 1 for the first step of the run.
            learning_rate: float32 scalar.

        Returns:
            float32 scalars: the sums of `loss_sums` over the global batch, its number of `tokens`
            without padding, and `gradient_norm` before clipping. If one of them is not finite,
            nothing is updated, `skipped` is 1 and all of them but `tokens` are 0.
            `consecutive_skips` is the number of skipped steps since the last that was not.
        """
        return self._global_step(batch, number, learning_rate, tf.constant(0.0))

    def _global_step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        results = self.strategy.run(self._whole, args=(batch, number, learning_rate, stop))
        return {
            name: self.strategy.experimental_local_results(value)[0]
            for name, value in results.items()
        }

    def _replica_step(
        self, batch: Batch, number: tf.Tensor, learning_rate: tf.Tensor, stop: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        # Of the global batch, before any microbatch; `stop` comes along to save an all-reduce.
        totals = tf.concat([loss_normalisers(batch, self._next_sentence), [stop]], 0)  # [3]
        if context.num_replicas_in_sync > 1:
            totals = context.all_reduce(tf.distribute.ReduceOp.SUM, totals)
        normalisers, stop = totals[:-1], totals[-1]
        seed = tf.random.experimental.stateless_fold_in(self._dropout_seed, number)
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * self.microbatches
        weights = [self.variables[name].read_value() for name in self._names]
        scale = self._scalars["scaling/scale"].read_value()

        def microbatch(index: int | tf.Tensor) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
            sequences = next(iter(batch.values())).shape[0] // self.microbatches
            # By tf.slice, whose sizes are constants: the size of values[a:b] is known at run time
            # only, and XLA needs it for compiling.
            part = {
                name: tf.slice(
                    values,
                    [index * sequences, *[0] * (values.shape.rank - 1)],
                    [sequences, *values.shape[1:]],
                )
                for name, values in batch.items()
            }
            own = tf.random.experimental.stateless_fold_in(seed, first + index)
            return self._compiled_gradients(weights, part, normalisers, own, scale)

        gradients, sums = microbatch(0)
        if self.microbatches > 1:

            def add(
                index: tf.Tensor, gradients: list[tf.Tensor], sums: dict[str, tf.Tensor]
            ) -> tuple[Any, ...]:
                more, more_sums = microbatch(index)
                gradients = [one + two for one, two in zip(gradients, more, strict=True)]
                return index + 1, gradients, {n: v + more_sums[n] for n, v in sums.items()}

            # One after the other: saving the memory of the others is the purpose of microbatches.
            _, gradients, sums = tf.while_loop(
                lambda index, *_: index < self.microbatches,
                add,
                (tf.constant(1), gradients, sums),
                parallel_iterations=1,
            )
        if context.num_replicas_in_sync > 1:
            # Together with the sums: one all-reduce per step.
            names = list(sums)
            reduced = context.all_reduce(
                tf.distribute.ReduceOp.SUM, [*gradients, *(sums[name] for name in names)]
            )
            gradients = reduced[: len(gradients)]
            sums = dict(zip(names, reduced[len(gradients) :], strict=True))
        return {
            **self._compiled_update(gradients, sums, scale, number, learning_rate),
            "stop": stop,
        }

    def _update(
        self,
        gradients: list[tf.Tensor],
        sums: Mapping[str, tf.Tensor],
        scale: tf.Tensor,
        number: tf.Tensor,
        learning_rate: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Clips the gradients and makes the optimizer's step, unless something is not finite.

        Gradients (times `scale`) and sums are of the global batch. Returns the results of `step`.
        """
        scaled = self._settings.precision == "float16"
        if scaled:
            gradients = [gradient / scale for gradient in gradients]
        clipped, norm = clip_by_global_norm(gradients, self._settings.clip_norm)
        finite = tf.reduce_all(tf.math.is_finite(tf.stack([norm, *sums.values()])))
        total, consecutive = (
            self._scalars[name].read_value() for name in ("skipped/total", "skipped/consecutive")
        )

        # Not in a branch of the condition, since replicas may communicate in it.
        prepared = self.optimizer.prepare(dict(zip(self._names, clipped, strict=True)))

        def update() -> tf.Tensor:
            # The moments know nothing of skipped steps.
            updates = number - tf.cast(total, number.dtype)
            self.optimizer.apply(self.variables, prepared, learning_rate, updates)
            return tf.constant(0.0)

        skipped = tf.cond(finite, update, lambda: tf.constant(1.0))
        consecutive = (consecutive + 1.0) * skipped
        self._assign("skipped/total", total + skipped)
        self._assign("skipped/consecutive", consecutive)
        if scaled:
            self._rescale(finite)
        counted = {
            name: value if name == "tokens" else tf.where(finite, value, 0.0)
            for name, value in {**sums, "gradient_norm": norm}.items()
        }
        return {**counted, "skipped": skipped, "consecutive_skips": consecutive}

    def _assign(self, name: str, value: tf.Tensor) -> None:
        """Sets a scalar: through its handle, as in the optimizers, to the same in every replica."""
        tf.raw_ops.AssignVariableOp(resource=self._scalars[name].handle, value=value)

    def _gradients(
        self,
        weights: Sequence[tf.Tensor],
        batch: Batch,
        normalisers: tf.Tensor,
        seed: tf.Tensor,
        scale: tf.Tensor,
    ) -> tuple[list[tf.Tensor], dict[str, tf.Tensor]]:
        """Contribution of a microbatch to the gradient of the global loss, and to its sums.

        Args:
            normalisers: float32 [2]: `loss_normalisers` of the global batch.
            seed: int32 [2], for dropout.
            scale: float32 scalar: the loss scale, by which the gradient is multiplied.
        """
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
            divisors = tf.maximum(normalisers, 1.0)
            loss = sums["masked_lm_objective"] / divisors[0]
            if self._next_sentence:
                loss += sums["next_sentence_loss"] / divisors[1]
            loss *= scale
        sums["tokens"] = tf.reduce_sum(tf.cast(example_ids(batch) > 0, tf.float32))
        gradients = tape.gradient(loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return gradients, sums

    def _rescale(self, finite: tf.Tensor) -> None:
        """Updates the loss scale after a step whose gradients were finite, or not."""
        scale = self._scalars["scaling/scale"].read_value()
        grown = self._scalars["scaling/since"].read_value() + 1.0
        double = tf.logical_and(finite, grown >= _STEPS_TO_DOUBLE)
        factor = tf.where(finite, tf.where(double, 2.0, 1.0), 0.5)
        scale = tf.clip_by_value(scale * factor, _LOWEST_SCALE, _HIGHEST_SCALE)
        since = tf.where(tf.logical_and(finite, tf.logical_not(double)), grown, 0.0)
        self._assign("scaling/scale", scale)
        self._assign("scaling/since", since)

    def evaluate(self, batch: Batch) -> dict[str, float]:
        """The sums of `loss_sums` over a global batch, without dropout.

        In the precision of training; if that overflows, in float32.
        """
        sums = {name: float(value) for name, value in self.evaluation_step(batch).items()}
        if self._settings.precision == "float32" or all(map(math.isfinite, sums.values())):
            return sums
        exact = self.evaluation_step(batch, "float32")
        return {name: float(value) for name, value in exact.items()}

    @tf.function(autograph=False)
    def evaluation_step(self, batch: Batch, precision: str | None = None) -> dict[str, tf.Tensor]:
        """The sums of `loss_sums` over a global batch, without dropout.

        Args:
            precision: of the computation; None: that of training.
        """

        def sums(part: Batch) -> dict[str, tf.Tensor]:
            weights = [self.variables[name].read_value() for name in self._names]
            return self._compiled_evaluation(weights, part, precision or self._settings.precision)

        per_replica = self.strategy.run(sums, args=(batch,))
        return {
            name: self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)
            for name, value in per_replica.items()
        }

    def _evaluation(
        self, weights: Sequence[tf.Tensor], batch: Batch, precision: str
    ) -> dict[str, tf.Tensor]:
        named = dict(zip(self._names, weights, strict=True))
        return loss_sums(named, self.config, batch, self._next_sentence, precision=precision)

    @property
    def skipped_steps(self) -> int:
        """Number of steps of the run that changed nothing, as something in them was not finite."""
        return int(self._scalars["skipped/total"].numpy())

    def weights(self) -> dict[str, np.ndarray]:
        """The weights of the model as float32 arrays."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Weights, optimizer slots, the loss scale, and the counts of skipped steps."""
        scalars = {name: variable.numpy() for name, variable in self._scalars.items()}
        return {**self.weights(), **self.optimizer.state(), **scalars}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets everything to what `state` returned."""
        for name, variable in {**self.variables, **self._scalars}.items():
            variable.assign(state[name])
        self.optimizer.restore(state)


def _compiles(xla: Literal["auto"] | bool, strategy: tf.distribute.Strategy) -> bool:
    """Whether XLA compiles parts of the step; `auto`: on a GPU."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return False  # It compiles everything itself.
    return bool(tf.config.list_logical_devices("GPU")) if xla == "auto" else xla


def _function(method: Callable[..., Any], compiles: bool) -> Callable[..., Any]:
    return tf.function(method, jit_compile=True, autograph=False) if compiles else method


def _microbatches(batch_size: int, microbatch_size: int | None, replicas: int) -> int:
    """Number of microbatches per replica and step."""
    per_replica, rest = divmod(batch_size, replicas)
    if rest:
        raise UserError(
            f"pretrain.batch_size: {batch_size} sequences cannot be divided among {replicas} "
            f"devices; set {batch_size - rest or replicas} or {batch_size - rest + replicas}"
        )
    size = microbatch_size or per_replica
    if per_replica % size:
        raise UserError(
            f"pretrain.microbatch_size: {size} should divide {per_replica}, the sequences per "
            f"device of batch_size {batch_size} on {replicas} devices"
        )
    return per_replica // size
