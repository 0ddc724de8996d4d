"""Elementwise work that is one pass over memory instead of ten: GELU, softmax cross entropy.

Matrix products are left to TensorFlow's kernels, which on CPUs are faster than XLA's. What lies
between them is bound by memory, and there XLA makes one loop of what TensorFlow makes an
operation each [m]: GELU with its gradient takes a third of the time so, the cross entropy over a
vocabulary a quarter. Accelerators get the same formulas without it; `pretrain.xla` compiles the
whole step there.
"""

import math
from collections.abc import Callable
from typing import Any

from lib.run import tf


def _on_cpu() -> bool:
    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def _fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of tensors, compiled by XLA where the model runs on CPUs."""
    compiled = tf.function(function, jit_compile=True, autograph=False)

    def call(*tensors: tf.Tensor) -> Any:
        return compiled(*tensors) if _on_cpu() else function(*tensors)

    return call


@_fused
def _gelu(values: tf.Tensor) -> tf.Tensor:
    return 0.5 * values * (1.0 + tf.math.erf(values * math.sqrt(0.5)))


@_fused
def _gelu_gradient(values: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    share = 0.5 * (1.0 + tf.math.erf(values * math.sqrt(0.5)))
    density = math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * values * values)
    return upstream * (share + values * density)


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
    """x times the normal distribution function of x (Hendrycks and Gimpel, 2016); any shape."""
    return _gelu(values), lambda upstream: _gelu_gradient(values, upstream)


@tf.custom_gradient
def gelu_new(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The tanh form of the same paper, which Google's BERT has."""
    return _gelu_new(values), lambda upstream: _gelu_new_gradient(values, upstream)


@_fused
def _cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
    highest = tf.reduce_max(logits, -1, keepdims=True)
    # Differences from the highest: a sum with a large logit would lose the last digits.
    below = logits - highest
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(below), -1, keepdims=True))
    own = tf.gather(logits, labels, batch_dims=1) - highest[:, 0]
    # Where several are highest, each is the answer in one case of so many.
    best = tf.reduce_sum(tf.cast(tf.equal(logits, highest), logits.dtype), -1)
    hits = tf.where(tf.equal(own, 0.0), 1.0 / best, 0.0)
    of_mean = log_sum[:, 0] - tf.reduce_mean(below, -1)
    return log_sum[:, 0] - own, of_mean, hits, highest, log_sum


@_fused
def _cross_entropy_gradient(
    logits: tf.Tensor,
    labels: tf.Tensor,
    highest: tf.Tensor,
    log_sum: tf.Tensor,
    of_label: tf.Tensor,
    of_mean: tf.Tensor,
) -> tf.Tensor:
    classes = logits.shape[-1]
    shares = tf.exp(logits - highest - log_sum)
    is_label = tf.equal(tf.range(classes), labels[:, None])
    taken = tf.where(is_label, of_label[:, None], 0.0) + of_mean[:, None] / classes
    return shares * (of_label + of_mean)[:, None] - taken


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Softmax cross entropy of each row.

    Args:
        logits: float Tensor of shape [N, classes].
        labels: int32 Tensor of shape [N].

    Returns:
        Tensors of the logits' type, of shape [N]: -log p(label); the mean of -log p over all
        classes, which label smoothing needs; 1 where the label has the highest logit (a part of
        it if it shares it), which has no gradient.
    """

    @tf.custom_gradient
    def losses(
        logits: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tf.Tensor]]:
        of_label, of_mean, hits, *sums = _cross_entropy(logits, labels)

        def gradient(*upstream: tf.Tensor) -> tf.Tensor:
            return _cross_entropy_gradient(logits, labels, *sums, *upstream[:2])

        return (of_label, of_mean, hits), gradient

    of_label, of_mean, hits = losses(logits)
    return of_label, of_mean, tf.stop_gradient(hits)
