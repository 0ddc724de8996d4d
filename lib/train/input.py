"""Records -> batches: an order that is a function of (seed, epoch), sought by example."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from lib.run import random
from lib.train.manifest import Manifest

_PARALLEL_BATCHES = 2
_READ_BYTES = 1 << 20


def _parse(serialized: tf.Tensor, length: int, predictions: int) -> dict[str, tf.Tensor]:
    """Serialised examples -> int32 and float32 tensors as `lib.model.losses` takes them."""
    integers = {
        "input_ids": length,
        "input_mask": length,
        "segment_ids": length,
        "masked_lm_positions": predictions,
        "masked_lm_ids": predictions,
        "next_sentence_labels": 1,
    }
    features = {name: tf.io.FixedLenFeature([size], tf.int64) for name, size in integers.items()}
    features["masked_lm_weights"] = tf.io.FixedLenFeature([predictions], tf.float32)
    parsed = tf.io.parse_example(serialized, features)
    batch = {name: tf.cast(parsed[name], tf.int32) for name in integers}
    batch["masked_lm_weights"] = parsed["masked_lm_weights"]
    batch["example_weights"] = tf.ones([tf.shape(serialized)[0]], tf.float32)
    return batch


def _pad(batch: dict[str, tf.Tensor], size: int) -> dict[str, tf.Tensor]:
    """Fills the last batch up with rows of weight zero: shapes stay static."""
    missing = size - tf.shape(batch["example_weights"])[0]
    padded = {}
    for name, values in batch.items():
        rest = [[0, 0]] * (values.shape.rank - 1)
        padded[name] = tf.ensure_shape(
            tf.pad(values, [[0, missing], *rest]), [size, *values.shape[1:]]
        )
    return padded


def training_batches(
    files: Sequence[Path],
    manifest: Manifest,
    batch_size: int,
    steps: int,
    buffer: int,
    seed: int,
    first_step: int,
) -> tf.data.Dataset:
    """Endless epochs cut into batches, from optimizer step `first_step` (0 at the start) on.

    In each epoch the files are read in a new order and their examples pass a shuffle buffer;
    both depend on (seed, epoch) only. A batch may hold the end of one epoch and the beginning of
    the next, so that no example is left out.
    """
    examples = manifest.examples["train"]
    first_epoch, skipped = divmod(first_step * batch_size, examples)
    last_epoch = math.ceil(steps * batch_size / examples)
    epochs = range(first_epoch, max(last_epoch, first_epoch + 1))
    orders = np.stack(
        [random.generator(seed, "file order", epoch).permutation(len(files)) for epoch in epochs]
    )
    seeds = np.array(
        [random.key(seed, "shuffle buffer", epoch) >> 65 for epoch in epochs], np.int64
    )
    names = tf.constant([str(path) for path in files])

    def epoch_records(order: tf.Tensor, epoch_seed: tf.Tensor) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(
            tf.gather(names, order), manifest.compression, buffer_size=_READ_BYTES
        )
        return records.shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)

    dataset = tf.data.Dataset.from_tensor_slices((orders, seeds)).flat_map(epoch_records)
    return _batched(dataset.skip(skipped), manifest, batch_size, drop_remainder=True)


def evaluation_batches(
    files: Sequence[Path], manifest: Manifest, batch_size: int
) -> tf.data.Dataset:
    """All examples once, in order; the last batch is filled up with rows of weight zero."""
    records = tf.data.TFRecordDataset(
        [str(path) for path in files], manifest.compression, buffer_size=_READ_BYTES
    )
    return _batched(records, manifest, batch_size, drop_remainder=False)


def _batched(
    records: tf.data.Dataset, manifest: Manifest, batch_size: int, drop_remainder: bool
) -> tf.data.Dataset:
    # Parsing whole batches is several times faster than parsing examples and batching them.
    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = _parse(serialized, manifest.max_seq_length, manifest.max_predictions_per_seq)
        return _pad(batch, batch_size)

    return (
        records.batch(batch_size, drop_remainder=drop_remainder)
        .map(parse, num_parallel_calls=_PARALLEL_BATCHES)
        .prefetch(_PARALLEL_BATCHES)
    )
