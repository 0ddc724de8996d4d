"""The model against closed forms and independent computations with NumPy."""

import math

import numpy as np
import pytest
import tensorflow as tf

from lib.model.bert import encode, masked_lm_logits
from lib.model.config import BertConfig
from lib.model.layers import Dropout, embed
from lib.model.losses import loss_sums
from lib.model.parameters import initial_values, parameter_table

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


def random_batch(seed: int, rows: int = 4, length: int = 12, predictions: int = 3) -> dict:
    draw = np.random.default_rng(seed)
    lengths = draw.integers(5, length + 1, rows)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int32)
    batch = {
        "input_ids": draw.integers(1, TINY.vocab_size, (rows, length)) * mask,
        "input_mask": mask,
        "segment_ids": (np.arange(length) >= 4) * mask,
        "masked_lm_positions": draw.integers(0, 5, (rows, predictions)),
        "masked_lm_ids": draw.integers(0, TINY.vocab_size, (rows, predictions)),
        "next_sentence_labels": draw.integers(0, 2, (rows, 1)),
    }
    batch = {name: tf.constant(values, tf.int32) for name, values in batch.items()}
    batch["masked_lm_weights"] = tf.constant(draw.integers(0, 2, (rows, predictions)), tf.float32)
    batch["example_weights"] = tf.ones(rows)
    return batch


def random_weights(seed: int) -> dict[str, np.ndarray]:
    """Weights away from their initial values: biases that are not 0, gammas that are not 1."""
    draw = np.random.default_rng(seed)
    return {
        name: (array + draw.normal(0, 0.1, array.shape)).astype(np.float32)
        for name, array in initial_values(TINY, seed).items()
    }


def test_initial_values_are_truncated_normal_and_keyed():
    values = initial_values(TINY, 1)
    assert [*values] == [parameter.name for parameter in parameter_table(TINY)]
    kernel = values["bert/encoder/layer_0/intermediate/dense/kernel"]
    assert np.abs(kernel).max() <= 0.04 + 1e-7
    # Standard deviation of a normal truncated at two deviations: 0.8796 of the full one.
    words = initial_values(BertConfig(5000, 64, 1, 1, 8, "gelu", 0, 0, 8), 1)[
        "bert/embeddings/word_embeddings"
    ]
    assert words.std() == pytest.approx(0.02 * 0.8796, rel=0.01)
    assert np.array_equal(
        kernel, initial_values(TINY, 1)["bert/encoder/layer_0/intermediate/dense/kernel"]
    )
    assert not np.array_equal(
        kernel, initial_values(TINY, 2)["bert/encoder/layer_0/intermediate/dense/kernel"]
    )


def test_first_loss_is_that_of_guessing():
    sums = loss_sums(initial_values(TINY, 1), TINY, random_batch(1, rows=64), True)
    mean = float(sums["masked_lm_loss"] / sums["masked_lm_weight"])
    assert mean == pytest.approx(math.log(TINY.vocab_size), abs=0.05)
    assert float(sums["next_sentence_loss"]) / 64 == pytest.approx(math.log(2), abs=0.05)


def test_padding_changes_nothing():
    weights, batch = random_weights(1), random_batch(1)
    longer = {
        name: tf.pad(batch[name], [[0, 0], [0, 7]])
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    short = encode(weights, TINY, *(batch[name] for name in longer))
    long = encode(weights, TINY, *longer.values())
    mask = batch["input_mask"].numpy().astype(bool)
    np.testing.assert_allclose(long.numpy()[:, :12][mask], short.numpy()[mask], atol=1e-5)


def test_columns_are_those_of_the_whole():
    weights, batch = random_weights(6), random_batch(6)
    inputs = [batch[name] for name in ("input_ids", "input_mask", "segment_ids")]
    columns = tf.constant([[0, 3], [4, 0], [2, 2], [1, 4]])
    # In one row of each batch two examples, which do not see each other.
    examples = inputs[1] + tf.constant([[0] * 3 + [1] * 9]) * inputs[1]
    positions = tf.tile(tf.range(12)[None], [4, 1])
    for options in ({}, {"position_ids": positions}):
        rows = [inputs[0], examples if options else inputs[1], inputs[2]]
        whole = encode(weights, TINY, *rows, **options)
        some = encode(weights, TINY, *rows, **options, columns=columns)
        np.testing.assert_allclose(some, tf.gather(whole, columns, batch_dims=1), atol=1e-5)


def test_rows_of_weight_zero_count_for_nothing():
    weights, batch = random_weights(1), random_batch(1)
    padded = {name: tf.concat([values, values[:2]], 0) for name, values in batch.items()}
    padded["example_weights"] = tf.constant([1.0] * 4 + [0.0] * 2)
    alone, filled = (loss_sums(weights, TINY, each, True) for each in (batch, padded))
    for name, value in alone.items():
        assert float(filled[name]) == pytest.approx(float(value), rel=1e-5), name


def test_gradients_equal_finite_differences_in_float64():
    weights = {name: tf.constant(array, tf.float64) for name, array in random_weights(2).items()}
    batch = random_batch(2)
    batch |= {
        name: tf.cast(batch[name], tf.float64) for name in ("masked_lm_weights", "example_weights")
    }

    def loss(values: dict) -> tf.Tensor:
        sums = loss_sums(values, TINY, batch, True)
        return sums["masked_lm_loss"] + sums["next_sentence_loss"]

    with tf.GradientTape() as tape:
        tape.watch(list(weights.values()))
        value = loss(weights)
    gradients = tape.gradient(value, weights)
    draw = np.random.default_rng(3)
    for name, array in weights.items():
        direction = draw.normal(size=array.shape)
        step = 1e-6
        ahead = loss({**weights, name: array + step * direction})
        behind = loss({**weights, name: array - step * direction})
        expected = float(ahead - behind) / (2 * step)
        found = float((gradients[name].numpy() * direction).sum())
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), name


def test_label_smoothing_is_that_of_nemo():
    weights, batch, smoothing = random_weights(4), random_batch(4), 0.2
    with_it = loss_sums(weights, TINY, batch, True, label_smoothing=smoothing)
    without = loss_sums(weights, TINY, batch, True)
    hidden = encode(
        weights, TINY, *(batch[key] for key in ("input_ids", "input_mask", "segment_ids"))
    )
    masked = tf.gather(hidden, batch["masked_lm_positions"], batch_dims=1)
    logits = masked_lm_logits(weights, TINY, masked).numpy()
    log_shares = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    own = np.take_along_axis(log_shares, batch["masked_lm_ids"].numpy()[..., None], -1)[..., 0]
    part = smoothing * TINY.vocab_size / (TINY.vocab_size - 1)
    each = -(1 - part) * own - part * log_shares.mean(-1)
    expected = (each * batch["masked_lm_weights"].numpy()).sum()
    assert float(with_it["masked_lm_objective"]) == pytest.approx(expected, rel=1e-5)
    for name, value in without.items():
        if name != "masked_lm_objective":
            assert float(with_it[name]) == float(value), name
    assert float(without["masked_lm_objective"]) == float(without["masked_lm_loss"])


def test_recomputation_changes_no_gradient_and_is_done():
    batch, weights = random_batch(5), random_weights(5)
    tensors = {name: tf.constant(array) for name, array in weights.items()}

    def gradients(gradient_checkpointing: bool) -> tuple[dict, int]:
        def of(values: dict) -> dict:
            with tf.GradientTape() as tape:
                tape.watch(values)
                dropout = Dropout(tf.constant([1, 2]))
                sums = loss_sums(
                    values,
                    TINY,
                    batch,
                    True,
                    dropout,
                    gradient_checkpointing=gradient_checkpointing,
                )
                loss = sums["masked_lm_objective"]
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(loss, values, unconnected_gradients=zero)

        traced = tf.function(of, autograph=False).get_concrete_function(tensors)
        return traced(tensors), sum(op.type == "Softmax" for op in traced.graph.get_operations())

    (kept, once), (again, twice) = gradients(False), gradients(True)
    assert (once, twice) == (TINY.num_hidden_layers, 2 * TINY.num_hidden_layers)
    for name, values in kept.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_embedding_gradient_is_dense_and_adds_up_duplicates():
    table = tf.Variable(tf.random.stateless_normal([5, 3], [1, 2]))
    ids = tf.constant([[0, 2, 2], [4, 2, 0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embed(table, ids) * 2.0)
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.Tensor)
    assert gradient.numpy()[:, 0].tolist() == [4, 0, 6, 0, 2]


def test_dropout_is_a_function_of_seed_and_place():
    ones = tf.ones([1000])
    first, again, other = (Dropout(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    a, b = first(ones, 0.1).numpy(), first(ones, 0.1).numpy()
    assert not np.array_equal(a, b)
    assert np.array_equal(again(ones, 0.1).numpy(), a)
    assert np.array_equal(again(ones, 0.1).numpy(), b)
    assert not np.array_equal(other(ones, 0.1).numpy(), a)
    part = first.at(1)
    assert np.array_equal(part(ones, 0.1).numpy(), first.at(1)(ones, 0.1).numpy())
    assert not np.array_equal(first.at(1)(ones, 0.1).numpy(), first.at(2)(ones, 0.1).numpy())
    assert a.mean() == pytest.approx(1, abs=0.05)
    kept = 1 - round(0.1 * 65536) / 65536
    assert set(np.unique(a)) == {0, np.float32(1 / kept)}
    assert np.mean(first(tf.ones([333, 1001]), 0.1) == 0) == pytest.approx(0.1, abs=0.003)
