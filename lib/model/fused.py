"""Elementwise operations fused into one pass over memory: GELU and softmax cross entropy.

Matrix products stay with TensorFlow's kernels, which are faster than XLA's on CPUs. The operations
between them are bound by memory, and XLA fuses into one loop what TensorFlow runs as ten
operations: measured on CPUs, GELU with its gradient takes a third of the time, cross entropy over a
vocabulary a quarter. Accelerators run the same formulas without it, as `pretrain.xla` compiles the
whole step there.
"""

import math
from collections.abc import Callable
from typing import Any

from lib.run import tf


def _on_cpu() -> bool:
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a function of tensors: compiled by XLA if there are only CPUs."""
    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(*tensors: tf.Tensor) -> Any:
        return compiled(*tensors) if _on_cpu() else function(*tensors)

    return call


@_fused
def _gelu(values: tf.Tensor) -> tf.Tensor:
    return 0.5 * values * (1.0 + tf.math.erf(values * math.sqrt(0.5)))


@_fused
def _gelu_gradient(values: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    cumulative = 0.5 * (1.0 + tf.math.erf(values * math.sqrt(0.5)))
    density = math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * values * values)
    return upstream * (cumulative + values * density)


_TANH_SCALE, _TANH_CUBE = math.sqrt(2.0 / math.pi), 0.044715


@_fused
def _gelu_new(values: tf.Tensor) -> tf.Tensor:
    inner = _TANH_SCALE * values * (1.0 + _TANH_CUBE * values * values)
    return 0.5 * values * (1.0 + tf.tanh(inner))


@_fused
def _gelu_new_gradient(values: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    squared = values * values
    curve = tf.tanh(_TANH_SCALE * values * (1.0 + _TANH_CUBE * squared))
    slope = _TANH_SCALE * (1.0 + 3.0 * _TANH_CUBE * squared)
    return upstream * 0.5 * (1.0 + curve + values * (1.0 - curve * curve) * slope)


@tf.custom_gradient
def gelu(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """GELU, erf form: x times the normal distribution function of x; any shape.

    Hendrycks and Gimpel (2016).
    """
    return _gelu(values), lambda upstream: _gelu_gradient(values, upstream)


@tf.custom_gradient
def gelu_new(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """GELU, tanh form of the same paper, which Google's BERT uses."""
    return _gelu_new(values), lambda upstream: _gelu_new_gradient(values, upstream)


@_fused
def _geglu(values: tf.Tensor) -> tf.Tensor:
    gated, gate = tf.split(values, 2, axis=-1)
    return 0.5 * gated * (1.0 + tf.math.erf(gated * math.sqrt(0.5))) * gate


@_fused
def _geglu_gradient(values: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    gated, gate = tf.split(values, 2, axis=-1)
    cumulative = 0.5 * (1.0 + tf.math.erf(gated * math.sqrt(0.5)))
    density = math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * gated * gated)
    slope = cumulative + gated * density
    return tf.concat([upstream * gate * slope, upstream * gated * cumulative], -1)


@tf.custom_gradient
def geglu(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """GELU of the first half of the last axis, times the second half: [..., 2 I] -> [..., I].

    Shazeer (2020).
    """
    return _geglu(values), lambda upstream: _geglu_gradient(values, upstream)


@_fused
def _rotated(values: tf.Tensor, cosines: tf.Tensor, sines: tf.Tensor) -> tf.Tensor:
    first, second = tf.split(values, 2, axis=-1)
    return tf.concat([first * cosines - second * sines, second * cosines + first * sines], -1)


def rotated(values: tf.Tensor, cosines: tf.Tensor, sines: tf.Tensor) -> tf.Tensor:
    """Rotary positions (Su et al., 2021): turns each pair (i, i + D / 2) of the last axis, D.

    Args:
        values: float [..., D].
        cosines, sines: of the angles, [..., D / 2], of shapes that broadcast; no gradients.
    """

    @tf.custom_gradient
    def rotation(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        # The gradient is turned back.
        return _rotated(values, cosines, sines), lambda upstream: _rotated(
            upstream, cosines, -sines
        )

    return rotation(values)


@_fused
def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
    highest = tf.reduce_max(logits, -1, keepdims=True)  # [n, 1]
    # Differences from the highest logit: adding a large logit would lose the last digits.
    below = logits - highest  # [n, classes]
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(below), -1, keepdims=True))  # [n, 1]
    of_label = tf.gather(logits, labels, batch_dims=1) - highest[:, 0]  # [n]
    # If several classes share the highest logit, each counts as the prediction in equal part.
    tied = tf.reduce_sum(tf.cast(tf.equal(logits, highest), logits.dtype), -1)
    correct = tf.where(tf.equal(of_label, 0.0), 1.0 / tied, 0.0)
    mean_loss = log_sum[:, 0] - tf.reduce_mean(below, -1)
    return log_sum[:, 0] - of_label, mean_loss, correct, highest, log_sum


@_fused
def _cross_entropy_gradient(
    logits: tf.Tensor,
    labels: tf.Tensor,
    highest: tf.Tensor,
    log_sum: tf.Tensor,
    label_upstream: tf.Tensor,
    mean_upstream: tf.Tensor,
) -> tf.Tensor:
    classes = logits.shape[-1]
    probabilities = tf.exp(logits - highest - log_sum)
    is_label = tf.equal(tf.range(classes), labels[:, None])
    targets = tf.where(is_label, label_upstream[:, None], 0.0) + mean_upstream[:, None] / classes
    return probabilities * (label_upstream + mean_upstream)[:, None] - targets


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Softmax cross entropy of each prediction: logits float [n, classes], labels int32 [n].

    Returns:
        Tensors of the type of `logits`, of shape [n]: -log p(label); the mean of -log p over all
        classes, for label smoothing; and 1 if the label has the highest logit (1/m if m classes
        share it), without a gradient.
    """

    @tf.custom_gradient
    def losses(
        logits: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tf.Tensor]]:
        label_loss, mean_loss, correct, *normaliser = _cross_entropy(logits, labels)

        def gradient(*upstream: tf.Tensor) -> tf.Tensor:
            return _cross_entropy_gradient(logits, labels, *normaliser, *upstream[:2])

        return (label_loss, mean_loss, correct), gradient

    label_loss, mean_loss, correct = losses(logits)
    return label_loss, mean_loss, tf.stop_gradient(correct)
