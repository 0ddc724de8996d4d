"""BERT for pretraining (Devlin et al., 2019): encoder, MLM head and NSP head.

B is the batch, S the sequence length, H the hidden size, P the predictions a row, V the
vocabulary.
"""

from collections.abc import Callable

import tensorflow as tf

from lib.model.config import BertConfig
from lib.model.layers import (
    Weights,
    activation,
    dense,
    embed,
    layer_norm,
    no_dropout,
    self_attention,
)

# Added to the scores of padding: far below any score, yet safe in half precision.
_MASKED_SCORE = -10000.0

DropoutFunction = Callable[[tf.Tensor, float], tf.Tensor]


def encode(
    weights: Weights,
    config: BertConfig,
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout: DropoutFunction = no_dropout,
) -> tf.Tensor:
    """Hidden states of the last layer.

    Args:
        input_ids: int32 Tensor of shape [B, S].
        input_mask: int32 Tensor of shape [B, S], 1 for tokens and 0 for padding.
        segment_ids: int32 Tensor of shape [B, S].

    Returns:
        float Tensor of shape [B, S, H].
    """
    length = input_ids.shape[1]
    size = config.hidden_size
    rate = config.hidden_dropout_prob
    epsilon = config.layer_norm_eps
    act = activation(config.hidden_act)

    words = embed(weights["bert/embeddings/word_embeddings"], input_ids)
    # A product with one-hot rows is much faster than a gather from a table of two.
    segments = tf.one_hot(segment_ids, config.type_vocab_size, dtype=words.dtype)
    hidden = words + tf.matmul(segments, weights["bert/embeddings/token_type_embeddings"])
    hidden += weights["bert/embeddings/position_embeddings"][:length]
    hidden = tf.reshape(hidden, [-1, size])
    hidden = dropout(layer_norm(weights, "bert/embeddings", hidden, epsilon), rate)

    bias = (1.0 - tf.cast(input_mask[:, None, None, :], hidden.dtype)) * _MASKED_SCORE
    for number in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{number}"
        context = self_attention(
            weights,
            f"{layer}/attention/self",
            hidden,
            bias,
            config.num_attention_heads,
            dropout,
            config.attention_probs_dropout_prob,
        )
        output = dropout(dense(weights, f"{layer}/attention/output/dense", context), rate)
        hidden = layer_norm(weights, f"{layer}/attention/output", hidden + output, epsilon)
        inner = act(dense(weights, f"{layer}/intermediate/dense", hidden))
        output = dropout(dense(weights, f"{layer}/output/dense", inner), rate)
        hidden = layer_norm(weights, f"{layer}/output", hidden + output, epsilon)
    return tf.reshape(hidden, [-1, length, size])


def masked_lm_logits(
    weights: Weights, config: BertConfig, hidden: tf.Tensor, positions: tf.Tensor
) -> tf.Tensor:
    """Logits over the vocabulary, for the masked positions only.

    All positions would cost several times the work of a small model's encoder.

    Args:
        hidden: float Tensor of shape [B, S, H].
        positions: int32 Tensor of shape [B, P].

    Returns:
        float Tensor of shape [B, P, V].
    """
    length, size = hidden.shape[1], config.hidden_size
    rows = tf.range(tf.shape(positions)[0])[:, None] * length + positions
    # Rows are gathered from a flat table: its dense gradient is one segment sum.
    chosen = tf.gather(tf.reshape(hidden, [-1, size]), tf.reshape(rows, [-1]))
    transformed = activation(config.hidden_act)(
        dense(weights, "cls/predictions/transform/dense", chosen)
    )
    transformed = layer_norm(
        weights, "cls/predictions/transform", transformed, config.layer_norm_eps
    )
    logits = tf.matmul(transformed, weights["bert/embeddings/word_embeddings"], transpose_b=True)
    logits = tf.nn.bias_add(logits, weights["cls/predictions/output_bias"])
    return tf.reshape(logits, [-1, positions.shape[1], config.vocab_size])


def next_sentence_logits(weights: Weights, hidden: tf.Tensor) -> tf.Tensor:
    """float Tensor of shape [B, 2]: column 0 for "B follows A", column 1 for "B is random"."""
    pooled = tf.tanh(dense(weights, "bert/pooler/dense", hidden[:, 0]))
    logits = tf.matmul(pooled, weights["cls/seq_relationship/output_weights"], transpose_b=True)
    return tf.nn.bias_add(logits, weights["cls/seq_relationship/output_bias"])
