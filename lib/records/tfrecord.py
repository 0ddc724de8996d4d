"""TFRecord files of tf.train.Example, without TensorFlow.

A file is a row of frames: length (8 bytes, little-endian), masked CRC-32C of the length, data,
masked CRC-32C of the data (tensorflow/core/lib/io/record_writer.h). The data is one
tf.train.Example (tensorflow/core/example/example.proto) in protocol-buffer wire format:

    Example { 1: Features { 1: repeated entry { 1: name, 2: Feature } } }
    Feature { 1: BytesList | 2: FloatList | 3: Int64List }, each list { 1: packed values }

`encode` writes a whole block of rows at once and is the pipeline's inner loop: what does not vary
from row to row is laid out as one matrix, what varies is made once per distinct length, and only
features with numbers of 128 or more go through varints. `lib.records.tfrecord_reader` reads.
"""

import functools
import itertools
import struct
from collections.abc import Iterable

import google_crc32c
import numpy as np

BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # field numbers in Feature
VARINT, LENGTH_DELIMITED, FIXED32 = 0, 2, 5  # wire types
_MASK_DELTA = 0xA282EAD8
_TABLE_BITS = 21  # values below 2^21 have varints of at most 3 bytes and go through a table


def encode(features: dict[str, np.ndarray]) -> bytes:
    """A block of rows as framed tf.train.Examples, one after the other.

    Args:
        features: name → matrix [rows, values], all of the same number of rows: integers in 0 to
            2^31 - 1 (of any integer type, or bool) become an int64 list, float32 a float list.
            They are written in the order of the dict.

    Raises:
        ValueError: a matrix of another shape, type or range.
    """
    rows = {matrix.shape[0] for matrix in features.values()}
    if len(rows) != 1:
        raise ValueError(f"`features` should have the same number of rows. Received: {rows}")
    columns: list[list[bytes]] = []  # side by side: the pieces of each row's Features
    for fixed, group in itertools.groupby(features.items(), lambda item: _is_fixed(*item)):
        make_columns = _fixed_columns if fixed else _varint_columns
        columns += make_columns(group)

    bodies = list(map(b"".join, zip(*columns, strict=True)))
    sizes = list(map(len, bodies))
    openings = {size: opening(1, size) for size in set(sizes)}
    examples = [openings[size] + body for size, body in zip(sizes, bodies, strict=True)]
    headers = {size: _frame_header(size + len(start)) for size, start in openings.items()}
    checksums = np.fromiter(map(google_crc32c.value, examples), np.uint32, count=len(examples))
    footers = _cut(_masked(checksums).astype("<u4").tobytes(), itertools.repeat(4, len(examples)))
    frames = zip((headers[size] for size in sizes), examples, footers, strict=True)
    return b"".join(itertools.chain.from_iterable(frames))


def _is_fixed(name: str, matrix: np.ndarray) -> bool:
    """Every value takes the same number of bytes: a float's four, or one."""
    if matrix.ndim != 2:
        raise ValueError(f"`{name}` should be a matrix. Received: shape {matrix.shape}")
    if matrix.dtype == np.float32 or matrix.dtype == bool or matrix.size == 0:
        return True
    if matrix.dtype.kind not in "iu":
        raise ValueError(f"`{name}` should be integers or float32. Received: {matrix.dtype}")
    low, high = int(matrix.min()), int(matrix.max())
    if low < 0 or high >= 2**31:
        raise ValueError(f"`{name}` should be in 0 to 2^31 - 1. Received: {low} to {high}")
    return high < 128


def _fixed_columns(features: Iterable[tuple[str, np.ndarray]]) -> list[list[bytes]]:
    """The entries of neighbouring features whose values have a fixed width, as one column."""
    cells = []
    for name, matrix in features:
        rows = matrix.shape[0]
        if matrix.dtype == np.float32:
            kind = FLOAT_LIST
            values = np.ascontiguousarray(matrix, dtype="<f4").view(np.uint8)
        else:
            kind = INT64_LIST
            values = matrix.astype(np.uint8, copy=False)
        header = np.frombuffer(entry_header(name, kind, values.shape[1]), dtype=np.uint8)
        cells += [np.broadcast_to(header, (rows, len(header))), values]
    chunk = np.concatenate(cells, axis=1)
    return [_cut(chunk.tobytes(), itertools.repeat(chunk.shape[1], chunk.shape[0]))]


def _varint_columns(features: Iterable[tuple[str, np.ndarray]]) -> list[list[bytes]]:
    """The entries of features with larger numbers: a column of headers and one of values each."""
    columns = []
    for name, matrix in features:
        blob, widths = _varints(matrix)
        headers = {width: entry_header(name, INT64_LIST, width) for width in set(widths)}
        columns += [[headers[width] for width in widths], _cut(blob, widths)]
    return columns


def _cut(blob: bytes, widths: Iterable[int]) -> list[bytes]:
    """Cuts bytes into pieces of these widths."""
    ends = list(itertools.accumulate(widths, initial=0))
    return [blob[start:end] for start, end in itertools.pairwise(ends)]


def _varints(matrix: np.ndarray) -> tuple[bytes, list[int]]:
    """The varints of an integer matrix, row by row, and the number of bytes of each row."""
    bits = int(matrix.max()).bit_length()
    if bits <= _TABLE_BITS:
        codes = _varint_table(bits).take(matrix)
    else:
        codes = _spread(matrix.astype(np.uint64))
    cells = codes.view(np.uint8).reshape(matrix.shape[0], -1)
    # Only the first byte of a varint can be 0 (as the number 0), so the others tell by
    # themselves whether they are in use.
    used = cells != 0
    used[:, :: codes.itemsize] = True
    widths = np.count_nonzero(used, axis=1)
    return cells.reshape(-1).compress(used.reshape(-1)).tobytes(), widths.tolist()


@functools.lru_cache(maxsize=4)
def _varint_table(bits: int) -> np.ndarray:
    """uint32 [2^bits]: the varints of 0 to 2^bits - 1."""
    return _spread(np.arange(1 << bits, dtype=np.uint64)).astype("<u4")


def _spread(values: np.ndarray) -> np.ndarray:
    """uint64 array of the shape of `values` (uint64, below 2^35): its bytes are the varints.

    A varint has seven bits of the number in each byte, the lowest first; the eighth bit says
    that another byte follows.
    """
    codes = np.zeros_like(values)
    for place in range(5):
        digit = (values >> np.uint64(7 * place)) & np.uint64(0x7F)
        digit |= np.uint64(0x80) * (values >= np.uint64(1 << (7 * place + 7)))
        codes |= digit << np.uint64(8 * place)
    return codes.astype("<u8", copy=False)


def _varint(value: int) -> bytes:
    """One varint (see `_spread`)."""
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def opening(field: int, size: int) -> bytes:
    """What stands before `size` bytes of a length-delimited field."""
    return _varint(field << 3 | LENGTH_DELIMITED) + _varint(size)


@functools.lru_cache(maxsize=1 << 16)
def entry_header(name: str, kind: int, size: int) -> bytes:
    """What stands before a feature's values: the entry of the map, its name, three lengths."""
    values = opening(1, size) if size else b""
    one_of = opening(kind, len(values) + size) + values
    feature = opening(2, len(one_of) + size) + one_of
    key = opening(1, len(name.encode())) + name.encode()
    return opening(1, len(key) + len(feature) + size) + key + feature


def _masked(checksum: np.ndarray) -> np.ndarray:
    """TFRecord's mask over CRCs (uint32 array): a CRC of data that holds its own CRC is weak.

    The CRC is rotated to the right by 15 bits, and a constant is added.
    """
    return ((checksum >> np.uint32(15)) | (checksum << np.uint32(17))) + np.uint32(_MASK_DELTA)


def checksum_bytes(data: bytes) -> bytes:
    """Masked CRC-32C of some bytes, as it stands in the file."""
    checksum = google_crc32c.value(data)
    rotated = checksum >> 15 | checksum << 17 & 0xFFFFFFFF
    return struct.pack("<I", rotated + _MASK_DELTA & 0xFFFFFFFF)


@functools.lru_cache(maxsize=1 << 16)
def _frame_header(size: int) -> bytes:
    length = struct.pack("<Q", size)
    return length + checksum_bytes(length)
