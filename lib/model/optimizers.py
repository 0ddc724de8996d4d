"""AdamW, LAMB, NovoGrad and Muon behind one interface, on TensorFlow's fused kernels.

`OPTIMIZERS` at the end of this file is the registry: params.yaml accepts its names, the trainer
creates from it, and recipes at tiny scale take their learning rate from it. To add an optimizer,
write a subclass of `Optimizer` and add it there.

An optimizer is given gradients that are already summed over all replicas and clipped, and every
replica then makes the same step on its own copy of the weights. `apply` does not communicate, so
that it may run within a condition; work that replicas divide among themselves is done before it, in
`prepare`. An optimizer writes through the variables' handles, because `assign` on a mirrored
variable within a replica would ask for an aggregation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from lib.model.parameters import Parameter
from lib.run import tf


class Step(NamedTuple):
    """What the updates of all tensors in a step have in common.

    Attributes:
        gradients, learning_rate: see `Optimizer.apply`.
        scale, epsilon: see `Optimizer._scale_and_epsilon`.
    """

    gradients: Mapping[str, tf.Tensor]
    learning_rate: tf.Tensor
    scale: tf.Tensor
    epsilon: tf.Tensor


class Optimizer(ABC):
    """Base class of optimizers: hyperparameters, and slots that are part of the training state.

    Weights and slots are float32, whatever the type of the gradients. Construct an optimizer in
    the scope of the strategy that `apply` will run under.

    Attributes:
        tiny_learning_rate: a peak learning rate at which a model of two layers and 64 units learns
            within some hundred steps; recipes at tiny scale raise theirs to it.
        communicates: whether `prepare` exchanges tensors with other replicas, if there are any.
        slots: the optimizer's variables, by `<slot>/<name of the parameter>`.
    """

    tiny_learning_rate: ClassVar[float]
    communicates: ClassVar[bool] = False

    def __init__(
        self,
        table: Sequence[Parameter],
        weight_decay: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        bias_correction: bool = True,
        muon_momentum: float = 0.95,
        precision: Literal["float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        """
        Args:
            table: the parameters to update; each states whether weight decay applies to it.
            weight_decay: decoupled: each step subtracts learning rate x this factor x the weight.
            beta1: decay rate of the first moment, in [0, 1).
            beta2: decay rate of the second moment, in [0, 1).
            epsilon: added to the square root of the second moment; above 0.
            bias_correction: of the moments, which begin at 0; without effect in an optimizer that
                has no such correction.
            muon_momentum: decay rate of the momentum of Muon's matrices, in [0, 1); without effect
                in other optimizers.
            precision: of training, and so of Muon's matrix products; all else is float32.
        """
        self._table = table
        self._weight_decay = weight_decay
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._bias_correction, self._muon_momentum = bias_correction, muon_momentum
        self._precision = precision
        self.slots = {
            name: tf.Variable(tf.zeros(shape), trainable=False)
            for name, shape in self.slot_shapes(table).items()
        }

    @classmethod
    def slot_shapes(cls, table: Sequence[Parameter]) -> dict[str, tuple[int, ...]]:
        """Shapes of the slots by their names."""
        return {
            f"{slot}/{parameter.name}": shape
            for slot in ("m", "v")
            for parameter in table
            if (shape := cls._slot_shape(slot, parameter)) is not None
        }

    @classmethod
    def _slot_shape(cls, slot: str, parameter: Parameter) -> tuple[int, ...] | None:
        """Shape of a slot, or None for no slot: `m` is the first moment, `v` the second."""
        del slot
        return parameter.shape

    @classmethod
    def step_flops(cls, table: Sequence[Parameter]) -> float:
        """Floating-point operations of the matrix products of a step."""
        del table
        return 0.0

    @classmethod
    def step_memory(cls, table: Sequence[Parameter]) -> int:
        """Bytes that a step needs besides weights, slots and gradients, if they are many."""
        del table
        return 0

    def prepare(self, gradients: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Work on the gradients that replicas may divide among themselves.

        Every replica calls it, in a tf.function and outside of conditions, before `apply`. It
        changes neither weights nor slots: the step may be skipped.

        Returns:
            What `apply` is given as gradients: these, and any other tensors under other names.
        """
        return gradients

    def apply(
        self,
        variables: Mapping[str, tf.Variable],
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        """Makes one step; called in a tf.function, in replica context under a strategy.

        Args:
            variables: float32, by name in the parameter table.
            gradients: of the same names and shapes and of any floating type, as `prepare` returned
                them.
            learning_rate: float32 scalar.
            step: int32 or float32 scalar, 1 for the first step.
        """
        found = Step(gradients, learning_rate, *self._scale_and_epsilon(step))
        for parameter in self._table:
            self._update(parameter, variables[parameter.name], found)

    @abstractmethod
    def _update(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        """Updates one tensor and its slots."""

    def _scale_and_epsilon(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Scalars that apply the bias correction to the moments as the kernel computes them.

        With them, scale * m / (sqrt(v) + epsilon) equals m^ / (sqrt(v^) + epsilon) of the paper.
        """
        step = tf.cast(step, tf.float32)
        corrections = []
        for beta in (self._beta1, self._beta2):
            # The kernel computes 1 - beta in float32, where 1 - 0.999 is off by 1e-5: with
            # constant gradients 1 its moment is 1 - beta^step for the rounded beta, not for beta.
            correction = _one_minus_power(float(np.float32(beta)), step)
            if not self._bias_correction:
                correction /= _one_minus_power(beta, step)
            corrections.append(correction)
        first, second = corrections[0], tf.sqrt(corrections[1])
        return second / first, self._epsilon * second

    def state(self) -> dict[str, np.ndarray]:
        """The slots as float32 arrays."""
        return {name: slot.numpy() for name, slot in self.slots.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets the slots to what `state` returned; other entries are ignored."""
        for name, slot in self.slots.items():
            slot.assign(state[name])


class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, algorithm 2).

    Without bias correction it is AdamWeightDecayOptimizer, with which Google trained BERT.
    """

    tiny_learning_rate = 2e-3

    def _update(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        self._decay(parameter, variable, step)
        self._adam(parameter, variable, step, step.learning_rate * step.scale)

    def _decay(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        if parameter.decays and self._weight_decay:
            decay = step.learning_rate * self._weight_decay * variable
            tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=decay)

    def _adam(
        self, parameter: Parameter, variable: tf.Variable, step: Step, rate: tf.Tensor | float
    ) -> None:
        """Updates the moments and subtracts rate * m / (sqrt(v) + epsilon), in one fused kernel."""
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self.slots[f"m/{parameter.name}"].handle,
            v=self.slots[f"v/{parameter.name}"].handle,
            # The kernel's own bias correction, 1 - beta^step in float32, loses digits. It is part
            # of `rate` instead.
            beta1_power=0.0,
            beta2_power=0.0,
            lr=rate,
            beta1=self._beta1,
            beta2=self._beta2,
            epsilon=step.epsilon,
            grad=tf.cast(step.gradients[parameter.name], tf.float32),
        )


class LAMB(AdamW):
    """Layer-wise adaptive moments for large batches (You et al., 2020, algorithm 2).

    The AdamW update of each tensor is scaled to the norm of the tensor by the trust ratio
    ||weights|| / ||update||, or by 1 where either norm is 0 (phi of the paper is the identity, as
    in NVIDIA's code). For weights [3, 4] and an update [0.6, 0.8], decay included, the ratio is
    5 / 1; at learning rate 0.01 the step is 0.01 * 5 * [0.6, 0.8] = [0.03, 0.04], whose norm is 1 %
    of the norm of the weights. That holds whatever the size of the gradients.

    The update has bias correction and includes the decay, as in version 5 of the paper and in
    NVIDIA's code; without the correction it is version 3 and Google's ALBERT.

    Tensors that do not decay (biases, layer normalisation) do not have a trust ratio either: they
    take a plain Adam step. That is the default of TensorFlow Addons and of NVIDIA's FusedLAMB. The
    paper leaves it open; NVIDIA's TensorFlow BERT gives every tensor its ratio, as FusedLAMB does
    with `use_nvlamb`. Clipping by the global norm, which NVIDIA counts as a part of the optimizer,
    is in `lib.model.clipping`.
    """

    tiny_learning_rate = 1e-2

    def _update(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        if not parameter.decays:
            self._adam(parameter, variable, step, step.learning_rate * step.scale)
            return
        # At rate 0 the kernel updates the moments only: faster than separate operations.
        self._adam(parameter, variable, step, 0.0)
        first = self.slots[f"m/{parameter.name}"].read_value()
        second = self.slots[f"v/{parameter.name}"].read_value()
        weights = variable.read_value()
        update = step.scale * first / (tf.sqrt(second) + step.epsilon)
        update += self._weight_decay * weights
        weights_norm, update_norm = (
            tf.sqrt(2.0 * tf.nn.l2_loss(values)) for values in (weights, update)
        )
        trust_ratio = tf.where(
            (weights_norm > 0) & (update_norm > 0), weights_norm / update_norm, 1.0
        )
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=step.learning_rate * trust_ratio, delta=update
        )


class NovoGrad(Optimizer):
    """Gradients normalised per tensor (Ginsburg et al., 2019, algorithm 1), as in NVIDIA's NeMo.

    The second moment is one number per tensor: the moving average of the squared norm of its
    gradient. The first moment adds up normalised gradients and decay, without the factor 1 - beta1
    (NeMo's `grad_averaging: false`), so steps are 1 / (1 - beta1) times as long as with an average;
    there is no bias correction. NeMo's defaults are beta1 0.95, beta2 0.98, epsilon 1e-8.

    The second moment begins as the first squared norm that is not 0, as in NeMo. In the paper it
    begins as the squared norm at step 1: a tensor without a gradient at step 1 would then take a
    step 1 / sqrt(1 - beta2) times too long once it gets one.
    """

    tiny_learning_rate = 5e-3

    @classmethod
    def _slot_shape(cls, slot: str, parameter: Parameter) -> tuple[int, ...]:
        return parameter.shape if slot == "m" else ()

    def _update(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        gradient = tf.cast(step.gradients[parameter.name], tf.float32)
        slot = self.slots[f"v/{parameter.name}"]
        squared_norm, before = 2.0 * tf.nn.l2_loss(gradient), slot.read_value()
        average = self._beta2 * before + (1.0 - self._beta2) * squared_norm
        second = tf.where(before == 0, squared_norm, average)
        tf.raw_ops.AssignVariableOp(resource=slot.handle, value=second)
        update = gradient / (tf.sqrt(second) + self._epsilon)
        if parameter.decays and self._weight_decay:
            update += self._weight_decay * variable
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=self.slots[f"m/{parameter.name}"].handle,
            lr=step.learning_rate,
            grad=update,
            momentum=self._beta1,
        )


class Muon(AdamW):
    """Orthogonalised momentum for the matrices of the encoder's layers, AdamW for everything else.

    Jordan et al. (2024), https://kellerjordan.github.io/posts/muon/, with the step length of Liu et
    al. (2025, Moonlight); the same as torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`.

    With gradient G and momentum mu, M becomes mu M + (1 - mu) G. The update is mu M + (1 - mu) G,
    with this new M (Nesterov), after its singular values were moved close to 1 (`_orthogonalised`).
    An m x n matrix whose singular values are 1 has elements with a root mean square of
    1 / sqrt(max(m, n)). Times 0.2 sqrt(max(m, n)) that is 0.2, close to the root mean square of
    AdamW's updates, so that one learning rate fits both.

    Matrices that are stored side by side (query, key and value of ModernBERT) are orthogonalised
    each by itself. Embeddings, biases, normalisation, pooler and heads take AdamW's step, with its
    hyperparameters. The matrices have no second moment. Weight decay is AdamW's for both.
    """

    tiny_learning_rate = 4e-3
    communicates = True

    @classmethod
    def _slot_shape(cls, slot: str, parameter: Parameter) -> tuple[int, ...] | None:
        return None if slot == "v" and parameter.matrices else parameter.shape

    @classmethod
    def step_flops(cls, table: Sequence[Parameter]) -> float:
        return float(
            sum(
                # Per iteration two products of R x C with the other side, and one of R x R.
                _ITERATIONS * 2 * rows * rows * (2 * columns + rows) * parameter.matrices
                for (rows, columns), group in _by_shape(table).items()
                for parameter in group
            )
        )

    @classmethod
    def step_memory(cls, table: Sequence[Parameter]) -> int:
        # Stacks of all matrices, what the iterations make of them, and the results. Measured on a
        # CPU (docs/planning.md), where the shapes are computed at the same time.
        return 18 * sum(math.prod(p.shape) for p in table if p.matrices)

    def prepare(self, gradients: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        groups = _by_shape(self._table)
        stacks = [
            tf.concat([_stacked(each, self._momentum(each, gradients, True)) for each in group], 0)
            for group in groups.values()  # [N, R, C]
        ]
        dtype = tf.as_dtype(self._precision)
        results = _divided_among_replicas(lambda stack: _orthogonalised(stack, dtype), stacks)
        prepared = dict(gradients)
        for group, result in zip(groups.values(), results, strict=True):
            parts = tf.split(result, [parameter.matrices for parameter in group])
            for parameter, matrices in zip(group, parts, strict=True):
                prepared[f"orthogonal/{parameter.name}"] = _side_by_side(parameter, matrices)
        return prepared

    def _momentum(
        self, parameter: Parameter, gradients: Mapping[str, tf.Tensor], ahead: bool = False
    ) -> tf.Tensor:
        """The momentum after this gradient; `ahead`: after the same one again (Nesterov)."""
        gradient = tf.cast(gradients[parameter.name], tf.float32)
        momentum = self.slots[f"m/{parameter.name}"].read_value()
        for _ in range(1 + ahead):
            momentum = self._muon_momentum * momentum + (1.0 - self._muon_momentum) * gradient
        return momentum

    def _update(self, parameter: Parameter, variable: tf.Variable, step: Step) -> None:
        if not parameter.matrices:
            super()._update(parameter, variable, step)
            return
        self._decay(parameter, variable, step)
        momentum = self._momentum(parameter, step.gradients)
        slot = self.slots[f"m/{parameter.name}"]
        tf.raw_ops.AssignVariableOp(resource=slot.handle, value=momentum)
        tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle,
            alpha=step.learning_rate * (0.2 * math.sqrt(max(parameter.matrix_shape))),
            delta=step.gradients[f"orthogonal/{parameter.name}"],
        )


# Of the Newton-Schulz iteration: Jordan's coefficients, which raise small singular values fastest.
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LOWEST_NORM = 1e-7


def _orthogonalised(matrices: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Matrices with the same singular vectors, whose singular values are about 1.

    X / |X|, whose singular values are at most 1, goes five times through a X + (b A + c A^2) X with
    A = X X^T, which takes each singular value s to a s + b s^3 + c s^5. That does not converge to
    1: values end between 0.68 and 1.21, except those below 0.0015 of the norm, which stay smaller.
    For example, diag(3, 0.5) becomes diag(0.71, 1.04), and diag(3, 0.04) diag(0.70, 0.93).

    Args:
        matrices: float32 [N, R, C] with R <= C, so that A is the smaller one of X X^T and X^T X.
        dtype: of the products. No number is above 5, and the small ones that float16 loses are
            below its rounding errors.

    Returns:
        float32 [N, R, C]; zeros stay zeros.
    """
    a, b, c = _COEFFICIENTS
    norms = tf.norm(matrices, axis=(1, 2), keepdims=True)  # [N, 1, 1]
    x = tf.cast(matrices / tf.maximum(norms, _LOWEST_NORM), dtype)
    for _ in range(_ITERATIONS):
        square = tf.matmul(x, x, transpose_b=True)  # [N, R, C], [N, R, C] -> [N, R, R]
        square = b * square + c * tf.matmul(square, square)
        x = a * x + tf.matmul(square, x)  # [N, R, R], [N, R, C] -> [N, R, C]
    return tf.cast(x, tf.float32)


def _by_shape(table: Sequence[Parameter]) -> dict[tuple[int, int], list[Parameter]]:
    """The matrices of the encoder's layers, by (smaller side, larger side)."""
    groups: dict[tuple[int, int], list[Parameter]] = {}
    for parameter in table:
        if parameter.matrices:
            rows, columns = sorted(parameter.matrix_shape)
            groups.setdefault((rows, columns), []).append(parameter)
    return groups


def _stacked(parameter: Parameter, values: tf.Tensor) -> tf.Tensor:
    """A parameter's matrices, each with its smaller side first: [I, N * O] -> [N, R, C]."""
    inputs, outputs = parameter.matrix_shape
    matrices = tf.reshape(values, [inputs, parameter.matrices, outputs])
    return tf.transpose(matrices, [1, 2, 0] if inputs > outputs else [1, 0, 2])


def _side_by_side(parameter: Parameter, matrices: tf.Tensor) -> tf.Tensor:
    """The inverse of `_stacked`: [N, R, C] -> [I, N * O]."""
    inputs, outputs = parameter.matrix_shape
    order = [2, 0, 1] if inputs > outputs else [1, 0, 2]
    return tf.reshape(tf.transpose(matrices, order), parameter.shape)


def _divided_among_replicas(
    function: Callable[[tf.Tensor], tf.Tensor], stacks: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """The function of each stack, an equal number of whose entries is computed by each replica.

    With 3 entries on 2 replicas, one computes entries 0 and 1, the other entry 2 and one of zeros.
    They are put together by a sum, to which each replica contributes zeros where another computes:
    exact in any order. ReplicaContext.all_gather would send half of that, but on GPUs without NCCL,
    and returns tensors whose shape is not static; on TPUs it is such a sum itself.

    Args:
        function: of a stack [n, R, C] of any number of entries, to the same shape; each entry of
            the result depends on that entry only.
        stacks: [N, R, C] each, equal on all replicas.
    """
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return [function(stack) for stack in stacks]
    replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
    contributions = []
    for stack in stacks:
        number, rows, columns = stack.shape
        each = -(-number // replicas)
        # [N, R, C] -> [replicas * each, R, C] -> [each, R, C]
        padded = tf.pad(stack, [[0, replicas * each - number], [0, 0], [0, 0]])
        own = function(tf.slice(padded, [replica * each, 0, 0], [each, rows, columns]))
        mask = tf.reshape(tf.one_hot(replica, replicas), [replicas, 1, 1, 1])
        # [replicas, 1, 1, 1] * [each, R, C] -> [replicas, each, R, C] -> [replicas * each, R, C]
        contributions.append(tf.reshape(mask * own, padded.shape))
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, contributions)
    return [whole[: stack.shape[0]] for whole, stack in zip(sums, stacks, strict=True)]


def _one_minus_power(beta: float, step: tf.Tensor) -> tf.Tensor:
    """1 - beta^step, exact to the last digits of float32 also where beta^step is nearly 1."""
    return -tf.math.expm1(step * (math.log(beta) if beta else -math.inf))


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "lamb": LAMB,
    "novograd": NovoGrad,
    "muon": Muon,
}
"""The optimizers by the names that `pretrain.optimizer` accepts."""
