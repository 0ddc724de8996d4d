"""A BERT and a ModernBERT of 16 units, with random weights and batches for them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.model.modernbert_config import ModernBertConfig
from lib.run import tf

TINY = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    hidden_act="gelu",
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.1,
    max_position_embeddings=24,
)
# Layers 1 and 2 are local; sequences of more than 8 tokens are computed in bands.
TINY_MODERN = ModernBertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=4,
    num_attention_heads=2,
    intermediate_size=24,
    local_attention=4,
    max_position_embeddings=24,
)


def tiny_model(architecture: str, dropout: float) -> EncoderConfig:
    """The tiny model of an architecture, with this dropout everywhere."""
    if architecture == "bert":
        return replace(TINY, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return replace(
        TINY_MODERN, embedding_dropout=dropout, attention_dropout=dropout, mlp_dropout=dropout
    )


def random_batch(
    seed: int, sequences: int = 4, length: int = 12, predictions: int = 3
) -> dict[str, tf.Tensor]:
    """Unpacked examples of random lengths, as the input pipeline returns them."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(5, length + 1, sequences)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    batch = {
        "input_ids": draw.integers(1, TINY.vocab_size, (sequences, length)) * mask,
        "input_mask": mask,
        "segment_ids": (np.arange(length) >= 4) * mask,
        "masked_lm_positions": draw.integers(0, 5, (sequences, predictions)),
        "masked_lm_ids": draw.integers(0, TINY.vocab_size, (sequences, predictions)),
        "next_sentence_labels": draw.integers(0, 2, (sequences, 1)),
    }
    batch = {name: tf.constant(values, tf.int32) for name, values in batch.items()}
    batch["masked_lm_weights"] = tf.constant(
        draw.integers(0, 2, (sequences, predictions)), tf.float32
    )
    batch["example_weights"] = tf.ones(sequences)
    return batch


def random_weights(
    seed: int, config: EncoderConfig = TINY, deviation: float = 0.1
) -> dict[str, np.ndarray]:
    """Weights unlike initial ones: biases are not 0, gammas are not 1."""
    draw = np.random.default_rng(seed)
    return {
        name: (array + draw.normal(0, deviation, array.shape)).astype(np.float32)
        for name, array in initial_values(config, seed).items()
    }
