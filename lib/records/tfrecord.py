"""Encoder of TFRecord files of tf.train.Example, without TensorFlow.

A file is a sequence of frames (tensorflow/core/lib/io/record_writer.h):

    length of the data (8 bytes, little-endian), masked CRC-32C of these 8 bytes,
    data, masked CRC-32C of the data

The data is one tf.train.Example (tensorflow/core/example/example.proto) in the wire format of
protocol buffers:

    Example { 1: Features { 1: repeated entry { 1: name, 2: Feature } } }
    Feature { 1: BytesList | 2: FloatList | 3: Int64List }, each list { 1: packed values }

The feature x = [5, 300], in hexadecimal:

    0a 0e                 Example, field 1 of 14 bytes: Features
      0a 0c               Features, field 1 of 12 bytes: entry
        0a 01 78          entry, field 1 of 1 byte: name "x"
        12 07             entry, field 2 of 7 bytes: Feature
          1a 05           Feature, field 3 of 5 bytes: Int64List
            0a 03         Int64List, field 1 of 3 bytes: packed values
              05 ac 02    varints of 5 and 300

`encode` writes a whole batch of records at once and is the pipeline's inner loop. What is the same
in all records is laid out as one matrix, what varies is made once per distinct length, and only
features with numbers of 128 or more are encoded as varints of different widths.
`lib.records.tfrecord_reader` reads the files.

Shapes: B records in the batch, V values of a feature.
"""

import functools
import hashlib
import itertools
import struct
from collections.abc import Iterable

import google_crc32c
import numpy as np

BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # field numbers in Feature
VARINT, LENGTH_DELIMITED, FIXED32 = 0, 2, 5  # wire types
_MASK_DELTA = 0xA282EAD8
_TABLE_BITS = 21  # varints of values below 2^21, at most 3 bytes long, are looked up in a table


def new_digest() -> hashlib.blake2b:
    """A digest of records: BLAKE2b, 128 bits, of their masked CRC-32Cs in order.

    Any change of a record changes its CRC, which is computed in any case: hashing these four bytes
    per record takes no time worth measuring.
    """
    return hashlib.blake2b(digest_size=16)


def encode(features: dict[str, np.ndarray], digest: hashlib.blake2b | None = None) -> bytes:
    """A batch of framed tf.train.Examples, one after the other.

    Args:
        features: name -> matrix [B, V], with the same B for all: integers from 0 to 2^31 - 1 (any
            integer type, or bool) become an Int64List, float32 a FloatList. They are written in
            the order of the dict.
        digest: is updated with the checksums of the records (see `new_digest`).

    Raises:
        ValueError: a matrix has another shape, type or range.
    """
    sizes_of_batch = {matrix.shape[0] for matrix in features.values()}
    if len(sizes_of_batch) != 1:
        raise ValueError(
            f"`features` should have the same number of records. Received: {sizes_of_batch}"
        )
    columns: list[list[bytes]] = []  # each has B byte strings: a part of each record's Features
    for fixed, group in itertools.groupby(features.items(), lambda item: _is_fixed(*item)):
        make_columns = _fixed_columns if fixed else _varint_columns
        columns += make_columns(group)

    bodies = list(map(b"".join, zip(*columns, strict=True)))
    sizes = list(map(len, bodies))
    openings = {size: opening(1, size) for size in set(sizes)}
    examples = [openings[size] + body for size, body in zip(sizes, bodies, strict=True)]
    headers = {size: _frame_header(size + len(start)) for size, start in openings.items()}
    checksums = np.fromiter(map(google_crc32c.value, examples), np.uint32, count=len(examples))
    masked = _masked(checksums).astype("<u4").tobytes()
    if digest is not None:
        digest.update(masked)
    footers = _cut(masked, itertools.repeat(4, len(examples)))
    frames = zip((headers[size] for size in sizes), examples, footers, strict=True)
    return b"".join(itertools.chain.from_iterable(frames))


def _is_fixed(name: str, matrix: np.ndarray) -> bool:
    """Whether all values take the same number of bytes: 4 for a float, 1 for a number below 128."""
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
    """The entries of consecutive features whose values have a fixed width, as one column."""
    parts = []  # uint8 [B, bytes]: headers and values
    for name, matrix in features:
        batch = matrix.shape[0]
        if matrix.dtype == np.float32:
            kind = FLOAT_LIST
            values = np.ascontiguousarray(matrix, dtype="<f4").view(np.uint8)  # [B, 4 * V]
        else:
            kind = INT64_LIST
            values = matrix.astype(np.uint8, copy=False)
        header = np.frombuffer(entry_header(name, kind, values.shape[1]), dtype=np.uint8)
        parts += [np.broadcast_to(header, (batch, len(header))), values]
    joined = np.concatenate(parts, axis=1)
    return [_cut(joined.tobytes(), itertools.repeat(joined.shape[1], joined.shape[0]))]


def _varint_columns(features: Iterable[tuple[str, np.ndarray]]) -> list[list[bytes]]:
    """The entries of features with larger numbers: for each a column of headers and of values."""
    columns = []
    for name, matrix in features:
        data, widths = _varints(matrix)
        headers = {width: entry_header(name, INT64_LIST, width) for width in set(widths)}
        columns += [[headers[width] for width in widths], _cut(data, widths)]
    return columns


def _cut(data: bytes, widths: Iterable[int]) -> list[bytes]:
    """Cuts bytes into consecutive parts of these widths."""
    ends = list(itertools.accumulate(widths, initial=0))
    return [data[start:end] for start, end in itertools.pairwise(ends)]


def _varints(matrix: np.ndarray) -> tuple[bytes, list[int]]:
    """The varints of an integer matrix [B, V], and the number of bytes of each of the B records.

    For [[0, 300], [5, 7]] the codes are, as little-endian bytes,

        00 00 00 00  ac 02 00 00
        05 00 00 00  07 00 00 00

    Only the first byte of a varint can be 0 (for the number 0). So the bytes in use are all first
    bytes and all others that are not 0: 00 ac 02 of the first record, 05 07 of the second.
    """
    bits = int(matrix.max()).bit_length()
    if bits <= _TABLE_BITS:
        codes = _varint_table(bits).take(matrix)
    else:
        codes = _encode_varints(matrix.astype(np.uint64))
    code_bytes = codes.view(np.uint8).reshape(matrix.shape[0], -1)  # [B, V * 4 or V * 8]
    is_used = code_bytes != 0
    is_used[:, :: codes.itemsize] = True
    widths = np.count_nonzero(is_used, axis=1)  # [B]
    return code_bytes.reshape(-1).compress(is_used.reshape(-1)).tobytes(), widths.tolist()


@functools.lru_cache(maxsize=4)
def _varint_table(bits: int) -> np.ndarray:
    """uint32 [2^bits]: the varints of 0 to 2^bits - 1."""
    return _encode_varints(np.arange(1 << bits, dtype=np.uint64)).astype("<u4")


def _encode_varints(values: np.ndarray) -> np.ndarray:
    """uint64 array of the shape of `values` (uint64, below 2^35): its bytes are the varints.

    A varint has seven bits of the number in each byte, the lowest first; the eighth bit is set if
    another byte follows. 300 = 0b10_0101100 becomes 1_0101100 0_0000010, that is ac 02.
    """
    codes = np.zeros_like(values)
    for byte in range(5):
        digit = (values >> np.uint64(7 * byte)) & np.uint64(0x7F)
        digit |= np.uint64(0x80) * (values >= np.uint64(1 << (7 * byte + 7)))
        codes |= digit << np.uint64(8 * byte)
    return codes.astype("<u8", copy=False)


def _varint(value: int) -> bytes:
    """One varint (see `_encode_varints`)."""
    result = bytearray()
    while value >= 0x80:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    result.append(value)
    return bytes(result)


def opening(field: int, size: int) -> bytes:
    """The bytes before the content of a length-delimited field of `size` bytes: tag and length."""
    return _varint(field << 3 | LENGTH_DELIMITED) + _varint(size)


@functools.lru_cache(maxsize=1 << 16)
def entry_header(name: str, kind: int, size: int) -> bytes:
    """The bytes before a feature's values: entry, name, Feature, list, and packed values.

    Args:
        kind: BYTES_LIST, FLOAT_LIST or INT64_LIST.
        size: bytes of the packed values.
    """
    values = opening(1, size) if size else b""
    one_of = opening(kind, len(values) + size) + values
    feature = opening(2, len(one_of) + size) + one_of
    key = opening(1, len(name.encode())) + name.encode()
    return opening(1, len(key) + len(feature) + size) + key + feature


def _masked(checksum: np.ndarray) -> np.ndarray:
    """TFRecord's mask of CRCs (uint32 array): rotated right by 15 bits, plus a constant.

    The mask is there because the CRC of data that contains CRCs is weak.
    """
    return ((checksum >> np.uint32(15)) | (checksum << np.uint32(17))) + np.uint32(_MASK_DELTA)


def checksum_bytes(data: bytes) -> bytes:
    """The masked CRC-32C of some bytes, as in the file."""
    checksum = google_crc32c.value(data)
    rotated = checksum >> 15 | checksum << 17 & 0xFFFFFFFF
    return struct.pack("<I", rotated + _MASK_DELTA & 0xFFFFFFFF)


@functools.lru_cache(maxsize=1 << 16)
def _frame_header(size: int) -> bytes:
    """The bytes of a frame before `size` bytes of data."""
    length = struct.pack("<Q", size)
    return length + checksum_bytes(length)
