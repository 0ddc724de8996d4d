"""BERT for pretraining (Devlin et al., 2019): encoder, MLM head and NSP head.

Shapes: B sequences in the batch, S tokens per sequence, H hidden size, V vocabulary size, K
examples per sequence (1 unless packed), P masked positions per sequence, C positions that the last
layer computes.
"""

from functools import partial

from lib.model.bert_config import OUTPUT_BIAS, POSITIONS, SEGMENTS, WORDS, BertConfig
from lib.model.layers import (
    NO_DROPOUT,
    Batch,
    Dropout,
    Weights,
    activation,
    dense,
    embed,
    gather_positions,
    layer_norm,
    masked_scores,
    may_attend,
    self_attention,
    tied_logits,
)
from lib.run import tf


def encode(
    weights: Weights,
    config: BertConfig,
    batch: Batch,
    dropout: Dropout = NO_DROPOUT,
    precision: str | None = None,
    gradient_checkpointing: bool = False,
    positions: tf.Tensor | None = None,
) -> tf.Tensor:
    """Hidden states of the last layer.

    Attention mask of a packed sequence. Two examples of three and two tokens, then padding:

        example_ids   1 1 1 2 2 0
        position_ids  0 1 2 0 1 0

        may attend:   to  1 2 3 4 5 6
        token 1 to 3      x x x . . .
        token 4 to 5      . . . x x .
        token 6           . . . . . .    (padding; its states are not used)

    Without packing every token attends to all tokens but the padding.

    Args:
        batch: `input_ids`, `segment_ids`, and `input_mask` or (packed) `example_ids` and
            `position_ids`, the position of a token in its example: int32 [B, S].
        precision: float type of the computation from the first layer on; None for the type of the
            weights. Sums of many numbers (embeddings, layer normalisation, softmax, losses) are
            in the type of the weights in any case.
        gradient_checkpointing: keep only the input of each layer and compute the rest again for
            the gradient (Chen et al., 2016): much less memory, about a third more computation.
        positions: int32 [B, C]: the token positions whose states are needed, if not all. The last
            layer then computes only these; pretraining needs about a sixth of them.

    Returns:
        Tensor of type `precision`, of shape [B, S, H] or [B, C, H]; undefined at padding.
    """
    length, size = batch["input_ids"].shape[1], config.hidden_size
    words = embed(weights[WORDS], batch["input_ids"])  # [B, S, H]
    # For a table of two entries, a product with one-hot vectors is much faster than a gather.
    segments = tf.one_hot(batch["segment_ids"], config.type_vocab_size, dtype=words.dtype)
    hidden = words + tf.matmul(segments, weights[SEGMENTS])  # [B, S, 2] x [2, H]
    # Later positions cannot occur; without them the gradient is a shorter sum.
    table = weights[POSITIONS][:length]  # [S, H]
    hidden += embed(table, batch["position_ids"]) if "position_ids" in batch else table
    hidden = tf.reshape(hidden, [-1, size])  # [B, S, H] -> [B * S, H]
    hidden = layer_norm(weights, "bert/embeddings", hidden, config.layer_norm_eps)
    hidden = dropout(hidden, config.hidden_dropout_prob)
    hidden = tf.cast(hidden, precision or words.dtype)

    bias = masked_scores(may_attend(batch), words.dtype)
    last = config.num_hidden_layers - 1
    for number in range(config.num_hidden_layers):
        scope = f"bert/encoder/layer_{number}/"
        own = {name: value for name, value in weights.items() if name.startswith(scope)}
        computed = positions if number == last else None
        layer = partial(_layer, config, dropout, number, computed, gradient_checkpointing)
        hidden = (tf.recompute_grad(layer) if gradient_checkpointing else layer)(hidden, bias, own)
    # [B * S, H] -> [B, S, H], or [B * C, H] -> [B, C, H]
    return tf.reshape(hidden, [-1, length if positions is None else positions.shape[1], size])


def _layer(
    config: BertConfig,
    dropout: Dropout,
    number: int,
    positions: tf.Tensor | None,
    late_masks: bool,
    hidden: tf.Tensor,
    bias: tf.Tensor,
    weights: Weights,
) -> tf.Tensor:
    """One encoder layer: [B * S, H] -> [B * S, H], or [B * C, H] with `positions`.

    For `bias` and `positions` see `lib.model.layers.self_attention`; with `late_masks` dropout
    makes its masks when the layer has its input, not before.
    """
    layer = f"bert/encoder/layer_{number}"
    dropout = dropout.fold_in(number, hidden if late_masks else None)
    rate, epsilon = config.hidden_dropout_prob, config.layer_norm_eps
    context = self_attention(
        weights,
        f"{layer}/attention/self",
        hidden,
        bias,
        config.num_attention_heads,
        dropout,
        config.attention_probs_dropout_prob,
        positions,
    )
    if positions is not None:
        hidden = gather_positions(hidden, positions, bias.shape[-1])  # [B * S, H] -> [B * C, H]
    output = dropout(dense(weights, f"{layer}/attention/output/dense", context), rate)
    hidden = layer_norm(weights, f"{layer}/attention/output", hidden + output, epsilon)
    inner = activation(config.hidden_act)(dense(weights, f"{layer}/intermediate/dense", hidden))
    output = dropout(dense(weights, f"{layer}/output/dense", inner), rate)
    return layer_norm(weights, f"{layer}/output", hidden + output, epsilon)


def masked_lm_logits(weights: Weights, config: BertConfig, hidden: tf.Tensor) -> tf.Tensor:
    """Logits of the MLM head over the vocabulary: [B, P, H] -> [B, P, V]."""
    flat = tf.reshape(hidden, [-1, config.hidden_size])  # [B, P, H] -> [B * P, H]
    scope = "cls/predictions/transform"
    states = activation(config.hidden_act)(dense(weights, f"{scope}/dense", flat))
    states = layer_norm(weights, scope, states, config.layer_norm_eps)
    logits = tied_logits(states, weights[WORDS], weights[OUTPUT_BIAS])
    return tf.reshape(logits, [-1, hidden.shape[1], config.vocab_size])  # [B, P, V]


def next_sentence_logits(weights: Weights, hidden: tf.Tensor) -> tf.Tensor:
    """Logits of the NSP head: index 0 for "B follows A", index 1 for "B is random".

    States of the first token of each example, [CLS]: [B, K, H] -> [B, K, 2] in the type of the
    weights.
    """
    flat = tf.reshape(hidden, [-1, hidden.shape[2]])  # [B, K, H] -> [B * K, H]
    pooled = tf.tanh(dense(weights, "bert/pooler/dense", flat))
    kernel = weights["cls/seq_relationship/output_weights"]  # [2, H]
    logits = tf.matmul(tf.cast(pooled, kernel.dtype), kernel, transpose_b=True)  # [B * K, 2]
    logits = tf.nn.bias_add(logits, weights["cls/seq_relationship/output_bias"])
    return tf.reshape(logits, [-1, hidden.shape[1], 2])  # [B, K, 2]


def classification_states(
    weights: Weights, config: BertConfig, hidden: tf.Tensor, per_token: bool
) -> tf.Tensor:
    """What a classifier is given: a token's state, or the pooled state of a text; [n, H]."""
    return hidden if per_token else tf.tanh(dense(weights, "bert/pooler/dense", hidden))
