"""Initial weights: BERT's, sinusoids, and heads that attend to the nearest tokens."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lib.model.bert_config import BertConfig
from lib.model.initialization import INITIALIZATIONS, OFFSETS, initial_values
from lib.model.modernbert_config import ModernBertConfig
from tests.helpers.tiny_bert import TINY


def config(layers: int, hidden: int, heads: int, positions: int = 128) -> BertConfig:
    return replace(
        TINY,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        max_position_embeddings=positions,
    )


def test_initial_values_are_truncated_normal_and_keyed():
    values = initial_values(TINY, 1)
    assert [*values] == [parameter.name for parameter in TINY.parameter_table()]
    kernel = values["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert np.abs(kernel).max() <= 0.04 + 1e-7
    # Standard deviation of a normal truncated at two deviations: 0.8796 of the full one.
    words = initial_values(
        BertConfig(
            vocab_size=5000,
            hidden_size=64,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            hidden_act="gelu",
            hidden_dropout_prob=0,
            attention_probs_dropout_prob=0,
            max_position_embeddings=8,
        ),
        1,
    )["bert/embeddings/word_embeddings"]
    assert words.std() == pytest.approx(0.02 * 0.8796, rel=0.01)
    assert np.array_equal(
        kernel, initial_values(TINY, 1)["bert/encoder/layer_0/intermediate/dense/kernel"]
    )
    assert not np.array_equal(
        kernel, initial_values(TINY, 2)["bert/encoder/layer_0/intermediate/dense/kernel"]
    )


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (1, 3, 3), (1, 3, 1), (2, 12, 2), (1, 10, 5)], ids=str
)
def test_models_of_any_size_have_initial_values(initialization, sizes):
    made = config(*sizes, positions=9)
    values = initial_values(made, 1, initialization=initialization)
    for parameter in made.parameter_table():
        array = values[parameter.name]
        assert array.shape == parameter.shape
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_sinusoids_are_those_of_vaswani():
    table = initial_values(config(1, 64, 2), 1, initialization="sinusoidal")[
        "bert/embeddings/position_embeddings"
    ]
    for position, dimension in [(0, 0), (0, 1), (1, 0), (7, 10), (100, 33), (127, 63)]:
        angle = position / 10000 ** ((dimension - dimension % 2) / 64)
        expected = math.cos(angle) if dimension % 2 else math.sin(angle)
        assert table[position, dimension] == pytest.approx(0.02 * expected, abs=1e-7)


@pytest.mark.parametrize("sizes", [(2, 128, 2), (1, 128, 4), (1, 256, 4), (1, 768, 12)], ids=str)
def test_heads_start_by_attending_to_one_of_the_nearest_tokens(sizes):
    """Queries and keys of the first layer, computed here, for random tokens anywhere."""
    made = config(*sizes, positions=512)
    values = initial_values(made, 1, initialization="neighbors")
    tokens = np.random.default_rng(1).integers(0, made.vocab_size, 512)
    summed = (
        values["bert/embeddings/word_embeddings"][tokens]
        + values["bert/embeddings/token_type_embeddings"][0]
        + values["bert/embeddings/position_embeddings"]
    )
    hidden = (summed - summed.mean(-1, keepdims=True)) / summed.std(-1, keepdims=True)
    size = made.hidden_size // made.num_attention_heads
    inner = np.arange(8, 504)
    for head in range(made.num_attention_heads):
        columns = slice(head * size, (head + 1) * size)
        query, key = (
            hidden @ values[f"bert/encoder/layer_0/attention/self/{part}/kernel"][:, columns]
            for part in ("query", "key")
        )
        scores = query @ key.T / math.sqrt(size)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        near = weights[inner, inner + OFFSETS[head % len(OFFSETS)]]
        assert near.mean() > 0.4
        assert (weights[inner].argmax(-1) == inner + OFFSETS[head % len(OFFSETS)]).mean() > 0.6


def modernbert(layers: int, hidden: int, heads: int, **changes) -> ModernBertConfig:
    return ModernBertConfig(
        vocab_size=97,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=24,
        **changes,
    )


@pytest.mark.parametrize("initialization", ["normal", "neighbors"])
@pytest.mark.parametrize("sizes", [(1, 2, 1), (1, 6, 3), (2, 12, 2), (4, 20, 5)], ids=str)
def test_modernberts_of_any_size_have_initial_values(initialization, sizes):
    made = modernbert(*sizes)
    values = initial_values(made, 1, initialization=initialization)
    for parameter in made.parameter_table():
        assert values[parameter.name].shape == parameter.shape
        assert np.isfinite(values[parameter.name]).all()


def test_output_matrices_of_a_modernbert_start_smaller_with_its_depth():
    values = initial_values(modernbert(8, 64, 2), 1)
    inner, outer = (values[f"layers/5/{name}"].std() for name in ("attn/Wqkv", "attn/Wo"))
    assert inner == pytest.approx(0.02 * 0.8796, rel=0.02)
    assert outer == pytest.approx(inner / math.sqrt(2 * 8), rel=0.05)


@pytest.mark.parametrize("sizes", [(2, 128, 2), (2, 128, 4), (2, 768, 12)], ids=str)
def test_heads_of_a_modernbert_start_by_attending_to_one_of_the_nearest_tokens(sizes):
    """In the first layer, which is global, and in the second, which is local; by complex numbers.

    A pair of dimensions (i, i + D / 2) is a complex number, which its position turns.
    """
    made = modernbert(*sizes)
    values = initial_values(made, 1, initialization="neighbors")
    tokens = np.random.default_rng(1).integers(0, made.vocab_size, 512)
    embedded = values["embeddings/tok_embeddings"][tokens]
    hidden = (embedded - embedded.mean(-1, keepdims=True)) / embedded.std(-1, keepdims=True)
    size, half = made.head_size, made.head_size // 2
    inner, number = np.arange(8, 504), 0
    for layer, theta in enumerate((160_000, 10_000)):
        turns = np.exp(1j * np.outer(np.arange(512), theta ** (-np.arange(half) / half)))
        matrix = values[f"layers/{layer}/attn/Wqkv"]
        for head in range(made.num_attention_heads):
            query, key = (
                hidden @ matrix[:, start + head * size : start + (head + 1) * size]
                for start in (0, made.hidden_size)
            )
            query, key = ((x[:, :half] + 1j * x[:, half:]) * turns for x in (query, key))
            scores = (query @ key.conj().T).real / math.sqrt(size)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            offset = OFFSETS[number % len(OFFSETS)]
            number += 1
            assert weights[inner, inner + offset].mean() > 0.2
            assert (weights[inner].argmax(-1) == inner + offset).mean() > 0.5
