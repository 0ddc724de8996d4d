"""tf.data input pipeline: shuffle order is a function of (seed, epoch), resumable at any step.

A sequence is one record: an example, or several packed ones. Shapes: n sequences, S tokens per
sequence, K examples per sequence, P masked positions per sequence (see `lib.records.manifest`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.records.manifest import Manifest, Split, feature_sizes, record_files
from lib.run import random, tf
from lib.train.dynamic_masking import DynamicMasking, Vocabulary
from lib.train.mixture import Mixture

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
    mixture: Mixture | None = None,
) -> tf.data.Dataset:
    """Batches of consecutive epochs, beginning after `first_step` optimizer steps.

    In each epoch the files are read in a new order and their sequences pass a shuffle buffer; both
    depend on (seed, epoch) only. A batch may contain the end of one epoch and the beginning of the
    next, so that no sequence is left out. Unmasked sequences get masks that depend on the seed and
    on their position in the order only.

    With a mixture each input has such an order of its own, in epochs of its own, and the mixture
    says from which of them the next sequence is taken.

    Several input workers divide each batch equally. If there are enough files, each has a part of
    the data for itself: the sequences of all files in order are cut into equal parts, to within one
    sequence, which may begin and end within files. Each worker runs through its part in epochs of
    its own, so that in every epoch all sequences are seen equally often, to within one. Two files
    of 5 and 4 sequences and 2 workers, with sequences numbered in order:

        file 0: 0 1 2 3 4    file 1: 5 6 7 8    worker 0: 0 1 2 3    worker 1: 4 5 6 7 8

    Otherwise, and with a mixture, every worker reads everything in the order of a single worker and
    takes its part of each batch: together they see the same batches as a single worker.

    Files of which everything comes before `first_step` are not read: placeholders pass the shuffle
    buffer instead, so that it makes the same draws.

    Args:
        records: the folder that contains the manifest.
        vocabulary: that of the records; used by dynamic masking only.
        batch_size: sequences per step, of all workers together.
        steps: of the whole run; there are at least as many batches.
        offset: position in the order at which the first step of the run begins, in sequences of all
            workers together; below 0 where the first steps read other records.
        buffer: size of the shuffle buffer, in sequences; the inputs of a mixture share it.
        worker: 0 to workers - 1.
        mixture: of the inputs of the records; None: all sequences in one order.

    Returns:
        Batches of batch_size / workers sequences, as for `lib.model.losses.loss_sums`.

    Raises:
        ValueError: `batch_size` is not a multiple of `workers`.
    """
    if batch_size % workers:
        raise ValueError(f"`batch_size` {batch_size} should be a multiple of {workers} workers")
    split = manifest.splits["train"]
    own_size = batch_size // workers
    full_files = sum(count > 0 for count in split.file_sequences)
    separate = full_files >= workers and (workers == 1 or mixture is None)
    # Of each batch that is read, `read_size` sequences, this worker takes `own_size`, from
    # `own_part` on.
    if separate:
        part = _part(split.file_sequences, worker, workers)
        stream_number, read_size, own_part = worker, own_size, 0
        before = offset // workers
        tokens = own_size * manifest.max_seq_length
        batches_at_once = min(steps, max(1, _MAX_TOKENS_AT_ONCE // tokens))
    else:
        part = _part(split.file_sequences, 0, 1)
        stream_number, read_size, own_part = 0, batch_size, worker * own_size
        before = offset
        batches_at_once = 1
    first_sequence = before + first_step * read_size
    past_sequence = before + (steps + batches_at_once) * read_size
    source = _Source(records, manifest, part, seed, stream_number)
    if mixture:
        stream = _mixed(source, split, mixture, first_sequence, past_sequence, buffer)
    else:
        stream = source.sequences(first_sequence, past_sequence, buffer)

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

    return (
        stream.batch(read_size * batches_at_once, drop_remainder=True)
        .enumerate()
        .map(make_batches, num_parallel_calls=_PARALLEL_CALLS)
        .unbatch()
        .prefetch(_PARALLEL_CALLS)
    )


@dataclass(frozen=True)
class _Source:
    """Sequences of the training records in their order.

    Attributes:
        part: int64 arrays of file numbers, first sequences in them, and counts (see `_part`).
        name: of the input, "" for all; begins the names of its random streams.
    """

    records: Path
    manifest: Manifest
    part: tuple[np.ndarray, np.ndarray, np.ndarray]
    seed: int
    stream_number: int
    name: str = ""

    def sequences(self, first_sequence: int, past_sequence: int, buffer: int) -> tf.data.Dataset:
        """Serialised sequences from one on, of at least as many epochs as the last one needs."""
        files, first, count = self.part
        sequences = int(count.sum())
        first_epoch, skipped = divmod(first_sequence, sequences)
        last_epoch = math.ceil(past_sequence / sequences)
        epochs = range(first_epoch, max(last_epoch, first_epoch + 1))
        purpose = f"{self.name}/" if self.name else ""
        orders = np.stack(
            [
                random.generator(
                    self.seed, f"{purpose}file order", epoch, self.stream_number
                ).permutation(len(files))
                for epoch in epochs
            ]
        )
        keys = [
            random.key(self.seed, f"{purpose}shuffle buffer", epoch, self.stream_number)
            for epoch in epochs
        ]
        seeds = np.array([key >> 65 for key in keys], np.int64)
        paths = record_files(self.records, self.manifest, "train")
        ranges = (tf.constant([str(paths[number]) for number in files]), first, count)
        ends = np.cumsum(count[orders[0]])
        read_files = int(np.count_nonzero(ends + _BUFFERS_UNTIL_READ * buffer <= skipped))
        read_sequences = int(ends[read_files - 1]) if read_files else 0

        def read_range(path: tf.Tensor, first: tf.Tensor, count: tf.Tensor) -> tf.data.Dataset:
            return _read(path, self.manifest, count, first)

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

        if read_files:
            later = tf.data.Dataset.from_tensor_slices((orders[1:], seeds[1:])).flat_map(read_epoch)
            return rest_of_first_epoch().concatenate(later)
        every = tf.data.Dataset.from_tensor_slices((orders, seeds))
        return every.flat_map(read_epoch).skip(skipped)


def _mixed(
    source: _Source,
    split: Split,
    mixture: Mixture,
    first_sequence: int,
    past_sequence: int,
    buffer: int,
) -> tf.data.Dataset:
    """Serialised sequences from one on, each of the input that the mixture gives it."""
    owners = np.array(split.file_inputs)
    firsts, pasts = mixture.counts(first_sequence), mixture.counts(past_sequence)
    streams = []
    for number, name in enumerate(mixture.names):
        files, first, count = source.part
        own = owners[files] == name
        each = replace(source, part=(files[own], first[own], count[own]), name=name)
        size = max(1, round(buffer * mixture.proportions[number]))
        streams.append(each.sequences(int(firsts[number]), int(pasts[number]), size))
    if len(streams) == 1:
        return streams[0]
    past = min(past_sequence, first_sequence + mixture.period)
    choices = tf.data.Dataset.from_tensor_slices(mixture.inputs(first_sequence, past)).repeat()
    return tf.data.Dataset.choose_from_datasets(streams, choices)


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
