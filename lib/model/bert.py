"""BERT for pretraining (Devlin et al., 2019): encoder, MLM head and NSP head.

B is the batch, S the sequence length, H the hidden size, C the columns of a row that are wanted, K
the examples a row, P the predictions a row, V the vocabulary.
"""

from functools import partial

from lib.model.config import BertConfig
from lib.model.layers import (
    NO_DROPOUT,
    Dropout,
    Weights,
    activation,
    cells,
    dense,
    embed,
    layer_norm,
    self_attention,
)
from lib.run import tf

# Added to the scores of padding: far below any score, yet safe in half precision.
_MASKED_SCORE = -10000.0


def encode(
    weights: Weights,
    config: BertConfig,
    input_ids: tf.Tensor,
    example_ids: tf.Tensor,
    segment_ids: tf.Tensor,
    dropout: Dropout = NO_DROPOUT,
    position_ids: tf.Tensor | None = None,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
    columns: tf.Tensor | None = None,
) -> tf.Tensor:
    """Hidden states of the last layer.

    Args:
        input_ids: int32 Tensor of shape [B, S].
        example_ids: int32 Tensor of shape [B, S]: in a row of one example 1 for tokens (Google's
            `input_mask`), in a packed row the number of the token's example; 0 for padding.
        segment_ids: int32 Tensor of shape [B, S].
        position_ids: int32 Tensor of shape [B, S], where rows are packed: the token's place in its
            example. A token then attends to the tokens of its own example only.
        precision: name of the float type to compute in, from the first layer on; None for that of
            the weights, in which sums of many numbers are made anyhow (embeddings, layer
            normalisation, softmax, losses).
        gradient_checkpointing: keep of each layer its input only, and compute the rest again when its gradient
            is due (Chen et al., 2016): much less memory, about a third more work.
        columns: int32 Tensor of shape [B, C]: the tokens whose states are wanted, if not those of
            all. The last layer then computes no others: pretraining looks at a sixth of them.

    Returns:
        Tensor of this type, of shape [B, S, H], or [B, C, H]; of no meaning in the padding.
    """
    length = input_ids.shape[1]
    size = config.hidden_size

    words = embed(weights["bert/embeddings/word_embeddings"], input_ids)
    # A product with one-hot rows is much faster than a gather from a table of two.
    segments = tf.one_hot(segment_ids, config.type_vocab_size, dtype=words.dtype)
    hidden = words + tf.matmul(segments, weights["bert/embeddings/token_type_embeddings"])
    # Only as many positions as a row has can occur, so the gradient sums up no more.
    positions = weights["bert/embeddings/position_embeddings"][:length]
    hidden += positions if position_ids is None else embed(positions, position_ids)
    hidden = tf.reshape(hidden, [-1, size])
    hidden = layer_norm(weights, "bert/embeddings", hidden, config.layer_norm_eps)
    hidden = dropout(hidden, config.hidden_dropout_prob)
    hidden = tf.cast(hidden, precision or words.dtype)

    allowed = example_ids[:, None, None, :] > 0
    if position_ids is not None:
        allowed &= example_ids[:, None, :, None] == example_ids[:, None, None, :]
    bias = (1.0 - tf.cast(allowed, words.dtype)) * _MASKED_SCORE
    last = config.num_hidden_layers - 1
    for number in range(config.num_hidden_layers):
        scope = f"bert/encoder/layer_{number}/"
        own = {name: value for name, value in weights.items() if name.startswith(scope)}
        layer = partial(_layer, config, dropout, number, columns if number == last else None)
        hidden = (tf.recompute_grad(layer) if gradient_checkpointing else layer)(hidden, bias, own)
    return tf.reshape(hidden, [-1, length if columns is None else columns.shape[1], size])


def _layer(
    config: BertConfig,
    dropout: Dropout,
    number: int,
    columns: tf.Tensor | None,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    weights: Weights,
) -> tf.Tensor:
    """One layer of the encoder: [B * S, H] -> [B * S, H], or [B * C, H].

    `bias` and `columns` are those of `self_attention`.
    """
    layer, dropout = f"bert/encoder/layer_{number}", dropout.at(number)
    rate, epsilon = config.hidden_dropout_prob, config.layer_norm_eps
    context = self_attention(
        weights,
        f"{layer}/attention/self",
        hidden,
        bias,
        config.num_attention_heads,
        dropout,
        config.attention_probs_dropout_prob,
        columns,
    )
    if columns is not None:
        hidden = cells(hidden, columns, bias.shape[-1])
    output = dropout(dense(weights, f"{layer}/attention/output/dense", context), rate)
    hidden = layer_norm(weights, f"{layer}/attention/output", hidden + output, epsilon)
    inner = activation(config.hidden_act)(dense(weights, f"{layer}/intermediate/dense", hidden))
    output = dropout(dense(weights, f"{layer}/output/dense", inner), rate)
    return layer_norm(weights, f"{layer}/output", hidden + output, epsilon)


def masked_lm_logits(weights: Weights, config: BertConfig, hidden: tf.Tensor) -> tf.Tensor:
    """Logits over the vocabulary, to be asked for at masked positions only.

    All positions would cost several times the work of a small model's encoder.

    Args:
        hidden: float Tensor of shape [B, P, H].

    Returns:
        Tensor of the weights' type, of shape [B, P, V].
    """
    flat = tf.reshape(hidden, [-1, config.hidden_size])
    transformed = activation(config.hidden_act)(
        dense(weights, "cls/predictions/transform/dense", flat)
    )
    transformed = layer_norm(
        weights, "cls/predictions/transform", transformed, config.layer_norm_eps
    )
    table = tf.cast(weights["bert/embeddings/word_embeddings"], transformed.dtype)
    bias = weights["cls/predictions/output_bias"]
    logits = tf.cast(tf.matmul(transformed, table, transpose_b=True), bias.dtype)
    logits = tf.nn.bias_add(logits, bias)
    return tf.reshape(logits, [-1, hidden.shape[1], config.vocab_size])


def next_sentence_logits(weights: Weights, hidden: tf.Tensor) -> tf.Tensor:
    """Logits of each example: column 0 for "B follows A", column 1 for "B is random".

    Args:
        hidden: float Tensor of shape [B, K, H]: of each example's first token, [CLS].

    Returns:
        Tensor of the weights' type, of shape [B, K, 2]; K is 1 unless rows are packed.
    """
    flat = tf.reshape(hidden, [-1, hidden.shape[2]])
    pooled = tf.tanh(dense(weights, "bert/pooler/dense", flat))
    kernel = weights["cls/seq_relationship/output_weights"]
    logits = tf.matmul(tf.cast(pooled, kernel.dtype), kernel, transpose_b=True)
    logits = tf.nn.bias_add(logits, weights["cls/seq_relationship/output_bias"])
    return tf.reshape(logits, [-1, hidden.shape[1], 2])
