"""AdamW, LAMB and NovoGrad behind one interface, on TensorFlow's fused kernels.

`OPTIMIZERS` at the end of this file is the registry: params.yaml accepts its names, the trainer
creates from it, and recipes at tiny scale take their learning rate from it. To add an optimizer,
write a subclass of `Optimizer` and add it there.

An optimizer does not communicate. It is given gradients that are already summed over all replicas
and clipped, and every replica then makes the same step on its own copy of the weights. It writes
through the variables' handles, because `assign` on a mirrored variable within a replica would ask
for an aggregation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from lib.model.parameters import Parameter
from lib.run import tf


class Optimizer(ABC):
    """Base class of optimizers: hyperparameters, and slots that are part of the training state.

    Weights and slots are float32, whatever the type of the gradients. Construct an optimizer in
    the scope of the strategy that `apply` will run under.

    Attributes:
        tiny_learning_rate: a peak learning rate at which a model of two layers and 64 units learns
            within some hundred steps; recipes at tiny scale raise theirs to it.
        slots: the optimizer's variables, by `<slot>/<name of the parameter>`.
    """

    tiny_learning_rate: ClassVar[float]

    def __init__(
        self,
        table: Sequence[Parameter],
        weight_decay: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        bias_correction: bool = True,
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
        """
        self._table = table
        self._weight_decay = weight_decay
        self._beta1, self._beta2, self._epsilon = beta1, beta2, epsilon
        self._bias_correction = bias_correction
        self.slots = {
            f"{slot}/{parameter.name}": tf.Variable(tf.zeros(shape), trainable=False)
            for slot in ("m", "v")
            for parameter in table
            for shape in [self._slot_shape(slot, parameter)]
        }

    def _slot_shape(self, slot: str, parameter: Parameter) -> tuple[int, ...]:
        """Shape of a slot: `m` is the first moment, `v` the second."""
        del slot
        return parameter.shape

    @abstractmethod
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
            gradients: of the same names and shapes and of any floating type.
            learning_rate: float32 scalar.
            step: int32 or float32 scalar, 1 for the first step.
        """

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

    def apply(
        self,
        variables: Mapping[str, tf.Variable],
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        scale, epsilon = self._scale_and_epsilon(step)
        for parameter in self._table:
            variable, gradient = variables[parameter.name], gradients[parameter.name]
            if parameter.decays and self._weight_decay:
                decay = learning_rate * self._weight_decay * variable
                tf.raw_ops.AssignSubVariableOp(resource=variable.handle, value=decay)
            self._adam(parameter, variable, gradient, learning_rate * scale, epsilon)

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

    def _adam(
        self,
        parameter: Parameter,
        variable: tf.Variable,
        gradient: tf.Tensor,
        rate: tf.Tensor | float,
        epsilon: tf.Tensor,
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
            epsilon=epsilon,
            grad=tf.cast(gradient, tf.float32),
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

    def apply(
        self,
        variables: Mapping[str, tf.Variable],
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        scale, epsilon = self._scale_and_epsilon(step)
        for parameter in self._table:
            variable, gradient = variables[parameter.name], gradients[parameter.name]
            if not parameter.decays:
                self._adam(parameter, variable, gradient, learning_rate * scale, epsilon)
                continue
            # At rate 0 the kernel updates the moments only: faster than separate operations.
            self._adam(parameter, variable, gradient, 0.0, epsilon)
            first = self.slots[f"m/{parameter.name}"].read_value()
            second = self.slots[f"v/{parameter.name}"].read_value()
            weights = variable.read_value()
            update = scale * first / (tf.sqrt(second) + epsilon) + self._weight_decay * weights
            weights_norm, update_norm = (
                tf.sqrt(2.0 * tf.nn.l2_loss(values)) for values in (weights, update)
            )
            trust_ratio = tf.where(
                (weights_norm > 0) & (update_norm > 0), weights_norm / update_norm, 1.0
            )
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=learning_rate * trust_ratio, delta=update
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

    def _slot_shape(self, slot: str, parameter: Parameter) -> tuple[int, ...]:
        return parameter.shape if slot == "m" else ()

    def apply(
        self,
        variables: Mapping[str, tf.Variable],
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        del step
        for parameter in self._table:
            variable = variables[parameter.name]
            gradient = tf.cast(gradients[parameter.name], tf.float32)
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
                lr=learning_rate,
                grad=update,
                momentum=self._beta1,
            )


def _one_minus_power(beta: float, step: tf.Tensor) -> tf.Tensor:
    """1 - beta^step, exact to the last digits of float32 also where beta^step is nearly 1."""
    return -tf.math.expm1(step * (math.log(beta) if beta else -math.inf))


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adamw": AdamW,
    "lamb": LAMB,
    "novograd": NovoGrad,
}
"""The optimizers by the names that `pretrain.optimizer` accepts."""
