"""Examples made elsewhere, a block of rows at a time; here out of TFRecords.

`lib.records.tfrecord_reader.decode` takes a record apart in plain Python, value by
value, which is right for looking at a few. Here the packed values of a whole block are cut out, joined, and
turned into numbers at once. Records that are laid out otherwise than protocol buffers' own serializers do it
go through `decode` all the same.
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
    Forms,
    canonical_name,
    pretraining_example,
    read_records,
)
from lib.run.errors import UserError

_ENTRY = 0x0A  # field 1, length-delimited: what an Example, its Features and its entries begin with
_KINDS = dict.fromkeys(FEATURES, INT64_LIST) | {"masked_lm_weights": FLOAT_LIST}
_LONGEST_VARINT = 5  # bytes; what takes more is no id or position


@dataclass(frozen=True)
class SequenceSizes:
    """How large the rows of a file are.

    Attributes:
        shortest, longest: S, the cells of a row, which may differ in JSON lines only.
        predictions: P, the masked positions that a row has room for; of JSON lines the most that
            any row has.
        next_sentence: rows say whether their second segment is the next one.
    """

    shortest: int
    longest: int
    predictions: int
    next_sentence: bool = True


@dataclass(frozen=True)
class ExampleBatch:
    """R examples, one a row, as they were read: nothing in them has been checked.

    Attributes:
        numbers: int64 [R]: their places in the file, from 1 on (of JSON lines those of the lines).
        features: Google's, by its names: input_ids, input_mask, segment_ids int64 [R, S];
            masked_lm_positions, masked_lm_ids int64 [R, P]; masked_lm_weights float32 [R, P];
            next_sentence_labels int64 [R, 1].
    """

    numbers: np.ndarray
    features: dict[str, np.ndarray]


def tfrecord_sizes(path: Path, compressed: bool) -> SequenceSizes:
    """The sizes that the first record has; `read_tfrecords` holds the others to them.

    Raises:
        UserError: there is no record, or it is no pretraining example.
    """
    for record in read_records(path, compressed):
        _, forms = pretraining_example(record, f"{path}: record 1", None)
        length = forms["input_ids"][0]
        return SequenceSizes(length, length, forms["masked_lm_positions"][0])
    raise UserError(f"{path}: holds no records; remove it or make it again")


def read_tfrecords(path: Path, compressed: bool, rows: int) -> Iterator[ExampleBatch]:
    """The pretraining examples of a TFRecord file in Google's format, whoever wrote it.

    Args:
        compressed: by gzip.
        rows: of a block.

    Raises:
        UserError: the file is damaged, holds something else, or rows of different sizes; names
            the file and the record.
    """
    records = read_records(path, compressed)
    expected: Forms | None = None
    for first in itertools.count(1, rows):
        some = list(itertools.islice(records, rows))
        if not some:
            return
        features = _matrices(some)
        forms = {name: (matrix.shape[1], matrix.dtype) for name, matrix in features.items()}
        if not forms or (expected and forms != expected):
            examples = []
            for number, record in enumerate(some, first):
                example, expected = pretraining_example(
                    record, f"{path}: record {number}", expected
                )
                examples.append(example)
            features = {name: np.stack([each[name] for each in examples]) for name in FEATURES}
        elif expected is None:
            # The first record's sizes have to fit together, too.
            _, expected = pretraining_example(some[0], f"{path}: record {first}", None)
        yield ExampleBatch(np.arange(first, first + len(some)), features)


def _matrices(records: list[bytes]) -> dict[str, np.ndarray]:
    """Google's features as matrices [rows, values]; {} if this is not the way to read them."""
    cut = [_packed_values(record) for record in records]
    features = {}
    for name in FEATURES:
        try:
            blobs = [values[name] for values in cut]
        except KeyError:
            return {}
        matrix = _floats(blobs) if _KINDS[name] == FLOAT_LIST else _integers(blobs)
        if matrix is None:
            return {}
        features[name] = matrix
    return features


def _packed_values(record: bytes) -> dict[str, bytes]:
    """The packed values of each feature; {} if the record is not laid out as usual."""
    found = {}
    try:
        size, place = _size(record, 1)
        if record[0] != _ENTRY or place + size != len(record):
            return {}
        while place < len(record):
            size, start = _size(record, place + 1)
            name = record[start + 2 : start + 2 + record[start + 1]]
            known, header = _usual_header(name, size)
            if not record.startswith(header, place):
                return {}
            found[known] = record[place + len(header) : start + size]
            place = start + size
    except IndexError:
        return {}
    return found if place == len(record) else {}


def _size(record: bytes, place: int) -> tuple[int, int]:
    """The size that stands at `place` in one byte, two or three, and the place behind it."""
    size = record[place]
    if size < 0x80:
        return size, place + 1
    size += (record[place + 1] << 7) - 0x80
    if record[place + 1] < 0x80:
        return size, place + 2
    return size + (record[place + 2] << 14) - 0x4000, place + 3


@functools.lru_cache(maxsize=1 << 16)
def _usual_header(key: bytes, size: int) -> tuple[str, bytes]:
    """A feature's name, and the bytes before the values in an entry of `size` bytes.

    A feature that is none of Google's has no such bytes: whatever it holds, it is passed by.
    """
    name = canonical_name(key.decode(errors="replace"))
    if name in _KINDS:
        # One number of values gives this size, because their header grows with it, if at all. Its
        # tags and lengths are fewer than 32 bytes.
        for values in range(size, max(size - len(key) - 32, -1), -1):
            header = entry_header(key.decode(), _KINDS[name], values)
            if header.startswith(opening(1, size)):
                return name, header
    return name, b""


def _floats(blobs: list[bytes]) -> np.ndarray | None:
    """float32 [rows, values]; None if the rows have different numbers of them."""
    if len(set(map(len, blobs))) != 1 or len(blobs[0]) % 4:
        return None
    return np.frombuffer(b"".join(blobs), "<f4").astype(np.float32).reshape(len(blobs), -1)


def _integers(blobs: list[bytes]) -> np.ndarray | None:
    """The varints of each row as int64 [rows, values]; None if their numbers differ.

    A varint has seven bits of the number in each byte, the lowest first; the eighth bit says
    that another byte follows.
    """
    data = np.frombuffer(b"".join(blobs), np.uint8)
    row_ends = np.cumsum(list(map(len, blobs)))
    ends = np.flatnonzero(data < 0x80) + 1
    # The numbers that end by the end of each row, which has to be the end of one itself.
    counts = np.searchsorted(ends, row_ends, "right")
    if counts[0] == 0 or (ends[counts - 1] != row_ends).any():
        return None
    columns = int(counts[0])
    if (np.diff(counts) != columns).any():
        return None
    if len(ends) == len(data):
        return data.reshape(len(blobs), columns).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    widths = ends - starts
    if widths.max() > _LONGEST_VARINT:
        return None
    values = (data[starts] & 0x7F).astype(np.int64)
    for place in range(1, int(widths.max())):
        longer = np.flatnonzero(widths > place)
        values[longer] |= (data[starts[longer] + place] & 0x7F).astype(np.int64) << 7 * place
    return values.reshape(len(blobs), columns)
