"""Arithmetic of training, and the most of it that a device was seen to do."""

from __future__ import annotations

import time

from lib.model.config import BertConfig
from lib.run import tf

# Long beside the start of a product (tens of microseconds), short beside a training run.
_SECONDS = 0.02
_SMALLEST, _LARGEST = 256, 8192


def training_flops(
    config: BertConfig,
    rows: int,
    length: int,
    predictions: int,
    examples: int,
    next_sentence: bool,
) -> float:
    """Floating-point operations of the forward and the backward pass of one batch.

    What model FLOPs utilisation is made of (Chowdhery et al., 2022, PaLM, appendix B, after Kaplan
    et al., 2020, section 2.1): two operations for each multiply-add of a matrix product, and twice
    as many backward as forward, for the gradients of both factors. Padding counts, as it is
    computed; what the last layer leaves out does not.

    Left out: biases, activations, normalisation, softmax, dropout, the embeddings (looked up, if
    the two segments by a product), the losses, clipping and the optimizer; and what recomputation
    makes a second time, which is a cost and no progress.

    Args:
        rows: of the batch.
        length: tokens of a row, padding included.
        predictions: masked positions of a row, those without a weight included.
        examples: examples of a row: 1, or as many as a packed one has room for.
        next_sentence: whether the NSP head is trained; without it there is no pooler either.
    """
    size, tokens = config.hidden_size, rows * length
    # Query, key, value and output, then the two of the feed-forward part.
    weights = 4 * size * size + 2 * size * config.intermediate_size
    # A token's score with every token of its row, and the mean of their values.
    attention = 2 * length * size
    multiply_adds = config.num_hidden_layers * tokens * (weights + attention)
    # Of the last layer, keys and values of all tokens, the rest at the columns that heads look at.
    columns = predictions + (examples if next_sentence else 0)
    multiply_adds -= rows * (length - columns) * (weights - 2 * size * size + attention)
    multiply_adds += rows * predictions * size * (size + config.vocab_size)
    if next_sentence:
        multiply_adds += rows * examples * size * (size + 2)
    return 3.0 * 2.0 * multiply_adds


def matmul_peak(precision: str) -> float:
    """FLOP/s of a large square matrix product on the first device: the best that was measured.

    It takes some tenths of a second. Where the device makes float32 products in less (TF32 on
    GPUs, bfloat16 passes on TPUs), it does so here, as it does in training. A device that works
    for others at the same time shows less.

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
            # Random, as a product of equal numbers takes less power; stateless, as others draw too.
            factor = tf.random.stateless_uniform([size, size], [0, size])
            factor = tf.cast(factor, precision)
            # The first of a size may have to choose its kernel.
            seconds = min(_seconds(factor, products) for _ in range(3))
            peak = max(peak, 2.0 * products * size**3 / seconds)
            if size < _LARGEST:
                size *= 2
            else:
                products *= 2
    return peak


def _seconds(factor: tf.Tensor, products: int) -> float:
    """Wall time of some products, one after the other."""
    started = time.perf_counter()
    for _ in range(products):
        product = tf.matmul(factor, factor)
    # A value that is read waits for the device.
    product[0, 0].numpy()
    return time.perf_counter() - started
