"""Clipping by the global norm (Pascanu et al., 2013)."""

from collections.abc import Sequence

from lib.run import tf


def clip_by_global_norm(
    gradients: Sequence[tf.Tensor], clip_norm: float | None
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Gradients of at most this norm, taken over all of them together.

    The gradients should be summed over all replicas before: clipping each replica's own is a
    different, wrong, thing.

    Args:
        gradients: Tensors of any shapes and any floating types.
        clip_norm: the largest norm, above 0; None leaves the gradients as they are.

    Returns:
        The gradients as float32, and their norm before clipping: float32 scalar. Where the norm
        is not finite (an overflow of float16, most often) no scale would mend the gradients, and
        they are left as they are: the caller has to look at the norm, and to skip the step.
    """
    gradients = [tf.cast(gradient, tf.float32) for gradient in gradients]
    norm = tf.sqrt(2.0 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in gradients]))
    if clip_norm is None:
        return gradients, norm
    scale = tf.where(tf.math.is_finite(norm), clip_norm / tf.maximum(norm, clip_norm), 1.0)
    return [gradient * scale for gradient in gradients], norm
