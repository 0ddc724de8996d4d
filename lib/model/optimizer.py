"""AdamW (Loshchilov and Hutter, 2019) on TensorFlow's fused Adam kernel."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from lib.model.parameters import Parameter


class AdamW:
    """Decoupled weight decay, bias correction, decay exclusions by the parameter table."""

    def __init__(
        self,
        table: Sequence[Parameter],
        weight_decay: float,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> None:
        self._table = table
        self._weight_decay, self._epsilon = weight_decay, epsilon
        self._beta1, self._beta2 = beta1, beta2
        self.slots = {
            f"{moment}/{parameter.name}": tf.Variable(tf.zeros(parameter.shape), trainable=False)
            for moment in ("m", "v")
            for parameter in table
        }

    def apply(
        self,
        variables: Mapping[str, tf.Variable],
        gradients: Mapping[str, tf.Tensor],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> None:
        """One step.

        Args:
            learning_rate: float32 scalar.
            step: float32 scalar, 1 for the first step.
        """
        power1, power2 = tf.pow(self._beta1, step), tf.pow(self._beta2, step)
        # The kernel adds epsilon before it corrects the second moment; the paper after.
        epsilon = self._epsilon * tf.sqrt(1.0 - power2)
        for parameter in self._table:
            variable = variables[parameter.name]
            if parameter.decays and self._weight_decay:
                variable.assign_sub(learning_rate * self._weight_decay * variable)
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self.slots[f"m/{parameter.name}"].handle,
                v=self.slots[f"v/{parameter.name}"].handle,
                beta1_power=power1,
                beta2_power=power2,
                lr=learning_rate,
                beta1=self._beta1,
                beta2=self._beta2,
                epsilon=epsilon,
                grad=gradients[parameter.name],
            )

    def state(self) -> dict[str, np.ndarray]:
        """Both moments as arrays."""
        return {name: slot.numpy() for name, slot in self.slots.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes what `state` gave."""
        for name, slot in self.slots.items():
            slot.assign(state[name])
