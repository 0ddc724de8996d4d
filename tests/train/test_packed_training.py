"""Packed rows through the model: every example as in a row of its own."""

import numpy as np
import pytest
import tensorflow as tf

from lib.model.bert import encode
from lib.model.losses import loss_sums
from lib.model.parameters import initial_values
from lib.records.masking import VocabularyFacts, mask_sequences
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack
from lib.records.sequences import Sequences
from lib.records.settings import RecordSettings
from lib.records.shard import features
from tests.model.test_model import TINY, random_weights

LENGTH = TINY.max_position_embeddings
SETTINGS = RecordSettings(LENGTH, 4, dupe_factor=1, packing=True, max_examples_per_pack=4)
VOCABULARY = VocabularyFacts(2, 3, 4, TINY.vocab_size, np.arange(TINY.vocab_size) >= 30)


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """A batch as the input pipeline gives it."""
    batch = {
        name: tf.constant(array, tf.float32 if array.dtype == np.float32 else tf.int32)
        for name, array in arrays.items()
    }
    return {**batch, "example_weights": tf.ones(len(batch["input_ids"]))}


@pytest.fixture(scope="module")
def batches() -> tuple[dict, dict, np.ndarray]:
    """Examples in rows of their own, the same packed, and which example is where."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(5, LENGTH + 1, 12) // draw.integers(1, 4, 12)
    lengths = np.maximum(lengths, 5)
    columns = np.arange(LENGTH)
    mask = columns < lengths[:, None]
    ids = draw.integers(5, TINY.vocab_size, (12, LENGTH)).astype(np.int32) * mask
    middle = (lengths // 2)[:, None]
    ids[:, 0] = VOCABULARY.cls_id
    ids[(columns == middle) | (columns == lengths[:, None] - 1)] = VOCABULARY.sep_id
    segments = (mask & (columns > middle)).view(np.uint8)
    labels = draw.integers(0, 2, (12, 1)).astype(np.uint8)
    rows = Sequences(ids, mask.view(np.uint8), segments, labels, lengths)
    masked = mask_sequences(ids, lengths, VOCABULARY, 0.15, 4, False, draw)
    unpacked = features(rows, masked)
    packs = pack(rows.lengths, LENGTH, SETTINGS.max_examples_per_pack)
    packed = assemble_packed(
        unpacked, rows.lengths, packs, SETTINGS.predictions_per_sequence(), True
    )
    assert (packs >= 0).sum(axis=1).max() >= 3
    assert (packed["example_ids"] == 0).any()
    return tensors(unpacked), tensors(packed), packs


@tf.function
def sums_of(weights: dict, batch: dict) -> dict[str, tf.Tensor]:
    return loss_sums(weights, TINY, batch, True)


def restricted(packed: dict, row: int, slot: int) -> dict:
    """The batch with the weights of all examples but one set to 0."""
    positions, weights = packed["masked_lm_positions"].numpy(), packed["masked_lm_weights"].numpy()
    number = np.take_along_axis(packed["example_ids"].numpy(), positions, axis=1)
    own = (number == slot + 1) & (np.arange(len(number))[:, None] == row)
    sentence = np.zeros(packed["next_sentence_weights"].shape, np.float32)
    sentence[row, slot] = 1
    return {
        **packed,
        "masked_lm_weights": tf.constant(weights * own),
        "next_sentence_weights": tf.constant(sentence),
    }


def test_each_example_has_its_unpacked_losses(batches):
    unpacked, packed, packs = batches
    weights = random_weights(1)
    for row, slot in np.argwhere(packs >= 0):
        alone = {name: values[packs[row, slot]][None] for name, values in unpacked.items()}
        expected = sums_of(weights, alone)
        found = sums_of(weights, restricted(packed, row, slot))
        assert float(expected["masked_lm_weight"]) >= 1
        for name, value in expected.items():
            assert float(found[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-5), name


def test_gradients_of_all_examples_are_those_of_unpacked_rows(batches):
    weights = {name: tf.constant(array) for name, array in random_weights(2).items()}
    gradients = []
    for batch in batches[:2]:
        with tf.GradientTape() as tape:
            tape.watch(weights)
            sums = loss_sums(weights, TINY, batch, True)
            loss = sums["masked_lm_loss"] + sums["next_sentence_loss"]
        gradients.append(tape.gradient(loss, weights))
    for name, expected in gradients[0].items():
        found = gradients[1][name]
        # No list of rows with duplicates, which an optimizer might square one by one.
        assert isinstance(found, tf.Tensor), name
        if name.endswith("key/bias"):  # its true gradient is 0
            assert np.abs(found).max() < 1e-3
        else:
            assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected), name


def test_no_example_sees_another(batches):
    _, packed, packs = batches
    weights, draw = random_weights(3), np.random.default_rng(0)
    names = ("input_ids", "example_ids", "segment_ids", "position_ids")
    ids, examples, segments, positions = (packed[name].numpy() for name in names)

    def hidden(ids: np.ndarray, segments: np.ndarray) -> np.ndarray:
        rows = map(tf.constant, (ids, examples, segments))
        return encode(weights, TINY, *rows, position_ids=tf.constant(positions)).numpy()

    before = hidden(ids, segments)
    for slot in range(packs.shape[1]):
        own = examples == slot + 1
        other_ids = np.where(own, draw.integers(1, TINY.vocab_size, ids.shape), ids)
        after = hidden(other_ids, np.where(own, 1 - segments, segments))
        elsewhere = ~own & (examples > 0)
        assert np.array_equal(after[elsewhere], before[elsewhere])
        assert np.abs(after[own] - before[own]).max() > 0.1
    # What stands in the padding does not matter either.
    after = hidden(np.where(examples == 0, 7, ids), segments)
    assert np.array_equal(after[examples > 0], before[examples > 0])


def test_rows_that_fill_up_a_batch_count_for_nothing(batches):
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
