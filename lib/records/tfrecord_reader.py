"""Reader of TFRecord files of tf.train.Example, without TensorFlow.

    python -m lib.records.tfrecord_reader data/records/main/dev/00000.tfrecord

prints what a file of pretraining examples in Google's format holds. `lib.records.tfrecord`
describes the format and writes it.

Shapes: S tokens per sequence, P predictions per sequence.
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
from lib.run.varint import read_varint

_CHUNK_BYTES = 1 << 20

# The features that Google's run_pretraining.py reads: [S] and [P] values, and one.
_PER_TOKEN = ("input_ids", "input_mask", "segment_ids")
_PER_PREDICTION = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
# Absent where examples were made without sentence pairs.
NEXT_SENTENCE = "next_sentence_labels"
FEATURES = (*_PER_TOKEN, *_PER_PREDICTION, NEXT_SENTENCE)
# Names in files of Model Garden's create_pretraining_data.py with --use_v2_feature_names.
_V2_NAMES = {"input_word_ids": "input_ids", "input_type_ids": "segment_ids"}

# Number of values and dtype of each feature.
FeatureSpecs = dict[str, tuple[int, np.dtype]]


def read_examples(path: Path) -> Iterator[dict[str, np.ndarray]]:
    """The pretraining examples of a TFRecord file in Google's format, ours or external.

    Yields:
        input_ids, input_mask, segment_ids: int64 [S]; masked_lm_positions, masked_lm_ids: int64
        [P]; masked_lm_weights: float32 [P]; next_sentence_labels: int64 [1], 0 if the records have
        none; and any other feature of the record. The first record determines S and P.

    Raises:
        UserError: the file is damaged, holds something else, or sequences of different sizes; the
            message names the file, the record and what is missing.
    """
    expected: FeatureSpecs | None = None
    for number, record in enumerate(read_records(path), 1):
        example, expected = pretraining_example(record, f"{path}: record {number}", expected)
        yield example


def canonical_name(name: str) -> str:
    """Google's name of a feature that may have its Model Garden name."""
    return _V2_NAMES.get(name, name)


def pretraining_example(
    record: bytes, where: str, expected: FeatureSpecs | None
) -> tuple[dict[str, np.ndarray], FeatureSpecs]:
    """One serialized example as `read_examples` yields it.

    Args:
        where: names the record in errors.
        expected: sizes and dtypes of the records before it, or None.

    Returns:
        The features, and the sizes and dtypes that all records of the file should have; without
        `next_sentence_labels` if the record has none.

    Raises:
        UserError: the record holds something else, or a sequence of another size.
    """
    try:
        example = {canonical_name(name): values for name, values in decode(record).items()}
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    needed = [name for name in FEATURES if name != NEXT_SENTENCE]
    if missing := [name for name in needed if name not in example]:
        raise UserError(
            f"{where} is not a pretraining example: it lacks {', '.join(missing)} (it has "
            f"{', '.join(sorted(example)) or 'nothing'}); use a file of the records stage with "
            "masking: static and packing: false, or one of Google's create_pretraining_data.py"
        )
    specs = {
        name: (example[name].size, example[name].dtype) for name in FEATURES if name in example
    }
    expected = expected or _expected(specs)
    if (has_label := NEXT_SENTENCE in specs) != (NEXT_SENTENCE in expected):
        raise UserError(
            f"{where} {'has' if has_label else 'lacks'} {NEXT_SENTENCE}, unlike the records before "
            "it; add it to all examples or to none"
        )
    if wrong := [name for name in expected if specs[name] != expected[name]]:
        (size, dtype), (expected_size, expected_dtype) = specs[wrong[0]], expected[wrong[0]]
        raise UserError(
            f"{where}: {wrong[0]} has {size} values of {dtype}, but should have {expected_size} of "
            f"{expected_dtype}; create the file again"
        )
    example.setdefault(NEXT_SENTENCE, np.zeros(1, np.int64))
    return example, expected


def _expected(specs: FeatureSpecs) -> FeatureSpecs:
    """Consistent sizes and dtypes, given those of one record."""
    integers, floats = np.dtype(np.int64), np.dtype(np.float32)
    return {
        **dict.fromkeys(_PER_TOKEN, (specs["input_ids"][0], integers)),
        **dict.fromkeys(_PER_PREDICTION, (specs["masked_lm_positions"][0], integers)),
        "masked_lm_weights": (specs["masked_lm_positions"][0], floats),
        **({NEXT_SENTENCE: (1, integers)} if NEXT_SENTENCE in specs else {}),
    }


def read_records(path: Path, compressed: bool | None = None) -> Iterator[bytes]:
    """The records of a TFRecord file; verifies their checksums.

    Args:
        compressed: by gzip; None: the name decides (.gz).

    Raises:
        UserError: the file is damaged or cut short; the message names the file and the record,
            counted from 1.
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
                    raise UserError(f"{where} is cut short; create the file again")
                if header[8:] != checksum_bytes(header[:8]):
                    raise UserError(
                        f"{where} has a damaged length (or this is not a TFRecord file); create "
                        "the file again"
                    )
                (length,) = struct.unpack("<Q", header[:8])
                data = _read(file, length)
                checksum = _read(file, 4)
                if len(data) < length or len(checksum) < 4:
                    raise UserError(f"{where} is cut short; create the file again")
                if checksum != checksum_bytes(data):
                    raise UserError(f"{where} has damaged data; create the file again")
                yield data
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: record {number} cannot be decompressed ({error}); create the file again"
        ) from None


def _read(file: IO[bytes] | gzip.GzipFile, size: int) -> bytes:
    """`size` bytes, or those up to the end of the file.

    Reads chunk by chunk, because a damaged length must not allocate that much memory.
    """
    chunks = []
    while size and (chunk := file.read(min(size, _CHUNK_BYTES))):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def decode(record: bytes) -> dict[str, np.ndarray]:
    """The features of one serialized tf.train.Example.

    Returns:
        name -> array [values]: int64, float32, or object (of bytes) for a BytesList. A feature
        without a list is left out.

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
    """One list of a Feature; numbers may be packed, as usual, or not."""
    values = [value for _, value in _fields(content, 1)]
    if kind == BYTES_LIST:
        return np.array(values, dtype=object)
    packed = b"".join(values)
    if kind == FLOAT_LIST:
        return np.frombuffer(packed, dtype="<f4").astype(np.float32)
    numbers, offset = [], 0
    while offset < len(packed):
        number, offset = read_varint(packed, offset)
        numbers.append(number)
    return np.array(numbers, dtype=np.uint64).view(np.int64)


def _fields(message: bytes, highest: int) -> Iterator[tuple[int, bytes]]:
    """Field numbers and contents of a message that has only the fields 1 to `highest`.

    The content of a number is its bytes, exactly as in a packed list.
    """
    offset = 0
    while offset < len(message):
        tag, offset = read_varint(message, offset)
        field, wire_type = tag >> 3, tag & 7
        if not 1 <= field <= highest:
            raise ValueError(f"a field {field}")
        if wire_type == VARINT:
            size = read_varint(message, offset)[1] - offset
        elif wire_type == LENGTH_DELIMITED:
            size, offset = read_varint(message, offset)
        elif wire_type == FIXED32:
            size = 4
        else:
            raise ValueError(f"a field of wire type {wire_type}")
        if offset + size > len(message):
            raise ValueError("a field that is cut short")
        yield field, message[offset : offset + size]
        offset += size


def main(paths: list[str]) -> None:
    """Prints the number of examples of each file, and the first one."""
    for path in map(Path, paths):
        examples = read_examples(path)
        first = next(examples, {})
        count = bool(first) + sum(1 for _ in examples)
        print(f"{path}: {count:,} pretraining examples; the first:")
        for name, values in first.items():
            print(f"  {name}: {values.dtype} [{values.size}]: {values.tolist()}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (UserError, OSError) as error:
        sys.exit(f"tfrecord_reader: error: {error}")
