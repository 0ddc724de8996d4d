"""Encoder, heads and losses against closed forms and independent computations with NumPy."""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lib.model.bert import encode, masked_lm_logits
from lib.model.encoders import encoder
from lib.model.initialization import initial_values
from lib.model.layers import Dropout, embed
from lib.model.losses import loss_sums
from tests.helpers.tiny_bert import TINY, TINY_MODERN, random_batch, random_weights, tiny_model

# The last layer of a ModernBERT: global; local and computed in bands; local and masked.
MODELS = {
    "bert": TINY,
    "modernbert": TINY_MODERN,
    "modernbert, local last": replace(TINY_MODERN, num_hidden_layers=2),
    "modernbert, masked last": replace(TINY_MODERN, num_hidden_layers=2, local_attention=6),
}
BOTH = pytest.mark.parametrize("config", [TINY, TINY_MODERN], ids=["bert", "modernbert"])
ALL = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


@BOTH
def test_first_loss_is_that_of_uniform_guessing(config):
    pairs = config.has_next_sentence
    sums = loss_sums(initial_values(config, 1), config, random_batch(1, sequences=64), pairs)
    mean = float(sums["masked_lm_loss"] / sums["masked_lm_weight"])
    assert mean == pytest.approx(math.log(config.vocab_size), abs=0.05)
    if pairs:
        assert float(sums["next_sentence_loss"]) / 64 == pytest.approx(math.log(2), abs=0.05)


@ALL
def test_padding_does_not_change_hidden_states(config):
    weights, batch = random_weights(1, config), random_batch(1)
    encode = encoder(config).encode
    longer = {
        name: tf.pad(batch[name], [[0, 0], [0, 7]])
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    short, long = encode(weights, config, batch), encode(weights, config, longer)
    mask = batch["input_mask"].numpy().astype(bool)
    np.testing.assert_allclose(long.numpy()[:, :12][mask], short.numpy()[mask], atol=1e-5)


@ALL
def test_selected_positions_have_the_states_of_a_full_last_layer(config):
    weights, batch = random_weights(6, config), random_batch(6)
    encode = encoder(config).encode
    positions = tf.constant([[0, 3], [4, 0], [2, 2], [1, 4]])
    # Two examples per sequence, which do not attend to each other.
    mask = batch["input_mask"]
    packed = {
        "example_ids": mask + tf.constant([[0] * 3 + [1] * 9]) * mask,
        "position_ids": tf.tile(tf.range(12)[None], [4, 1]),
    }
    for given in (batch, {**batch, **packed}):
        whole = encode(weights, config, given)
        some = encode(weights, config, given, positions=positions)
        np.testing.assert_allclose(some, tf.gather(whole, positions, batch_dims=1), atol=1e-5)


def test_sequences_of_weight_zero_do_not_count():
    weights, batch = random_weights(1), random_batch(1)
    padded = {name: tf.concat([values, values[:2]], 0) for name, values in batch.items()}
    padded["example_weights"] = tf.constant([1.0] * 4 + [0.0] * 2)
    alone, filled = (loss_sums(weights, TINY, each, True) for each in (batch, padded))
    for name, value in alone.items():
        assert float(filled[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize(
    "config", [TINY, pytest.param(TINY_MODERN, marks=pytest.mark.slow)], ids=["bert", "modernbert"]
)
def test_gradients_equal_finite_differences_in_float64(config):
    weights = {
        name: tf.constant(array, tf.float64) for name, array in random_weights(2, config).items()
    }
    batch = random_batch(2)
    batch |= {
        name: tf.cast(batch[name], tf.float64) for name in ("masked_lm_weights", "example_weights")
    }

    def loss(values: dict) -> tf.Tensor:
        sums = loss_sums(values, config, batch, config.has_next_sentence)
        return sums["masked_lm_loss"] + sums.get("next_sentence_loss", 0.0)

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


def test_label_smoothing_equals_nemos():
    weights, batch, smoothing = random_weights(4), random_batch(4), 0.2
    with_it = loss_sums(weights, TINY, batch, True, label_smoothing=smoothing)
    without = loss_sums(weights, TINY, batch, True)
    hidden = encode(weights, TINY, batch)
    masked = tf.gather(hidden, batch["masked_lm_positions"], batch_dims=1)
    logits = masked_lm_logits(weights, TINY, masked).numpy()
    log_probabilities = logits - np.log(np.exp(logits.astype(np.float64)).sum(-1, keepdims=True))
    own = np.take_along_axis(log_probabilities, batch["masked_lm_ids"].numpy()[..., None], -1)[
        ..., 0
    ]
    part = smoothing * TINY.vocab_size / (TINY.vocab_size - 1)
    each = -(1 - part) * own - part * log_probabilities.mean(-1)
    expected = (each * batch["masked_lm_weights"].numpy()).sum()
    assert float(with_it["masked_lm_objective"]) == pytest.approx(expected, rel=1e-5)
    for name, value in without.items():
        if name != "masked_lm_objective":
            assert float(with_it[name]) == float(value), name
    assert float(without["masked_lm_objective"]) == float(without["masked_lm_loss"])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_gradient_checkpointing_recomputes_layers_and_changes_no_gradient(architecture):
    config = tiny_model(architecture, 0.1)
    batch, weights = random_batch(5), random_weights(5, config)
    tensors = {name: tf.constant(array) for name, array in weights.items()}

    def gradients(gradient_checkpointing: bool) -> tuple[dict, int]:
        def of(values: dict) -> dict:
            with tf.GradientTape() as tape:
                tape.watch(values)
                dropout = Dropout(tf.constant([1, 2]))
                sums = loss_sums(
                    values,
                    config,
                    batch,
                    config.has_next_sentence,
                    dropout,
                    gradient_checkpointing=gradient_checkpointing,
                )
                loss = sums["masked_lm_objective"]
            zero = tf.UnconnectedGradients.ZERO
            return tape.gradient(loss, values, unconnected_gradients=zero)

        traced = tf.function(of, autograph=False).get_concrete_function(tensors)
        return traced(tensors), sum(op.type == "Softmax" for op in traced.graph.get_operations())

    (stored, once), (again, twice) = gradients(False), gradients(True)
    assert (once, twice) == (config.num_hidden_layers, 2 * config.num_hidden_layers)
    for name, values in stored.items():
        np.testing.assert_allclose(again[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_embedding_gradient_is_dense_and_adds_up_duplicates():
    table = tf.Variable(tf.random.stateless_normal([5, 3], [1, 2]))
    ids = tf.constant([[0, 2, 2], [4, 2, 0]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embed(table, ids) * 2.0)
    gradient = tape.gradient(loss, table)
    assert isinstance(gradient, tf.Tensor)
    assert gradient.numpy()[:, 0].tolist() == [4, 0, 6, 0, 2]


def test_dropout_is_a_function_of_seed_and_call_site():
    ones = tf.ones([1000])
    first, again, other = (Dropout(tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))
    a, b = first(ones, 0.1).numpy(), first(ones, 0.1).numpy()
    assert not np.array_equal(a, b)
    assert np.array_equal(again(ones, 0.1).numpy(), a)
    assert np.array_equal(again(ones, 0.1).numpy(), b)
    assert not np.array_equal(other(ones, 0.1).numpy(), a)
    part = first.fold_in(1)
    assert np.array_equal(part(ones, 0.1).numpy(), first.fold_in(1)(ones, 0.1).numpy())
    assert not np.array_equal(
        first.fold_in(1)(ones, 0.1).numpy(), first.fold_in(2)(ones, 0.1).numpy()
    )
    assert a.mean() == pytest.approx(1, abs=0.05)
    keep_prob = 1 - round(0.1 * 65536) / 65536
    assert set(np.unique(a)) == {0, np.float32(1 / keep_prob)}
    assert np.mean(first(tf.ones([333, 1001]), 0.1) == 0) == pytest.approx(0.1, abs=0.003)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16, tf.float16])
@pytest.mark.parametrize("rate", [0.1, 0.37])
def test_dropout_keeps_the_expected_activation_and_gradient_in_every_precision(dtype, rate):
    values = tf.cast(tf.random.stateless_uniform([100_000], [1, 2], 0.5, 2.0), dtype)
    with tf.GradientTape() as tape:
        tape.watch(values)
        dropped = Dropout(tf.constant([1, 2]))(values, rate)
    gradient = tape.gradient(dropped, values, output_gradients=values)
    expected = 1 / (1 - round(rate * 65536) / 65536)
    for found in (dropped, gradient):
        assert found.dtype == dtype
        found = found.numpy().astype(np.float64)
        kept = found != 0
        # Rounded to 8 bits, the factor of rate 0.1 would be 0.16 % too small.
        ratio = found[kept] / values.numpy().astype(np.float64)[kept]
        assert ratio.mean() == pytest.approx(expected, rel=1e-4)
    if dtype == tf.float32:
        factors = np.where(kept, np.float32(expected), np.float32(0))
        assert dropped.numpy().tobytes() == (values.numpy() * factors).tobytes()
