"""Packed sequences: every example has the losses and gradients of an unpacked one."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lib.model.encoder_config import EncoderConfig
from lib.model.encoders import encoder
from lib.model.initialization import initial_values
from lib.model.losses import loss_sums
from tests.helpers.packed_batches import unpacked_and_packed
from tests.helpers.tiny_bert import TINY, TINY_MODERN, random_weights

# Sequences of 24 tokens, of which local layers see the neighbours: in bands, or masked.
MASKED = replace(TINY_MODERN, local_attention=14)
MODELS = pytest.mark.parametrize(
    "config",
    [TINY, TINY_MODERN, pytest.param(MASKED, marks=pytest.mark.slow)],
    ids=["bert", "modernbert", "modernbert, masked"],
)


@pytest.fixture(scope="module")
def batches() -> tuple[dict, dict, np.ndarray]:
    return unpacked_and_packed()


@tf.function
def sums_of(weights: dict, config: EncoderConfig, batch: dict) -> dict[str, tf.Tensor]:
    return loss_sums(weights, config, batch, config.has_next_sentence)


def restricted(packed: dict, sequence: int, slot: int) -> dict:
    """The batch with the weights of all examples but one set to 0."""
    positions, weights = packed["masked_lm_positions"].numpy(), packed["masked_lm_weights"].numpy()
    number = np.take_along_axis(packed["example_ids"].numpy(), positions, axis=1)
    own = (number == slot + 1) & (np.arange(len(number))[:, None] == sequence)
    pairs = np.zeros(packed["next_sentence_weights"].shape, np.float32)
    pairs[sequence, slot] = 1
    return {
        **packed,
        "masked_lm_weights": tf.constant(weights * own),
        "next_sentence_weights": tf.constant(pairs),
    }


@pytest.mark.parametrize(
    "config", [TINY, pytest.param(TINY_MODERN, marks=pytest.mark.slow)], ids=["bert", "modernbert"]
)
def test_each_example_has_its_unpacked_losses(batches, config):
    unpacked, packed, packs = batches
    weights = random_weights(1, config)
    for sequence, slot in np.argwhere(packs >= 0):
        alone = {name: values[packs[sequence, slot]][None] for name, values in unpacked.items()}
        expected = sums_of(weights, config, alone)
        found = sums_of(weights, config, restricted(packed, sequence, slot))
        assert float(expected["masked_lm_weight"]) >= 1
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-5), name


@MODELS
def test_gradients_equal_those_of_unpacked_sequences(batches, config):
    weights = {name: tf.constant(array) for name, array in random_weights(2, config).items()}
    gradients = []
    for batch in batches[:2]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            sums = loss_sums(weights, config, batch, config.has_next_sentence)
            loss = sums["masked_lm_loss"] + sums.get("next_sentence_loss", 0.0)
        gradients.append(tape.gradient(loss, weights))
    for name, expected in gradients[0].items():
        found = gradients[1][name]
        # Not a list of slices with duplicates, which an optimizer might square one by one.
        assert isinstance(found, tf.Tensor), name
        if name.endswith("key/bias"):  # its true gradient is 0
            assert np.abs(found).max() < 1e-3
        else:
            assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected), name


@MODELS
def test_examples_do_not_attend_to_each_other(batches, config):
    _, packed, packs = batches
    weights, draw = random_weights(3, config), np.random.default_rng(0)
    names = ("input_ids", "example_ids", "segment_ids")
    ids, examples, segments = (packed[name].numpy() for name in names)

    def hidden(ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
        changed = {"input_ids": tf.constant(ids), "segment_ids": tf.constant(segments)}
        return encoder(config).encode(weights, config, {**packed, **changed}).numpy()

    before = hidden(ids, segments)
    for slot in range(packs.shape[1]):
        own = examples == slot + 1
        other_ids = np.where(own, draw.integers(1, TINY.vocab_size, ids.shape), ids)
        after = hidden(other_ids, np.where(own, 1 - segments, segments))
        elsewhere = ~own & (examples > 0)
        assert np.array_equal(after[elsewhere], before[elsewhere])
        assert np.abs(after[own] - before[own]).max() > 0.1
    # The content of padding does not matter either.
    after = hidden(np.where(examples == 0, 7, ids), segments)
    assert np.array_equal(after[examples > 0], before[examples > 0])


def test_sequences_that_fill_up_a_batch_do_not_count(batches):
    packed = batches[1]
    weights = {name: tf.constant(array) for name, array in initial_values(TINY, 1).items()}
    filled = {
        name: tf.pad(values, [[0, 3], *[[0, 0]] * (len(values.shape) - 1)])
        for name, values in packed.items()
    }
    gradients = []
    for batch in (packed, filled):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            sums = loss_sums(weights, TINY, batch, True)
            loss = sums["masked_lm_loss"] + sums["next_sentence_loss"]
        gradients.append(tape.gradient(loss, weights))
        gradients[-1]["sums"] = tf.stack(list(sums.values()))
    for name, expected in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], expected, rtol=1e-4, atol=1e-4)


def test_single_segments_have_no_next_sentence_loss(batches):
    packed = dict(batches[1])
    packed["next_sentence_weights"] *= 0.0
    sums = loss_sums(random_weights(1), TINY, packed, True)
    assert float(sums["next_sentence_loss"]) == float(sums["next_sentence_weight"]) == 0
