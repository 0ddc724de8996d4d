"""Clipping by the global norm (Pascanu et al., 2013)."""

from collections.abc import Sequence

from lib.run import tf


def clip_by_global_norm(
    gradients: Sequence[tf.Tensor], clip_norm: float | None
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Scales gradients down so that their joint norm is at most `clip_norm`.

    The gradients have to be summed over all replicas first: clipping the gradients of each replica
    by itself gives another result.

    Args:
        gradients: Tensors of any shapes and any floating types.
        clip_norm: the maximum norm, above 0; None leaves the gradients as they are.

    Returns:
        The gradients as float32, and their norm before clipping: float32 scalar. If the norm is
        not finite (mostly by an overflow of float16), no scale could fix the gradients, and they
        are returned as they are: the caller has to check the norm and skip the step.
    """
    gradients = [tf.cast(gradient, tf.float32) for gradient in gradients]
    norm = tf.sqrt(2.0 * _sum_in_order([tf.nn.l2_loss(gradient) for gradient in gradients]))
    if clip_norm is None:
        return gradients, norm
    scale = tf.where(tf.math.is_finite(norm), clip_norm / tf.maximum(norm, clip_norm), 1.0)
    return [gradient * scale for gradient in gradients], norm


def _sum_in_order(values: Sequence[tf.Tensor]) -> tf.Tensor:
    """Sum of float32 scalars, from the first to the last.

    `tf.add_n` begins with whichever input has a buffer that it may overwrite, which is a matter of
    timing, so that its last bit differs from run to run. A chain of additions becomes an `add_n`
    in TensorFlow's optimizer.
    """
    return tf.cumsum(tf.stack(values))[-1]
