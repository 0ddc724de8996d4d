"""tf.data input pipeline: shuffle order is a function of (seed, epoch), resumable at any step.

A sequence is one record: an example, or several packed ones. Shapes: n sequences, S tokens per
sequence, K examples per sequence, P masked positions per sequence (see `lib.records.manifest`).
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lib.records.manifest import Manifest, Split, feature_sizes, record_files
from lib.run import random, tf
from lib.train.dynamic_masking import DynamicMasking, Vocabulary

_PARALLEL_CALLS = 2
_READ_BYTES = 1 << 20
# Small batches are parsed and masked together, because each operation has a constant cost: measured
# with batches of 32 sequences of 128 tokens, that saves a fifth of the processor time with static
# and with dynamic masks.
_MAX_TOKENS_AT_ONCE = 1 << 15
# A sequence stays in a shuffle buffer of B for another draw with probability 1 - 1/B, and so for
# 40 B draws with less than e^-40: among 100 million sequences there is one with probability 4e-10.
_BUFFERS_UNTIL_READ = 40


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
    offset: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> tf.data.Dataset:
    """Batches of consecutive epochs, beginning after `first_step` optimizer steps.

    In each epoch the files are read in a new order and their sequences pass a shuffle buffer; both
    depend on (seed, epoch) only. A batch may contain the end of one epoch and the beginning of the
    next, so that no sequence is left out. Unmasked sequences get masks that depend on the seed and
    on their position in the order only.

    Several input workers divide each batch equally. If there are enough files, each has a part of
    the data for itself: the sequences of all files in order are cut into equal parts, to within one
    sequence, which may begin and end within files. Each worker runs through its part in epochs of
    its own, so that in every epoch all sequences are seen equally often, to within one. Two files
    of 5 and 4 sequences and 2 workers, with sequences numbered in order:

        file 0: 0 1 2 3 4    file 1: 5 6 7 8    worker 0: 0 1 2 3    worker 1: 4 5 6 7 8

    Otherwise every worker reads everything in the order of a single worker and takes its part of
    each batch: together they see the same batches as a single worker.

    Files of which everything comes before `first_step` are not read: placeholders pass the shuffle
    buffer instead, so that it makes the same draws.

    Args:
        records: the folder that contains the manifest.
        vocabulary: that of the records; used by dynamic masking only.
        batch_size: sequences per step, of all workers together.
        steps: of the whole run; there are at least as many batches.
        offset: position in the order at which the first step of the run begins, in sequences of all
            workers together; below 0 where the first steps read other records.
        buffer: size of the shuffle buffer, in sequences.
        worker: 0 to workers - 1.

    Returns:
        Batches of batch_size / workers sequences, as for `lib.model.losses.loss_sums`.

    Raises:
        ValueError: `batch_size` is not a multiple of `workers`.
    """
    if batch_size % workers:
        raise ValueError(f"`batch_size` {batch_size} should be a multiple of {workers} workers")
    split = manifest.splits["train"]
    own_size = batch_size // workers
    paths = record_files(records, manifest, "train")
    separate = sum(count > 0 for count in split.file_sequences) >= workers
    # Of each batch that is read, `read_size` sequences, this worker takes `own_size`, from
    # `own_part` on.
    if separate:
        files, first, count = _part(split.file_sequences, worker, workers)
        stream_number, read_size, own_part = worker, own_size, 0
        before = offset // workers
        tokens = own_size * manifest.max_seq_length
        batches_at_once = min(steps, max(1, _MAX_TOKENS_AT_ONCE // tokens))
    else:
        files, first, count = _part(split.file_sequences, 0, 1)
        stream_number, read_size, own_part = 0, batch_size, worker * own_size
        before = offset
        batches_at_once = 1
    sequences = int(count.sum())
    first_sequence = before + first_step * read_size
    first_epoch, skipped = divmod(first_sequence, sequences)
    last_epoch = math.ceil((before + (steps + batches_at_once) * read_size) / sequences)
    epochs = range(first_epoch, max(last_epoch, first_epoch + 1))
    orders = np.stack(
        [
            random.generator(seed, "file order", epoch, stream_number).permutation(len(files))
            for epoch in epochs
        ]
    )
    seeds = np.array(
        [random.key(seed, "shuffle buffer", epoch, stream_number) >> 65 for epoch in epochs],
        np.int64,
    )
    ranges = (tf.constant([str(paths[number]) for number in files]), first, count)
    ends = np.cumsum(count[orders[0]])
    read_files = int(np.count_nonzero(ends + _BUFFERS_UNTIL_READ * buffer <= skipped))
    read_sequences = int(ends[read_files - 1]) if read_files else 0

    def read_range(path: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        return _read(path, manifest, count, first)

    def read_epoch(order: tf.Tensor, epoch_seed: tf.Tensor) -> tf.data.Dataset:
        ordered = tuple(tf.gather(values, order) for values in ranges)
        sequences = tf.data.Dataset.from_tensor_slices(ordered).flat_map(read_range)
        return sequences.shuffle(buffer, seed=epoch_seed, reshuffle_each_iteration=False)

    def rest_of_first_epoch() -> tf.data.Dataset:
        ordered = tuple(tf.gather(values, orders[0][read_files:]) for values in ranges)
        sequences = _placeholders(read_sequences).concatenate(
            tf.data.Dataset.from_tensor_slices(ordered).flat_map(read_range)
        )
        shuffled = sequences.shuffle(buffer, seed=seeds[0], reshuffle_each_iteration=False)
        return shuffled.skip(skipped)

    masking = None
    if split.masking == "dynamic":
        masking = DynamicMasking(manifest, vocabulary, seed, stream_number)

    def make_batches(number: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        own = serialized[own_part:][: own_size * batches_at_once]
        parsed = _parse(own, manifest, split)
        if masking:
            position = first_sequence + number * batches_at_once * read_size + own_part
            parsed = masking(parsed, position)
        return {  # [batches_at_once * own_size, ...] -> [batches_at_once, own_size, ...]
            name: tf.reshape(values, [batches_at_once, own_size, *values.shape[1:]])
            for name, values in parsed.items()
        }

    if read_files:
        later = tf.data.Dataset.from_tensor_slices((orders[1:], seeds[1:])).flat_map(read_epoch)
        stream = rest_of_first_epoch().concatenate(later)
    else:
        every = tf.data.Dataset.from_tensor_slices((orders, seeds))
        stream = every.flat_map(read_epoch).skip(skipped)
    return (
        stream.batch(read_size * batches_at_once, drop_remainder=True)
        .enumerate()
        .map(make_batches, num_parallel_calls=_PARALLEL_CALLS)
        .unbatch()
        .prefetch(_PARALLEL_CALLS)
    )


def _part(
    file_sequences: Sequence[int], worker: int, workers: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of a worker: int64 arrays of file numbers, first sequences in them, and counts."""
    ends = np.cumsum(file_sequences)
    starts = ends - file_sequences
    low, high = (int(ends[-1]) * number // workers for number in (worker, worker + 1))
    first = np.clip(low - starts, 0, file_sequences)
    count = np.clip(high - starts, 0, file_sequences) - first
    files = np.flatnonzero(count)
    return files, first[files], count[files]


def evaluation_batches(
    records: Path,
    manifest: Manifest,
    split: str,
    batch_size: int,
    worker: int = 0,
    workers: int = 1,
    max_sequences: int | None = None,
) -> tf.data.Dataset:
    """The sequences of a statically masked split once, in order.

    Each worker has its part of each batch. The last batch is filled up with sequences of weight 0,
    so that shapes are static.

    Args:
        max_sequences: read so many at most: of each file its first ones, in proportion to its size.
    """
    own_size = batch_size // workers
    counts = np.array(manifest.splits[split].file_sequences)
    if max_sequences is not None and counts.sum() > max_sequences:
        ends = np.cumsum(counts) * max_sequences // counts.sum()
        counts = np.diff(ends, prepend=0)
    files = tf.constant([str(path) for path in record_files(records, manifest, split)])

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = _parse(serialized, manifest, manifest.splits[split])
        missing = batch_size - tf.shape(serialized)[0]
        return {
            name: tf.ensure_shape(
                tf.pad(values, [[0, missing], *[[0, 0]] * (values.shape.rank - 1)])[
                    worker * own_size : (worker + 1) * own_size
                ],
                [own_size, *values.shape[1:]],
            )
            for name, values in parsed.items()
        }

    def read_first(path: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
        return _read(path, manifest, count)

    return (
        tf.data.Dataset.from_tensor_slices((files, counts))
        .flat_map(read_first)
        .batch(batch_size)
        .map(parse, num_parallel_calls=_PARALLEL_CALLS)
        .prefetch(_PARALLEL_CALLS)
    )


def _placeholders(count: int) -> tf.data.Dataset:
    """So many empty strings, at a fraction of the cost of reading records."""
    some = tf.data.Dataset.from_tensor_slices(tf.fill([1024], ""))
    return some.repeat(-(-count // 1024)).take(count)


def _read(
    path: tf.Tensor, manifest: Manifest, count: tf.Tensor, first: tf.Tensor | int = 0
) -> tf.data.Dataset:
    """So many records of a file from a number on; an error if it has fewer."""
    records = tf.data.TFRecordDataset(path, manifest.compression, buffer_size=_READ_BYTES)
    return records.skip(first).take(count).apply(tf.data.experimental.assert_cardinality(count))


def _parse(serialized: tf.Tensor, manifest: Manifest, split: Split) -> dict[str, tf.Tensor]:
    """Serialised records [n] -> int32 and float32 tensors [n, S, K or P].

    Parsing whole batches is several times faster than parsing single records and batching them.
    """
    integers, floats = feature_sizes(manifest, split)
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
