"""ModernBERT (Warner et al., 2024): encoder and MLM head.

It differs from BERT in that a sublayer is given normalised input and adds to a stream that is not
normalised; positions are rotations of queries and keys, by their distance; the feed-forward part
has a gate; there are no biases; and most layers are local. transformers' modeling_modernbert.py
decides what is right.

Shapes: as in `lib.model.bert`; N heads of size D.
"""

from functools import partial

import numpy as np

from lib.model.fused import geglu, rotated
from lib.model.layers import (
    NO_DROPOUT,
    Batch,
    Dropout,
    Weights,
    activation,
    attended,
    banded_attention,
    embed,
    gather_positions,
    masked_scores,
    may_attend,
    normalised,
    scores_at,
    split_heads,
    tied_logits,
)
from lib.model.modernbert_config import OUTPUT_BIAS, WORDS, ModernBertConfig
from lib.run import tf


def encode(
    weights: Weights,
    config: ModernBertConfig,
    batch: Batch,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
    positions: tf.Tensor | None = None,
) -> tf.Tensor:
    """Hidden states after the final normalisation; see `lib.model.bert.encode`.

    Segments have no effect. Where sequences are longer than twice the window, local layers compute
    the scores of neighbouring tokens only.
    """
    length = batch["input_ids"].shape[1]
    words = embed(weights[WORDS], batch["input_ids"])  # [B, S, H]
    hidden = tf.reshape(words, [-1, config.hidden_size])  # [B, S, H] -> [B * S, H]
    hidden = normalised(hidden, weights["embeddings/norm"], None, config.norm_eps)
    hidden = dropout(hidden, config.embedding_dropout)
    hidden = tf.cast(hidden, precision or words.dtype)

    allowed = may_attend(batch)
    everywhere = masked_scores(allowed, words.dtype)
    places = tf.range(length)  # [S]
    nearby: tf.Tensor | None = None
    if not config.in_bands(length) and config.num_hidden_layers > 1:
        near = tf.abs(places[:, None] - places) <= config.reach  # [S, S]
        nearby = masked_scores(allowed & near, words.dtype)
    turns: dict[bool, tuple[tf.Tensor, tf.Tensor]] = {}  # of global and of local layers
    last = config.num_hidden_layers - 1
    for number in range(config.num_hidden_layers):
        is_global = config.is_global(number)
        scope = f"layers/{number}/"
        own = {name: value for name, value in weights.items() if name.startswith(scope)}
        layer = partial(
            _layer,
            config,
            dropout,
            number,
            positions if number == last else None,
            gradient_checkpointing,
            batch if config.is_banded(number, length) else None,
        )
        if is_global not in turns:
            frequencies = config.frequencies(number)
            turns[is_global] = _turns(length, batch.get("position_ids"), frequencies)
        bias = everywhere if is_global or nearby is None else nearby
        hidden = (tf.recompute_grad(layer) if gradient_checkpointing else layer)(
            hidden, bias, *turns[is_global], own
        )
    hidden = normalised(hidden, weights["final_norm"], None, config.norm_eps)
    # [B * S, H] -> [B, S, H], or [B * C, H] -> [B, C, H]
    computed = length if positions is None else positions.shape[1]
    return tf.reshape(hidden, [-1, computed, config.hidden_size])


def _turns(
    length: int, position_ids: tf.Tensor | None, frequencies: np.ndarray
) -> tuple[tf.Tensor, tf.Tensor]:
    """Cosines and sines of the angles at each token's position: [B or 1, 1, S, D / 2].

    Args:
        frequencies: radians per token, [D / 2].
    """
    places = tf.range(length, dtype=tf.float32)
    angles = places[:, None] * frequencies.astype(np.float32)  # [S, D / 2]
    cosines, sines = (
        table[None] if position_ids is None else tf.gather(table, position_ids)
        for table in (tf.cos(angles), tf.sin(angles))
    )
    return cosines[:, None], sines[:, None]


def _layer(
    config: ModernBertConfig,
    dropout: Dropout,
    number: int,
    positions: tf.Tensor | None,
    late_masks: bool,
    bands: Batch | None,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    cosines: tf.Tensor,
    sines: tf.Tensor,
    weights: Weights,
) -> tf.Tensor:
    """One layer: [B * S, H] -> [B * S, H], or [B * C, H] with `positions`.

    Args:
        late_masks: see `lib.model.bert`.
        bands: the batch, if attention is computed in bands.
        bias: what to add to the scores, if it is not.
        cosines, sines: [B or 1, 1, S, D / 2].
    """
    layer = f"layers/{number}"
    dropout = dropout.fold_in(number, hidden if late_masks else None)
    epsilon, length = config.norm_eps, bias.shape[-1]
    values = hidden
    if number:
        values = normalised(hidden, weights[f"{layer}/attn_norm"], None, epsilon)
    matrix = tf.cast(weights[f"{layer}/attn/Wqkv"], hidden.dtype)
    heads, size = config.num_attention_heads, config.hidden_size
    dtype = hidden.dtype

    def turned(states: tf.Tensor, cosines: tf.Tensor, sines: tf.Tensor) -> tf.Tensor:
        return rotated(states, tf.cast(cosines, dtype), tf.cast(sines, dtype))

    computed = None if positions is None or bands is not None else positions
    if computed is None:
        query, key, value = split_heads(tf.matmul(values, matrix), length, heads, 3)
        query = turned(query, cosines, sines)
    else:
        own = gather_positions(values, computed, length)
        (query,) = split_heads(tf.matmul(own, matrix[:, :size]), computed.shape[1], heads, 1)
        key, value = split_heads(tf.matmul(values, matrix[:, size:]), length, heads, 2)
        query = turned(query, _at(cosines, computed), _at(sines, computed))
        bias = scores_at(bias, computed)
    key = turned(key, cosines, sines)
    rate = config.attention_dropout
    if bands is None:
        context = attended(query, key, value, bias, dropout, rate)
    else:
        context = banded_attention(
            query, key, value, bands, config.reach, bias.dtype, dropout, rate
        )
    if positions is not None:
        hidden = gather_positions(hidden, positions, length)  # [B * S, H] -> [B * C, H]
        if computed is None:
            context = gather_positions(context, positions, length)
    output = tf.matmul(context, tf.cast(weights[f"{layer}/attn/Wo"], dtype))
    hidden += dropout(output, rate)
    values = normalised(hidden, weights[f"{layer}/mlp_norm"], None, epsilon)
    inner = _gated(config, tf.matmul(values, tf.cast(weights[f"{layer}/mlp/Wi"], dtype)))
    inner = dropout(inner, config.mlp_dropout)
    return hidden + tf.matmul(inner, tf.cast(weights[f"{layer}/mlp/Wo"], dtype))


def _at(angles: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """Functions of the angles at some positions: [B or 1, 1, S, D / 2] -> [B, 1, C, D / 2]."""
    if angles.shape[0] == 1:
        return tf.gather(angles[0, 0], positions)[:, None]
    return tf.gather(angles, positions, axis=2, batch_dims=1)


def _gated(config: ModernBertConfig, values: tf.Tensor) -> tf.Tensor:
    """[n, 2 I] -> [n, I]"""
    if config.hidden_activation == "gelu":
        return geglu(values)
    gated, gate = tf.split(values, 2, axis=-1)
    return activation(config.hidden_activation)(gated) * gate


def masked_lm_logits(weights: Weights, config: ModernBertConfig, hidden: tf.Tensor) -> tf.Tensor:
    """Logits of the MLM head over the vocabulary: [B, P, H] -> [B, P, V]."""
    flat = tf.reshape(hidden, [-1, config.hidden_size])  # [B, P, H] -> [B * P, H]
    states = _head(weights, config, flat)
    logits = tied_logits(states, weights[WORDS], weights[OUTPUT_BIAS])
    return tf.reshape(logits, [-1, hidden.shape[1], config.vocab_size])  # [B, P, V]


def classification_states(
    weights: Weights, config: ModernBertConfig, hidden: tf.Tensor, per_token: bool
) -> tf.Tensor:
    """What a classifier on top of the model is given: [n, H] -> [n, H]."""
    del per_token
    return _head(weights, config, hidden)


def _head(weights: Weights, config: ModernBertConfig, states: tf.Tensor) -> tf.Tensor:
    """The part of the heads that all have in common: [n, H] -> [n, H]."""
    states = tf.matmul(states, tf.cast(weights["head/dense"], states.dtype))
    states = activation(config.hidden_activation)(states)
    return normalised(states, weights["head/norm"], None, config.norm_eps)
