"""Batches of external examples, and their reader for TFRecords.

`lib.records.tfrecord_reader.decode` decodes a record in plain Python, value by value, which is
fine for a few records. Here the packed values of a whole batch are cut out, joined and decoded at
once. Records whose layout differs from the one that protocol buffers' own serializers write go
through `decode`.

A library would take fewer lines but more time. Reading 100 MB of records (120,000 of up to 128
tokens) takes 2.6 s of processor time; with messages of google.protobuf it took 8.7 s, of which most
went into arrays of their lists. TensorFlow's import alone takes seconds in each worker.

Shapes: B examples in the batch, S tokens per sequence, P predictions per sequence, V values of a
feature (S, P or 1).
"""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.records.tfrecord import FLOAT_LIST, INT64_LIST, entry_header, opening
from lib.records.tfrecord_reader import (
    FEATURES,
    NEXT_SENTENCE,
    FeatureSpecs,
    canonical_name,
    decode,
    pretraining_example,
    read_records,
)
from lib.run.errors import UserError

_ENTRY = 0x0A  # tag of field 1, length-delimited: an Example, its Features and each entry begin so
_KINDS = dict.fromkeys(FEATURES, INT64_LIST) | {"masked_lm_weights": FLOAT_LIST}
_MAX_VARINT_BYTES = 5  # ids and positions never take more


@dataclass(frozen=True)
class SequenceSizes:
    """Sizes of the sequences of a file.

    Attributes:
        shortest, longest: S; they differ only in JSON lines.
        predictions: P; in JSON lines, the maximum number of masked positions per example.
        next_sentence: the examples have next-sentence labels.
    """

    shortest: int
    longest: int
    predictions: int
    next_sentence: bool = True


@dataclass(frozen=True)
class ExampleBatch:
    """B external examples as they were read, not yet validated.

    Attributes:
        numbers: int64 [B]: their positions in the file, counted from 1 (JSON lines: line numbers).
        features: by Google's names: input_ids, input_mask, segment_ids int64 [B, S];
            masked_lm_positions, masked_lm_ids int64 [B, P]; masked_lm_weights float32 [B, P];
            next_sentence_labels int64 [B, 1], 0 if the examples have none.
    """

    numbers: np.ndarray
    features: dict[str, np.ndarray]


def tfrecord_sizes(path: Path, compressed: bool) -> SequenceSizes:
    """The sizes in the first record; `read_tfrecords` makes sure that the others are equal.

    Raises:
        UserError: there is no record, or the first one is not a pretraining example.
    """
    for record in read_records(path, compressed):
        _, specs = pretraining_example(record, f"{path}: record 1", None)
        length = specs["input_ids"][0]
        predictions = specs["masked_lm_positions"][0]
        return SequenceSizes(length, length, predictions, NEXT_SENTENCE in specs)
    raise UserError(f"{path}: holds no records; remove it or create it again")


def read_tfrecords(path: Path, compressed: bool, batch_size: int) -> Iterator[ExampleBatch]:
    """The pretraining examples of a TFRecord file in Google's format, ours or external.

    Args:
        compressed: by gzip.
        batch_size: B, fewer in the last batch.

    Raises:
        UserError: the file is damaged, holds something else, or sequences of different sizes; the
            message names the file and the record.
    """
    records = read_records(path, compressed)
    expected: FeatureSpecs | None = None
    for first in itertools.count(1, batch_size):
        batch = list(itertools.islice(records, batch_size))
        if not batch:
            return
        features = _decode_batch(batch)
        specs = {name: (matrix.shape[1], matrix.dtype) for name, matrix in features.items()}
        if not specs or (expected and specs != expected):
            # One by one: any layout is read, and errors name the record.
            examples = []
            for number, record in enumerate(batch, first):
                example, expected = pretraining_example(
                    record, f"{path}: record {number}", expected
                )
                examples.append(example)
            # B arrays [V] -> [B, V]
            features = {
                name: np.stack([example[name] for example in examples]) for name in FEATURES
            }
        elif expected is None:
            # The sizes of the first record have to be consistent, too.
            _, expected = pretraining_example(batch[0], f"{path}: record {first}", None)
        features.setdefault(NEXT_SENTENCE, np.zeros((len(batch), 1), np.int64))
        yield ExampleBatch(np.arange(first, first + len(batch)), features)


def _decode_batch(records: list[bytes]) -> dict[str, np.ndarray]:
    """Google's features as matrices [B, V]; {} if the records cannot be decoded together.

    Next-sentence labels are missing if no record has them.
    """
    packed = [_packed_values(record) for record in records]
    labelled = any(NEXT_SENTENCE in values for values in packed)
    features = {}
    for name in FEATURES:
        if name == NEXT_SENTENCE and not labelled:
            continue
        try:
            columns = [values[name] for values in packed]
        except KeyError:
            return {}
        matrix = _floats(columns) if _KINDS[name] == FLOAT_LIST else _integers(columns)
        if matrix is None:
            return {}
        features[name] = matrix
    return features


def _packed_values(record: bytes) -> dict[str, bytes]:
    """The packed values of each feature; {} if the layout of the record is unusual or damaged.

    Features that are not Google's are checked, but not kept.
    """
    found = {}
    try:
        size, offset = _read_size(record, 1)
        if record[0] != _ENTRY or offset + size != len(record):
            return {}
        while offset < len(record):
            size, start = _read_size(record, offset + 1)
            key = record[start + 2 : start + 2 + record[start + 1]]
            name, header = _usual_header(key, size)
            if not record.startswith(header, offset):
                return {}
            if not header:
                entry = record[offset : start + size]
                decode(opening(1, len(entry)) + entry)  # A record with this entry only.
            found[name] = record[offset + len(header) : start + size]
            offset = start + size
    except (IndexError, UserError):
        return {}
    return found if offset == len(record) else {}


def _read_size(record: bytes, offset: int) -> tuple[int, int]:
    """The size at `offset`, a varint of one to three bytes, and the offset after it."""
    size = record[offset]
    if size < 0x80:
        return size, offset + 1
    size += (record[offset + 1] << 7) - 0x80
    if record[offset + 1] < 0x80:
        return size, offset + 2
    return size + (record[offset + 2] << 14) - 0x4000, offset + 3


@functools.lru_cache(maxsize=1 << 16)
def _usual_header(key: bytes, size: int) -> tuple[str, bytes]:
    """A feature's name, and the bytes before the values in an entry of `size` bytes.

    A feature that is not one of Google's has an empty header.
    """
    name = canonical_name(key.decode(errors="replace"))
    if name in _KINDS:
        # Search for the number of bytes of the values. Only one fits, because the header never
        # shrinks when the values grow. Its tags and lengths take fewer than 32 bytes.
        for values in range(size, max(size - len(key) - 32, -1), -1):
            header = entry_header(key.decode(), _KINDS[name], values)
            if header.startswith(opening(1, size)):
                return name, header
    return name, b""


def _floats(columns: list[bytes]) -> np.ndarray | None:
    """float32 [B, V]; None if the records have different numbers of values."""
    if len(set(map(len, columns))) != 1 or len(columns[0]) % 4:
        return None
    values = np.frombuffer(b"".join(columns), "<f4").astype(np.float32)
    return values.reshape(len(columns), -1)  # [B * V] -> [B, V]


def _integers(columns: list[bytes]) -> np.ndarray | None:
    """int64 [B, V], decoded from varints; None if the records have different numbers of values.

    A varint has seven bits of the number in each byte, the lowest first; the eighth bit is set if
    another byte follows. So the bytes 05 ac 02 of one record are the numbers 5 and 0x2c + (2 << 7)
    = 300.
    """
    data = np.frombuffer(b"".join(columns), np.uint8)
    record_ends = np.cumsum(list(map(len, columns)))  # [B]
    ends = np.flatnonzero(data < 0x80) + 1  # [B * V]: where each number ends
    # Numbers up to the end of each record, which has to be the end of a number, too.
    counts = np.searchsorted(ends, record_ends, "right")
    if counts[0] == 0 or (ends[counts - 1] != record_ends).any():
        return None
    values_per_record = int(counts[0])
    if (np.diff(counts) != values_per_record).any():
        return None
    if len(ends) == len(data):
        return data.reshape(len(columns), values_per_record).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    widths = ends - starts
    if widths.max() > _MAX_VARINT_BYTES:
        return None
    values = (data[starts] & 0x7F).astype(np.int64)
    for byte in range(1, int(widths.max())):
        longer = np.flatnonzero(widths > byte)
        values[longer] |= (data[starts[longer] + byte] & 0x7F).astype(np.int64) << 7 * byte
    return values.reshape(len(columns), values_per_record)  # [B * V] -> [B, V]
