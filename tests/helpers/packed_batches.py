"""Batches of the same examples, unpacked and packed."""

import numpy as np
import tensorflow as tf

from lib.records.masking import VocabularyFacts, mask_sequences
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack
from lib.records.sequences import Sequences
from lib.records.settings import RecordSettings
from lib.records.shard import features
from tests.helpers.tiny_bert import TINY

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


def unpacked_and_packed() -> tuple[dict, dict, np.ndarray]:
    """The same examples unpacked and packed, and int [packed sequences, K]: their indices."""
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
    sequences = Sequences(ids, mask.view(np.uint8), segments, labels, lengths)
    masked = mask_sequences(ids, lengths, VOCABULARY, 0.15, 4, False, draw)
    unpacked = features(sequences, masked)
    packs = pack(sequences.lengths, LENGTH, SETTINGS.max_examples_per_pack)
    packed = assemble_packed(
        unpacked, sequences.lengths, packs, SETTINGS.predictions_per_sequence(), True
    )
    assert (packs >= 0).sum(axis=1).max() >= 3
    assert (packed["example_ids"] == 0).any()
    return tensors(unpacked), tensors(packed), packs
