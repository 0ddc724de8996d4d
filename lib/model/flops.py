"""Floating-point operations of training, and the peak rate of a device.

Model FLOPs utilisation is the former per second over the latter.
"""

from __future__ import annotations

import math
import time

from lib.model.encoder_config import EncoderConfig
from lib.run import tf

# Long compared with launching a product (tens of microseconds), short compared with a training run.
_SECONDS = 0.02
_SMALLEST, _LARGEST = 256, 8192


def training_flops(
    config: EncoderConfig,
    sequences: int,
    length: int,
    predictions: int,
    examples: int,
    next_sentence: bool,
) -> float:
    """Floating-point operations of the forward and backward pass of one batch.

    This is what model FLOPs utilisation is computed from (Chowdhery et al., 2022, PaLM, appendix B,
    after Kaplan et al., 2020, section 2.1): two operations for each multiply-add of a matrix
    product, and twice as many backward as forward, for the gradients of both factors. Padding
    counts, as it is computed; what the last layer omits does not.

    Left out: biases, activations, normalisation, softmax, dropout, embeddings (looked up; for the
    two segments by a product), losses, clipping and the optimizer; and recomputation by gradient
    checkpointing, which is a cost and not progress.

    Args:
        sequences: in the batch.
        length: tokens per sequence, padding included.
        predictions: masked positions per sequence, those of weight 0 included.
        examples: examples per sequence: 1, or as many as a packed one has room for.
        next_sentence: whether the NSP head is trained; without it there is no pooler either.
    """
    size, tokens, layers = config.hidden_size, sequences * length, config.num_hidden_layers
    # Of each layer: query, key, value and output, then the matrices of the feed-forward part.
    matrices = [p.shape for p in config.parameter_table() if p.matrices]
    weights = sum(map(math.prod, matrices)) // layers
    # The scores of a token with the tokens that it attends to, and the mean of their values.
    attention = [2 * size * config.attention_span(layer, length) for layer in range(layers)]
    multiply_adds = tokens * (layers * weights + sum(attention))
    # The last layer computes keys and values of all tokens, the rest where the heads need it.
    positions = predictions + (examples if next_sentence else 0)
    multiply_adds -= sequences * (length - positions) * (weights - 2 * size * size + attention[-1])
    multiply_adds += sequences * predictions * size * (size + config.vocab_size)
    if next_sentence:
        multiply_adds += sequences * examples * size * (size + 2)
    return 3.0 * 2.0 * multiply_adds


def matmul_peak(precision: str) -> float:
    """Peak FLOP/s of the first device: the best of several large square matrix products.

    Measuring takes some tenths of a second. Devices that compute float32 products in a lower
    precision (TF32 on GPUs, bfloat16 passes on TPUs) do so here as in training. A device that is
    also used by others gives a lower peak.

    Args:
        precision: of the factors: float32, bfloat16 or float16.
    """
    devices = [
        device.name
        for kind in ("TPU", "GPU", "CPU")
        for device in tf.config.list_logical_devices(kind)
    ]
    size, products, peak, seconds = _SMALLEST, 1, 0.0, 0.0
    with tf.device(devices[0]):
        while seconds < _SECONDS:
            # Random, as a product of equal numbers takes less power; stateless, so that no other
            # random numbers change.
            factor = tf.random.stateless_uniform([size, size], [0, size])
            factor = tf.cast(factor, precision)
            # The first product of a size may include the choice of a kernel.
            seconds = min(_seconds(factor, products) for _ in range(3))
            peak = max(peak, 2.0 * products * size**3 / seconds)
            if size < _LARGEST:
                size *= 2
            else:
                products *= 2
    return peak


def _seconds(factor: tf.Tensor, products: int) -> float:
    """Wall time of consecutive products."""
    started = time.perf_counter()
    for _ in range(products):
        product = tf.matmul(factor, factor)
    # Reading a value waits for the device.
    product[0, 0].numpy()
    return time.perf_counter() - started
