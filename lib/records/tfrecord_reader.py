"""TFRecord files read back, without TensorFlow: for looking at them and for checks.

    python -m lib.records.tfrecord_reader data/records/main/dev/00000.tfrecord

says what a file of pretraining examples in Google's format holds. `lib.records.tfrecord` describes
the format and writes it.
"""

import gzip
import itertools
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from lib.records.tfrecord import (
    BYTES_LIST,
    FIXED32,
    FLOAT_LIST,
    LENGTH_DELIMITED,
    VARINT,
    checksum_bytes,
)
from lib.run.errors import UserError

_PIECE_BYTES = 1 << 20

# What Google's run_pretraining.py asks for: numbers of the row, numbers of its predictions.
_ROW = ("input_ids", "input_mask", "segment_ids")
_PREDICTIONS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
FEATURES = (*_ROW, *_PREDICTIONS, "next_sentence_labels")
# What Model Garden's create_pretraining_data.py calls them on demand (use_v2_feature_names).
_OTHER_NAMES = {"input_word_ids": "input_ids", "input_type_ids": "segment_ids"}

# The number of values and the type of each feature.
Forms = dict[str, tuple[int, np.dtype]]


def read_examples(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The pretraining examples of a TFRecord file in Google's format, whoever wrote it.

    Yields:
        input_ids, input_mask, segment_ids: int64 [S]; masked_lm_positions, masked_lm_ids: int64
        [P]; masked_lm_weights: float32 [P]; next_sentence_labels: int64 [1]; and any other
        feature of the record. S and P are those of the first record.

    Raises:
        UserError: the file is damaged, holds something else, or rows of different sizes; names
            the file, the record and what is missing.
    """
    expected: Forms | None = None
    for number, record in enumerate(read_records(path), 1):
        example, expected = pretraining_example(record, f"{path}: record {number}", expected)
        yield example


def canonical_name(name: str) -> str:
    """Google's name of a feature."""
    return _OTHER_NAMES.get(name, name)


def pretraining_example(
    record: bytes, where: str, expected: Forms | None
) -> tuple[dict[str, np.ndarray], Forms]:
    """One serialized example as `read_examples` yields it.

    Args:
        where: names the record in errors.
        expected: what the records before it have had, or None.

    Returns:
        The features, and what all records of the file should have.

    Raises:
        UserError: the record holds something else, or a row of another size.
    """
    try:
        example = {canonical_name(name): values for name, values in decode(record).items()}
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if missing := [name for name in FEATURES if name not in example]:
        raise UserError(
            f"{where} is no pretraining example: it lacks {', '.join(missing)} (it has "
            f"{', '.join(sorted(example)) or 'nothing'}); give a file of the records stage "
            "with masking: static and packing: false, or of Google's create_pretraining_data.py"
        )
    forms = {name: (example[name].size, example[name].dtype) for name in FEATURES}
    expected = expected or _expected(forms)
    if wrong := [name for name in FEATURES if forms[name] != expected[name]]:
        (size, kind), (wanted, right) = forms[wrong[0]], expected[wrong[0]]
        raise UserError(
            f"{where}: {wrong[0]} has {size} values of {kind}, where {wanted} of {right} "
            "belong; make the file again"
        )
    return example, expected


def _expected(forms: Forms) -> Forms:
    """Sizes and types that fit together, given those of one record."""
    integers, floats = np.dtype(np.int64), np.dtype(np.float32)
    return {
        **dict.fromkeys(_ROW, (forms["input_ids"][0], integers)),
        **dict.fromkeys(_PREDICTIONS, (forms["masked_lm_positions"][0], integers)),
        "masked_lm_weights": (forms["masked_lm_positions"][0], floats),
        "next_sentence_labels": (1, integers),
    }


def read_records(path: Path, compressed: bool | None = None) -> Iterator[bytes]:
    """The records of a TFRecord file, checksums checked.

    Args:
        compressed: by gzip; None: if its name ends in .gz.

    Raises:
        UserError: the file is damaged or cut short; names the file and the record, from 1 on.
    """
    number = 0
    try:
        zipped = path.suffix == ".gz" if compressed is None else compressed
        with gzip.open(path) if zipped else path.open("rb") as file:
            for number in itertools.count(1):
                where = f"{path}: record {number}"
                header = _read(file, 12)
                if not header:
                    return
                if len(header) < 12:
                    raise UserError(f"{where} is cut short; make the file again")
                if header[8:] != checksum_bytes(header[:8]):
                    raise UserError(
                        f"{where} has a damaged length (or this is no TFRecord file); make the "
                        "file again"
                    )
                (length,) = struct.unpack("<Q", header[:8])
                data = _read(file, length)
                checksum = _read(file, 4)
                if len(data) < length or len(checksum) < 4:
                    raise UserError(f"{where} is cut short; make the file again")
                if checksum != checksum_bytes(data):
                    raise UserError(f"{where} has damaged data; make the file again")
                yield data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: record {number} cannot be unpacked ({error}); make the file again"
        ) from None


def _read(file: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """So many bytes, or what there is: a damaged length must not ask for that much memory."""
    pieces = []
    while size and (piece := file.read(min(size, _PIECE_BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def decode(record: bytes) -> dict[str, np.ndarray]:
    """The features of one serialized tf.train.Example.

    Returns:
        name → array [values]: int64, float32, or object (of bytes) for a bytes list; a feature
        of no kind is left out.

    Raises:
        UserError: the bytes are not a tf.train.Example.
    """
    features = {}
    try:
        for _, example in _fields(record, 1):
            for _, entry in _fields(example, 1):
                parts = dict(_fields(entry, 2))
                for kind, content in _fields(parts[2], 3):
                    features[parts[1].decode()] = _values(kind, content)
    except (ValueError, LookupError) as error:
        raise UserError(f"A record should be a tf.train.Example. Received: {error}") from error
    return features


def _values(kind: int, content: bytes) -> np.ndarray:
    """One list of a Feature; numbers may be packed, as is usual, or one by one."""
    values = [value for _, value in _fields(content, 1)]
    if kind == BYTES_LIST:
        return np.array(values, dtype=object)
    packed = b"".join(values)
    if kind == FLOAT_LIST:
        return np.frombuffer(packed, dtype="<f4").astype(np.float32)
    numbers, place = [], 0
    while place < len(packed):
        number, place = _read_varint(packed, place)
        numbers.append(number)
    return np.array(numbers, dtype=np.uint64).view(np.int64)


def _fields(message: bytes, highest: int) -> Iterator[tuple[int, bytes]]:
    """Field numbers and contents of a message that has the fields 1 to `highest` only.

    The content of a number is its bytes: just what it would be in a packed list.
    """
    place = 0
    while place < len(message):
        tag, place = _read_varint(message, place)
        field, wire_type = tag >> 3, tag & 7
        if not 1 <= field <= highest:
            raise ValueError(f"a field {field}")
        if wire_type == VARINT:
            size = _read_varint(message, place)[1] - place
        elif wire_type == LENGTH_DELIMITED:
            size, place = _read_varint(message, place)
        elif wire_type == FIXED32:
            size = 4
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if place + size > len(message):
            raise ValueError("a field that is cut short")
        yield field, message[place : place + size]
        place += size


def _read_varint(message: bytes, place: int) -> tuple[int, int]:
    """The varint at `place`, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):  # the ten bytes of a 64-bit number
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("a number of more than 64 bits")


def main(paths: list[str]) -> None:
    """Prints what the files hold."""
    for path in map(Path, paths):
        examples = read_examples(path)
        first = next(examples, {})
        count = bool(first) + sum(1 for _ in examples)
        print(f"{path}: {count:,} pretraining examples; of the first:")
        for name, values in first.items():
            print(f"  {name}: {values.dtype} [{values.size}]: {values.tolist()}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (UserError, OSError) as error:
        sys.exit(f"reading: error: {error}")
