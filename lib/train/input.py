"""Records -> batches: an order that is a function of (seed, epoch), sought by row.

A row is one record: an example, or several when they are packed. S is the sequence length, K the
examples a row, P the predictions a row (see `lib.records.manifest`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.records.manifest import Manifest, record_files
from lib.run import random, tf
from lib.train.dynamic_masking import DynamicMasking, Vocabulary

_PARALLEL_CALLS = 2
_READ_BYTES = 1 << 20
# Small batches are parsed and masked together, because each operation has a cost of its own: a
# batch of 32 rows of 128 takes a fifth less processor time so, with static and dynamic masks [m].
_CELLS_AT_ONCE = 1 << 15


def training_batches(
    records: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    *,
    batch_size: int,
    steps: int,
    buffer: int,
    seed: int,
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Endless epochs cut into batches, from optimizer step `first_step` (0 at the start) on.

    In each epoch the files are read in a new order and their rows pass a shuffle buffer; both
    depend on (seed, epoch) only. A batch may hold the end of one epoch and the beginning of the
    next, so that no row is left out. Unmasked rows get masks that depend on seed and place only.

    Several input workers divide each step's rows equally. Where there are enough files, each has
    a part of the data for itself: the rows of all files, one after the other, are cut into equal
    parts (equal to within one row, wherever in a file that is), and each worker runs through its
    part in epochs of its own; so all have seen their rows equally often, to within one row an
    epoch. Otherwise all read everything in the order of a single worker and each takes
    its place in every batch: together they see the very batches that a single worker would.

    Args:
        records: the folder that the manifest stands in.
        vocabulary: that of the records; only dynamic masking looks at it.
        batch_size: rows of a step, of all workers together.
        steps: of the whole run; the batches do not end before.
        buffer: rows to shuffle among.
        worker: 0 to workers - 1.

    Returns:
        Batches of batch_size / workers rows as `lib.model.losses.loss_sums` takes them.

    Raises:
        ValueError: `batch_size` is no multiple of `workers`.
    """
    if batch_size % workers:
        raise ValueError(f"`batch_size` {batch_size} should be a multiple of {workers} workers")
    split = manifest.splits["train"]
    share = batch_size // workers
    paths = record_files(records, manifest, "train")
    alone = sum(count > 0 for count in split.file_sequences) >= workers
    if alone:
        files, first, count = _part(split.file_sequences, worker, workers)
        stream, taken, place = worker, share, 0
        at_once = min(steps, max(1, _CELLS_AT_ONCE // (share * manifest.max_seq_length)))
    else:
        files, first, count = _part(split.file_sequences, 0, 1)
        stream, taken, place = 0, batch_size, worker * share
        at_once = 1
    rows = int(count.sum())
    first_epoch, skipped = divmod(first_step * taken, rows)
    last_epoch = math.ceil((steps + at_once) * taken / rows)
    epochs = range(first_epoch, max(last_epoch, first_epoch + 1))
    orders = np.stack(
        [
            random.generator(seed, "file order", epoch, stream).permutation(len(files))
            for epoch in epochs
        ]
    )
    seeds = np.array(
        [random.key(seed, "shuffle buffer", epoch, stream) >> 65 for epoch in epochs], np.int64
    )
    pieces = (tf.constant([str(paths[number]) for number in files]), first, count)

    def piece_records(path: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        return _read(path, manifest).skip(first).take(count)

    def epoch_records(order: tf.Tensor, epoch_seed: tf.Tensor) -> tf.data.Dataset:
        ordered = tuple(tf.gather(values, order) for values in pieces)
        rows = tf.data.Dataset.from_tensor_slices(ordered).flat_map(piece_records)
        return rows.shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)

    masking = None
    if split.masking == "dynamic":
        masking = DynamicMasking(manifest, vocabulary, seed, stream)

    def batches(number: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = _parse(serialized[place:][: share * at_once], manifest, split.masking)
        if masking:
            parsed = masking(parsed, (first_step + number * at_once) * taken + place)
        return {
            name: tf.reshape(values, [at_once, share, *values.shape[1:]])
            for name, values in parsed.items()
        }

    return (
        tf.data.Dataset.from_tensor_slices((orders, seeds))
        .flat_map(epoch_records)
        .skip(skipped)
        .batch(taken * at_once, drop_remainder=True)
        .enumerate()
        .map(batches, num_parallel_calls=_PARALLEL_CALLS)
        .unbatch()
        .prefetch(_PARALLEL_CALLS)
    )


def _part(
    file_rows: Sequence[int], worker: int, workers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The worker's part of all rows: int64 arrays of file numbers, first rows, numbers of rows."""
    ends = np.cumsum(file_rows)
    starts = ends - file_rows
    low, high = (int(ends[-1]) * number // workers for number in (worker, worker + 1))
    first = np.clip(low - starts, 0, file_rows)
    count = np.clip(high - starts, 0, file_rows) - first
    files = np.flatnonzero(count)
    return files, first[files], count[files]


def evaluation_batches(
    records: Path,
    manifest: Manifest,
    split: str,
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """All rows of a split with static masks once, in order; each worker has a part of each batch.

    The last batch is filled up with rows of weight zero: shapes stay static.
    """
    share = batch_size // workers
    files = [str(path) for path in record_files(records, manifest, split)]

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = _parse(serialized, manifest, manifest.splits[split].masking)
        missing = batch_size - tf.shape(serialized)[0]
        return {
            name: tf.ensure_shape(
                tf.pad(values, [[0, missing], *[[0, 0]] * (values.shape.rank - 1)])[
                    worker * share : (worker + 1) * share
                ],
                [share, *values.shape[1:]],
            )
            for name, values in parsed.items()
        }

    return (
        _read(files, manifest)
        .batch(batch_size)
        .map(parse, num_parallel_calls=_PARALLEL_CALLS)
        .prefetch(_PARALLEL_CALLS)
    )


def _read(files: Sequence[str] | tf.Tensor, manifest: Manifest) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(files, manifest.compression, buffer_size=_READ_BYTES)


def _parse(serialized: tf.Tensor, manifest: Manifest, masking: str) -> dict[str, tf.Tensor]:
    """Serialised rows -> int32 and float32 tensors.

    Parsing whole batches is several times faster than parsing rows and batching them.
    """
    length, examples = manifest.max_seq_length, manifest.examples_per_sequence
    integers = {"input_ids": length, "segment_ids": length, "next_sentence_labels": examples}
    floats = {}
    if manifest.packing:
        integers |= {"position_ids": length, "example_ids": length, "cls_positions": examples}
        floats["next_sentence_weights"] = examples
    else:
        integers["input_mask"] = length
    if masking == "static":
        predictions = manifest.predictions_per_sequence
        integers |= {"masked_lm_positions": predictions, "masked_lm_ids": predictions}
        floats["masked_lm_weights"] = predictions
    sizes = [(integers, tf.int64), (floats, tf.float32)]
    parsed = tf.io.parse_example(
        serialized,
        {
            name: tf.io.FixedLenFeature([size], dtype)
            for features, dtype in sizes
            for name, size in features.items()
        },
    )
    return {
        **{name: tf.cast(parsed[name], tf.int32) for name in integers},
        **{name: parsed[name] for name in floats},
        "example_weights": tf.ones(tf.shape(serialized)[:1]),
    }
