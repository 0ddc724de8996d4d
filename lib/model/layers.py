"""The operations that BERT is made of, as functions of tensors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.model.fused import gelu, gelu_new
from lib.run import tf

Weights = Mapping[str, Any]
"""Variables or tensors by the names of the parameter table."""


class Dropout:
    """Stateless dropout: the mask is a function of (seed, step, microbatch, place) alone.

    A run that was killed and resumed therefore drops what the uninterrupted one drops.
    """

    def __init__(self, seed: tf.Tensor | None) -> None:
        """`seed`: int32 Tensor of shape [2], of this step and microbatch; None: no dropout."""
        self._seed = seed
        self._place = 0

    def at(self, number: int) -> "Dropout":
        """That of a part of the model: its places count from 1 whenever it is traced."""
        if self._seed is None:
            return self
        return Dropout(tf.random.experimental.stateless_fold_in(self._seed, number))

    def __call__(self, values: tf.Tensor, rate: float) -> tf.Tensor:
        """Each call in the trace of one forward pass is a place of its own.

        `rate` is rounded to 65,536ths: a value needs 16 random bits, and half of the time is
        spent on those.
        """
        dropped = round(rate * (1 << 16))
        if not dropped or self._seed is None:
            return values
        self._place += 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._place)
        shape = tf.shape(values)
        words = tf.random.stateless_uniform(
            [(tf.reduce_prod(shape) + 1) // 2], seed, None, None, tf.int32, "philox"
        )
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[: tf.reduce_prod(shape)]
        kept = tf.cast(bits >= tf.constant(dropped, tf.uint16), values.dtype)
        return values * tf.reshape(kept * (1.0 / (1.0 - dropped / (1 << 16))), shape)


NO_DROPOUT = Dropout(None)
"""Outside training."""


def embed(table: Any, ids: tf.Tensor) -> tf.Tensor:
    """Rows of a table, with a dense gradient.

    The gradient of tf.gather is a list of rows with duplicates, which an optimizer may square
    before it sums them; the MLM head shares the table and has a dense gradient anyhow.

    Args:
        table: float Tensor of shape [rows, H].
        ids: int32 Tensor of any shape.

    Returns:
        float Tensor of shape [*ids.shape, H].
    """
    rows = table.shape[0]

    @tf.custom_gradient
    def lookup(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(upstream, ids, rows)

        return tf.gather(values, ids), gradient

    return lookup(tf.convert_to_tensor(table))


def dense(weights: Weights, scope: str, values: tf.Tensor) -> tf.Tensor:
    """values [rows, inputs] times kernel [inputs, outputs], plus bias, in the values' type."""
    kernel, bias = (tf.cast(weights[f"{scope}/{part}"], values.dtype) for part in _DENSE)
    return tf.nn.bias_add(tf.matmul(values, kernel), bias)


def layer_norm(weights: Weights, scope: str, values: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Layer normalisation over the last axis (Ba et al., 2016), in the weights' type."""
    gamma, beta = (weights[f"{scope}/LayerNorm/{part}"] for part in ("gamma", "beta"))
    dtype, values = values.dtype, tf.cast(values, gamma.dtype)
    mean = tf.reduce_mean(values, -1, keepdims=True)
    centred = values - mean
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    scaled = centred * tf.math.rsqrt(variance + epsilon)
    return tf.cast(scaled * gamma + beta, dtype)


def activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """`gelu` is the erf form, `gelu_new` Google's tanh form: mixing them costs 1e-3 in logits."""
    return {"relu": tf.nn.relu, "gelu": gelu, "gelu_new": gelu_new}[name]


def cells(hidden: tf.Tensor, columns: tf.Tensor, length: int) -> tf.Tensor:
    """Some columns of each row: [B * S, H] and int32 [B, N] -> [B * N, H]; `length` is S."""
    rows = tf.range(tf.shape(columns)[0])[:, None] * length + columns
    # Gathered from a flat table: its dense gradient is one segment sum.
    return tf.gather(hidden, tf.reshape(rows, [-1]))


def self_attention(
    weights: Weights,
    scope: str,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    heads: int,
    dropout: Dropout,
    rate: float,
    columns: tf.Tensor | None = None,
) -> tf.Tensor:
    """Scaled dot-product attention of every token to its row.

    B batch, S sequence, N heads, D head size, H = N * D, C columns.

    Args:
        hidden: float Tensor of shape [B * S, H].
        bias: Tensor of shape [B, 1, 1 or S, S], 0 where attention is allowed; the softmax is
            computed in its type.
        columns: int32 Tensor of shape [B, C]: the tokens of each row whose attention is wanted, if
            not that of all.

    Returns:
        float Tensor of shape [B * S, H], or [B * C, H].
    """
    batch, length = tf.shape(bias)[0], bias.shape[-1]
    size = hidden.shape[-1]
    head_size = size // heads

    def projected(values: tf.Tensor, tokens: int, parts: Sequence[str]) -> list[tf.Tensor]:
        """[B, N, tokens, D] of each part, by one wide product instead of several narrow ones."""
        kernel = tf.concat([weights[f"{scope}/{part}/kernel"] for part in parts], axis=1)
        offset = tf.concat([weights[f"{scope}/{part}/bias"] for part in parts], axis=0)
        kernel, offset = (tf.cast(part, values.dtype) for part in (kernel, offset))
        fused = tf.nn.bias_add(tf.matmul(values, kernel), offset)
        fused = tf.reshape(fused, [batch, tokens, len(parts), heads, head_size])
        return tf.unstack(tf.transpose(fused, [2, 0, 3, 1, 4]), len(parts))

    if columns is None:
        query, key, value = projected(hidden, length, ("query", "key", "value"))
    else:
        own = cells(hidden, columns, length)
        (query,) = projected(own, columns.shape[1], ("query",))
        key, value = projected(hidden, length, ("key", "value"))
        if bias.shape[2] != 1:
            bias = tf.gather(bias, columns, axis=2, batch_dims=1)
    scores = tf.matmul(query * head_size**-0.5, key, transpose_b=True)
    shares = tf.nn.softmax(tf.cast(scores, bias.dtype) + bias)
    shares = dropout(tf.cast(shares, hidden.dtype), rate)
    context = tf.transpose(tf.matmul(shares, value), [0, 2, 1, 3])
    return tf.reshape(context, [-1, size])


_DENSE = ("kernel", "bias")
