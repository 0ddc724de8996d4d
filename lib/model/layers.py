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
Batch = Mapping[str, tf.Tensor]
"""Features of sequences by name, see `lib.model.losses.loss_sums`."""


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
    """Looks up entries of a table [entries, H] by int32 ids of any shape; the gradient is dense.

    The gradient of tf.gather is a list of (entry, gradient) with duplicates, which an optimizer
    might square before it adds them up. The MLM head shares the table and has a dense gradient
    in any case.
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
    kernel, bias = (
        tf.cast(weights[f"{scope}/{part}"], values.dtype) for part in ("kernel", "bias")
    )
    return tf.nn.bias_add(tf.matmul(values, kernel), bias)


def layer_norm(weights: Weights, scope: str, values: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Layer normalisation over the last axis (Ba et al., 2016), in the type of the weights."""
    gamma, beta = (weights[f"{scope}/LayerNorm/{part}"] for part in ("gamma", "beta"))
    return normalised(values, gamma, beta, epsilon)


def normalised(
    values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor | None, epsilon: float
) -> tf.Tensor:
    """Layer normalisation by its gain and, unless None, its offset."""
    dtype, values = values.dtype, tf.cast(values, gamma.dtype)
    mean = tf.reduce_mean(values, -1, keepdims=True)
    centred = values - mean
    variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
    scaled = centred * tf.math.rsqrt(variance + epsilon)
    scaled *= gamma
    return tf.cast(scaled if beta is None else scaled + beta, dtype)


def activation(name: str) -> Callable[[tf.Tensor], tf.Tensor]:
    """The activation function: relu, gelu (erf form) or gelu_new (Google's tanh form).

    Confusing the two forms changes logits by about 1e-3.
    """
    return {"relu": tf.nn.relu, "gelu": gelu, "gelu_new": gelu_new}[name]


# Added to attention scores that the mask forbids: far below any score, yet safe in half precision.
_MASKED_SCORE = -10000.0


def example_ids(batch: Batch) -> tf.Tensor:
    """int32 [B, S]: the number of the example that a token belongs to, from 1; 0 for padding.

    In a sequence of one example this is Google's `input_mask`.
    """
    return batch["example_ids" if "example_ids" in batch else "input_mask"]


def may_attend(batch: Batch) -> tf.Tensor:
    """Whether a token (axis 2) may attend to another (axis 3): bool [B, 1, 1 or S, S]."""
    ids = example_ids(batch)
    allowed = ids[:, None, None, :] > 0  # [B, 1, 1, S]
    if "position_ids" in batch:  # packed: [B, 1, S, S]
        allowed &= ids[:, None, :, None] == ids[:, None, None, :]
    return allowed


def masked_scores(allowed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """What to add to attention scores: 0 where attention is allowed, very negative elsewhere."""
    return (1.0 - tf.cast(allowed, dtype)) * _MASKED_SCORE


def scores_at(bias: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """What to add to the scores of some positions: [B, 1, 1 or S, S] -> [B, 1, 1 or C, S]."""
    return bias if bias.shape[2] == 1 else tf.gather(bias, positions, axis=2, batch_dims=1)


def tied_logits(states: tf.Tensor, table: Any, bias: Any) -> tf.Tensor:
    """Logits of an output layer whose matrix is the table of token embeddings.

    States [n, H], table [V, H], bias [V] -> [n, V], in the type of the bias.
    """
    logits = tf.matmul(states, tf.cast(table, states.dtype), transpose_b=True)
    return tf.nn.bias_add(tf.cast(logits, bias.dtype), bias)


def gather_positions(hidden: tf.Tensor, positions: tf.Tensor, length: int) -> tf.Tensor:
    """States at positions [B, C] of sequences of `length` tokens: [B * S, H] -> [B * C, H]."""
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
    """Scaled dot-product attention of every token to the tokens of its sequence; see `attended`.

    Args:
        hidden: float [B * S, H].
        bias: [B, 1, 1 or S, S].
        positions: int32 [B, C]: the tokens whose attention is needed, if not all.

    Returns:
        float [B * S, H], or [B * C, H] with `positions`.
    """
    length = bias.shape[-1]

    def projected(values: tf.Tensor, tokens: int, parts: Sequence[str]) -> list[tf.Tensor]:
        """Each part as [B, N, tokens, D], by one wide product instead of several narrow ones."""
        kernel = tf.concat([weights[f"{scope}/{part}/kernel"] for part in parts], axis=1)
        offset = tf.concat([weights[f"{scope}/{part}/bias"] for part in parts], axis=0)
        kernel, offset = (tf.cast(part, values.dtype) for part in (kernel, offset))
        fused = tf.nn.bias_add(tf.matmul(values, kernel), offset)
        return split_heads(fused, tokens, heads, len(parts))

    if positions is None:
        query, key, value = projected(hidden, length, ("query", "key", "value"))
    else:
        own = gather_positions(hidden, positions, length)
        (query,) = projected(own, positions.shape[1], ("query",))
        key, value = projected(hidden, length, ("key", "value"))
        bias = scores_at(bias, positions)
    return attended(query, key, value, bias, dropout, rate)


def split_heads(values: tf.Tensor, tokens: int, heads: int, parts: int) -> list[tf.Tensor]:
    """Queries, keys, values, or some of them: [B * S, parts * H] -> parts x [B, N, S, D]."""
    head_size = values.shape[-1] // (parts * heads)
    # -> [B, S, parts, N, D] -> [parts, B, N, S, D]
    values = tf.reshape(values, [-1, tokens, parts, heads, head_size])
    return tf.unstack(tf.transpose(values, [2, 0, 3, 1, 4]), parts)


def attended(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    bias: tf.Tensor,
    dropout: Dropout,
    rate: float,
) -> tf.Tensor:
    """Mean of the values of all tokens, by the softmax of scaled products of query and key.

    Query [B, N, C, D], key and value [B, N, S, D] -> [B * C, H]. The bias [B, 1, 1 or C, S], which
    is added to the scores, is 0 where attention is allowed and very negative elsewhere. The softmax
    is computed in its type.
    """
    heads, head_size = query.shape[1], query.shape[-1]
    # [B, N, C, D] x [B, N, D, S] -> [B, N, C, S]
    scores = tf.matmul(query * head_size**-0.5, key, transpose_b=True)
    probabilities = tf.nn.softmax(tf.cast(scores, bias.dtype) + bias)
    probabilities = dropout(tf.cast(probabilities, query.dtype), rate)
    # [B, N, C, S] x [B, N, S, D] -> [B, N, C, D] -> [B, C, N, D]
    context = tf.transpose(tf.matmul(probabilities, value), [0, 2, 1, 3])
    return tf.reshape(context, [-1, heads * head_size])  # [B * C, H]


def banded_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    batch: Batch,
    reach: int,
    dtype: tf.DType,
    dropout: Dropout,
    rate: float,
) -> tf.Tensor:
    """`attended` of tokens at most `reach` away, in time and memory linear in S.

    Queries are taken in blocks of `reach` tokens, and each block sees the keys of three:

        keys       0 1 | 2 3 | 4 5 | 6 7       reach 2
        block 1    x x   q q   x x             tokens 2 and 3 with 0 to 5

    Query, key and value [B, N, S, D] -> [B * S, H]; `dtype` is that of the softmax.
    """
    heads, length, head_size = query.shape[1:]
    blocks = -(-length // reach)
    rest = blocks * reach - length

    def in_blocks(values: tf.Tensor, around: int) -> tf.Tensor:
        """[..., S, x] -> [..., blocks, (1 + 2 around) reach, x], with zeros beyond the ends."""
        pads = [[0, 0]] * (values.shape.rank - 2)
        pads += [[around * reach, rest + around * reach], [0, 0]]
        padded = tf.pad(values, pads)
        front, last = tf.shape(padded)[:-2], values.shape[-1]
        shape = tf.concat([front, [blocks + 2 * around, reach, last]], 0)
        parts = tf.reshape(padded, shape)
        if not around:
            return parts
        return tf.concat([parts[..., start : start + blocks, :, :] for start in range(3)], -2)

    queries = in_blocks(query * head_size**-0.5, 0)  # [B, N, blocks, R, D]
    keys, values = in_blocks(key, 1), in_blocks(value, 1)  # [B, N, blocks, 3 R, D]
    ids = example_ids(batch)[:, None, :, None]  # [B, 1, S, 1]
    of_keys = in_blocks(ids, 1)[..., 0][..., None, :]  # [B, 1, blocks, 1, 3 R]
    places = tf.range(reach)
    near = tf.abs(tf.range(3 * reach) - reach - places[:, None]) <= reach  # [R, 3 R]
    allowed = (of_keys > 0) & near
    if "position_ids" in batch:
        allowed &= in_blocks(ids, 0) == of_keys  # [B, 1, blocks, R, 3 R]
    scores = tf.matmul(queries, keys, transpose_b=True)  # [B, N, blocks, R, 3 R]
    probabilities = tf.nn.softmax(tf.cast(scores, dtype) + masked_scores(allowed, dtype))
    probabilities = dropout(tf.cast(probabilities, query.dtype), rate)
    context = tf.matmul(probabilities, values)  # [B, N, blocks, R, D]
    context = tf.reshape(context, [-1, heads, blocks * reach, head_size])[:, :, :length]
    return tf.reshape(tf.transpose(context, [0, 2, 1, 3]), [-1, heads * head_size])  # [B * S, H]
