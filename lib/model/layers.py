"""Layers of BERT as functions of weights and tensors: dropout, embedding, dense, attention.

Shapes: B sequences in the batch, S tokens per sequence, N attention heads, D size of a head,
H = N * D hidden size, C positions that are computed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lib.model.fused import gelu, gelu_new
from lib.run import tf

Weights = Mapping[str, Any]
"""Variables or tensors by name in the parameter table."""


class Dropout:
    """Stateless dropout: the mask is a function of (seed, step, microbatch, call site) only.

    So a run that was killed and resumed drops the same values as an uninterrupted one. Compiled by
    XLA, which treats negative seeds otherwise, it drops others.
    """

    def __init__(self, seed: tf.Tensor | None) -> None:
        """`seed`: int32 [2], different for each step and microbatch; None: no dropout."""
        self._seed = seed
        self._calls = 0

    def fold_in(self, number: int, after: tf.Tensor | None = None) -> "Dropout":
        """Dropout for one layer, with call sites of its own.

        They count from 1 whenever the layer is traced, so that gradient checkpointing, which
        traces it a second time, drops the same values.

        Args:
            after: a tensor before which no mask is made. Masks need nothing but the seed:
                otherwise TensorFlow makes those of all layers at once, at the start of the step.
        """
        if self._seed is None:
            return self
        seed = tf.random.experimental.stateless_fold_in(self._seed, number)
        if after is not None:
            with tf.control_dependencies([after]):
                seed = tf.identity(seed)
        return Dropout(seed)

    def __call__(self, values: tf.Tensor, rate: float) -> tf.Tensor:
        """Sets a fraction `rate` of the values to 0 and scales the others up; any shape.

        Each call in the trace of a forward pass is a call site of its own. `rate` is rounded to a
        multiple of 1/65,536: a value then needs 16 random bits, which take half of the time.
        """
        dropped = round(rate * (1 << 16))
        if not dropped or self._seed is None:
            return values
        self._calls += 1
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._calls)
        shape = tf.shape(values)
        words = tf.random.stateless_uniform(
            [(tf.reduce_prod(shape) + 1) // 2], seed, None, None, tf.int32, "philox"
        )
        # int32 [n / 2] -> uint16 [n / 2, 2] -> [n], one for each value
        bits = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[: tf.reduce_prod(shape)]
        kept = tf.cast(bits >= tf.constant(dropped, tf.uint16), values.dtype)
        scale = 1.0 / (1.0 - dropped / (1 << 16))
        if values.dtype.size < 4:
            # In float32: rounded to bfloat16, the scale of rate 0.1 is 0.16 % too small.
            scaled = tf.cast(tf.cast(values, tf.float32) * scale, values.dtype)
            return scaled * tf.reshape(kept, shape)
        return values * tf.reshape(kept * scale, shape)


NO_DROPOUT = Dropout(None)
"""For evaluation."""


def embed(table: Any, ids: tf.Tensor) -> tf.Tensor:
    """Looks up entries of a table; the gradient is dense.

    The gradient of tf.gather is a list of (entry, gradient) with duplicates, which an optimizer
    might square before it adds them up. The MLM head shares the table and has a dense gradient
    in any case.

    Args:
        table: float [entries, H].
        ids: int32 Tensor of any shape.

    Returns:
        float [*ids.shape, H].
    """
    entries = table.shape[0]

    @tf.custom_gradient
    def lookup(values: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.math.unsorted_segment_sum(upstream, ids, entries)

        return tf.gather(values, ids), gradient

    return lookup(tf.convert_to_tensor(table))


def dense(weights: Weights, scope: str, values: tf.Tensor) -> tf.Tensor:
    """values [n, inputs] times kernel [inputs, outputs], plus bias, in the type of `values`."""
    kernel, bias = (tf.cast(weights[f"{scope}/{part}"], values.dtype) for part in _DENSE)
    return tf.nn.bias_add(tf.matmul(values, kernel), bias)


def layer_norm(weights: Weights, scope: str, values: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Layer normalisation over the last axis (Ba et al., 2016), in the type of the weights."""
    gamma, beta = (weights[f"{scope}/LayerNorm/{part}"] for part in ("gamma", "beta"))
    dtype, values = values.dtype, tf.cast(values, gamma.dtype)
    mean = tf.reduce_mean(values, -1, keepdims=True)
    centred = values - mean
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    scaled = centred * tf.math.rsqrt(variance + epsilon)
    return tf.cast(scaled * gamma + beta, dtype)


def activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The activation function: relu, gelu (erf form) or gelu_new (Google's tanh form).

    Confusing the two forms changes logits by about 1e-3.
    """
    return {"relu": tf.nn.relu, "gelu": gelu, "gelu_new": gelu_new}[name]


def gather_positions(hidden: tf.Tensor, positions: tf.Tensor, length: int) -> tf.Tensor:
    """States at some positions of each sequence: [B * S, H] and int32 [B, C] -> [B * C, H].

    Args:
        length: S.
    """
    offsets = tf.range(tf.shape(positions)[0])[:, None] * length + positions  # [B, C]
    # From a flat table, so that the gradient is dense and one segment sum.
    return tf.gather(hidden, tf.reshape(offsets, [-1]))


def self_attention(
    weights: Weights,
    scope: str,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    heads: int,
    dropout: Dropout,
    rate: float,
    positions: tf.Tensor | None = None,
) -> tf.Tensor:
    """Scaled dot-product attention of every token to the tokens of its sequence.

    Args:
        hidden: float [B * S, H].
        bias: [B, 1, 1 or S, S], added to the scores: 0 where attention is allowed, very negative
            elsewhere. The softmax is computed in its type.
        positions: int32 [B, C]: the tokens whose attention is needed, if not all.

    Returns:
        float [B * S, H], or [B * C, H] with `positions`.
    """
    batch, length = tf.shape(bias)[0], bias.shape[-1]
    size = hidden.shape[-1]
    head_size = size // heads

    def projected(values: tf.Tensor, tokens: int, parts: Sequence[str]) -> list[tf.Tensor]:
        """Each part as [B, N, tokens, D], by one wide product instead of several narrow ones."""
        kernel = tf.concat([weights[f"{scope}/{part}/kernel"] for part in parts], axis=1)
        offset = tf.concat([weights[f"{scope}/{part}/bias"] for part in parts], axis=0)
        kernel, offset = (tf.cast(part, values.dtype) for part in (kernel, offset))
        # [B * tokens, H] x [H, parts * H] -> [B * tokens, parts * H]
        fused = tf.nn.bias_add(tf.matmul(values, kernel), offset)
        # -> [B, tokens, parts, N, D] -> [parts, B, N, tokens, D]
        fused = tf.reshape(fused, [batch, tokens, len(parts), heads, head_size])
        return tf.unstack(tf.transpose(fused, [2, 0, 3, 1, 4]), len(parts))

    if positions is None:
        query, key, value = projected(hidden, length, ("query", "key", "value"))
    else:
        own = gather_positions(hidden, positions, length)
        (query,) = projected(own, positions.shape[1], ("query",))
        key, value = projected(hidden, length, ("key", "value"))
        if bias.shape[2] != 1:
            bias = tf.gather(bias, positions, axis=2, batch_dims=1)  # [B, 1, S, S] -> [B, 1, C, S]
    # [B, N, S, D] x [B, N, D, S] -> [B, N, S, S]; with `positions` C queries in place of S
    scores = tf.matmul(query * head_size**-0.5, key, transpose_b=True)
    probabilities = tf.nn.softmax(tf.cast(scores, bias.dtype) + bias)
    probabilities = dropout(tf.cast(probabilities, hidden.dtype), rate)
    # [B, N, S, S] x [B, N, S, D] -> [B, N, S, D] -> [B, S, N, D]
    context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])
    return tf.reshape(context, [-1, size])  # [B * S, H]


_DENSE = ("kernel", "bias")
