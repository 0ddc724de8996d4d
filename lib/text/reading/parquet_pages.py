"""Values of a text column of a Parquet file, one at a time, in bounded memory.

Arrow holds a page of a column and its dictionary in memory, compressed and not, and a batch of rows
besides. Pages have a megabyte as a rule, but writers look at the size of a page after a thousand
rows only: with long texts a page may have as much as the file, and with a dictionary a file of some
kilobytes may have gigabytes of text. Here a large page is decompressed in parts, a large dictionary
is kept on disk, and repeated values stay one object. A file with 300 MB of long cells takes 85 MiB
to read, with Arrow it took 900; no other installed library reads pages in parts.

Format: https://parquet.apache.org/docs/file-format. A column chunk is a sequence of pages, each
with a header in Thrift's compact protocol; a page has definition levels (which values are null) and
then values, or numbers of values in the dictionary.
"""

import io
import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from lib.text.reading.compression import ByteFile

# Larger pages are decompressed in parts, and larger dictionaries are kept on disk.
_LARGE_BYTES = 8 << 20
_SNAPPY_BLOCK = 1 << 16
_BLOCK_BYTES = 1 << 18
_PACKED_VALUES = 1 << 13  # unpacked at once

# Codes of the format.
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_PLAIN, _PLAIN_DICTIONARY, _RLE, _RLE_DICTIONARY = 0, 2, 3, 8
# pyarrow's names of the other codes that this module reads.
_ENCODINGS = {
    0: "PLAIN",
    2: "PLAIN_DICTIONARY",
    3: "RLE",
    4: "BIT_PACKED",
    8: "RLE_DICTIONARY",
}
_CODECS = {0: "UNCOMPRESSED", 1: "SNAPPY", 2: "GZIP", 4: "BROTLI", 6: "ZSTD"}


@dataclass(frozen=True)
class TooLong:
    """A value of more bytes than the limit, which was passed over.

    Attributes:
        size: its bytes.
        beginning: the first of them.
    """

    size: int
    beginning: bytes


Value = bytes | TooLong | None


def is_readable(column: Any) -> bool:
    """Whether this module reads a column chunk (pyarrow's metadata of it)."""
    return (
        column.physical_type == "BYTE_ARRAY"
        and set(column.encodings) <= set(_ENCODINGS.values())
        and column.compression in _CODECS.values()
    )


def column_values(
    stream: BinaryIO, column: Any, max_definition: int, max_bytes: int
) -> Iterator[Value]:
    """The values of a column chunk without repeated fields, one per row; None for null.

    Args:
        stream: the file.
        column: pyarrow's metadata of the column chunk.
        max_definition: the definition level of values that are not null.
        max_bytes: longer values are passed over.

    Raises:
        ValueError, EOFError: the file is damaged.
    """
    codec = column.compression.lower()
    position = column.data_page_offset
    if column.dictionary_page_offset:
        position = min(position, column.dictionary_page_offset)
    left = column.num_values
    dictionary: _Dictionary | None = None
    while left > 0:
        stream.seek(position)
        header = _struct(stream)
        kind, size, compressed_size = header[1], header[2], header[3]
        if not (
            0 <= size <= column.total_uncompressed_size
            and 0 <= compressed_size <= column.total_compressed_size
        ):
            raise ValueError("a page that is larger than its column")
        start = stream.tell()
        position = start + compressed_size
        if kind == _DICTIONARY_PAGE:
            body = _body(stream, start, position, codec, size)
            dictionary = _Dictionary(body, header[7][1], size, max_bytes)
            continue
        levels = b""
        if kind == _DATA_PAGE:
            count, encoding, level_encoding = (header[5][field] for field in (1, 2, 3))
            body = _body(stream, start, position, codec, size)
            if max_definition:
                if level_encoding != _RLE:
                    raise ValueError("definition levels of an unknown encoding")
                levels = _read(body, int.from_bytes(_read(body, 4), "little"))
                size -= 4 + len(levels)
        elif kind == _DATA_PAGE_V2:
            page = header[8]
            count, encoding, definition, repetition = (page[field] for field in (1, 4, 5, 6))
            start += repetition
            levels = _read(_open(stream, start, position), definition)
            start += definition
            size -= repetition + definition
            codec_here = codec if page.get(7, True) else "uncompressed"
            body = _body(stream, start, position, codec_here, size)
        else:
            continue
        values = _page_values(body, encoding, dictionary, size, count, max_bytes)
        for level in _hybrid(levels, max_definition.bit_length(), count):
            yield next(values) if level == max_definition else None
        left -= count


# --- The footers of files with very many columns


@dataclass(frozen=True)
class ColumnChunk:
    """What a footer says about a column chunk, under pyarrow's names."""

    physical_type: str
    encodings: tuple[str, ...]
    compression: str
    num_values: int
    total_uncompressed_size: int
    total_compressed_size: int
    data_page_offset: int
    dictionary_page_offset: int | None


@dataclass
class Footer:
    """What a footer says about one column.

    Attributes:
        names: the first columns of the file.
        max_definition: the definition level of its values that are not null.
        chunks: one per row group; none if there is no such column, or it is within lists.
    """

    names: list[str]
    max_definition: int
    chunks: list[ColumnChunk]


def footer_bytes(stream: BinaryIO) -> int:
    """The size of a file's footer; 0 if it is no Parquet file."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - 8))
    end = stream.read(8)
    length = int.from_bytes(end[:4], "little")
    return length if end[4:] == b"PAR1" and length + 12 <= size else 0


def read_footer(stream: BinaryIO, path: str) -> Footer:
    """What the footer says about the column `path`; for other columns nothing is kept.

    Arrow keeps 17 times the size of the footer in memory.

    Raises:
        ValueError, EOFError, LookupError: the footer is damaged.
    """
    stream.seek(-8 - footer_bytes(stream), io.SEEK_END)
    footer = Footer([], 0, [])
    leaf = -1
    for number, kind in _fields(stream):
        if number == 2:
            leaf = _find_leaf(stream, path, footer)
        elif number == 4:
            for _ in range(_list_header(stream)[0]):
                for inner, inner_kind in _fields(stream):
                    if inner != 1:
                        _field(stream, inner_kind)
                        continue
                    for index in range(_list_header(stream)[0]):
                        column = _struct(stream)
                        if index == leaf:
                            footer.chunks.append(_column_chunk(column[3]))
            break
        else:
            _field(stream, kind)
    return footer


def _find_leaf(stream: BinaryIO, path: str, footer: Footer) -> int:
    """The number of a column that is in no list, or -1."""
    leaf, found = 0, -1
    count = _list_header(stream)[0]
    # Of each group that is open: children that are left, path, definition and repetition level.
    open_groups = [[_struct(stream).get(5, 0), "", 0, 0]]
    for _ in range(count - 1):
        element = _struct(stream)
        while open_groups[-1][0] == 0:
            open_groups.pop()
        group = open_groups[-1]
        group[0] -= 1
        repetition, name = element.get(3, 0), element[4].decode("utf-8", "replace")
        full = f"{group[1]}.{name}" if group[1] else name
        if not group[1] and len(footer.names) < 50:
            footer.names.append(name)
        definition, repeated = group[2] + (repetition != 0), group[3] + (repetition == 2)
        if element.get(5):
            open_groups.append([element[5], full, definition, repeated])
            continue
        if full == path and not repeated:
            found, footer.max_definition = leaf, definition
        leaf += 1
    return found


def _column_chunk(values: dict[int, Any]) -> ColumnChunk:
    return ColumnChunk(
        "BYTE_ARRAY" if values[1] == 6 else "other",
        tuple(_ENCODINGS.get(code, "other") for code in values[2]),
        _CODECS.get(values[4], "other"),
        values[5],
        values[6],
        values[7],
        values[9],
        values.get(11),
    )


# --- Bytes


def _blocks(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    while start < stop:
        stream.seek(start)
        block = stream.read(min(_BLOCK_BYTES, stop - start))
        if not block:
            return
        yield block
        start += len(block)


def _open(stream: BinaryIO, start: int, stop: int) -> BinaryIO:
    """The bytes from `start` to `stop` of a file as a file."""
    return io.BufferedReader(ByteFile(_blocks(stream, start, stop)), _BLOCK_BYTES)


def _read(source: BinaryIO, size: int) -> bytes:
    """Exactly so many bytes."""
    data = source.read(size)
    if len(data) < size:
        raise EOFError("a page ends too early")
    return data


def _body(stream: BinaryIO, start: int, stop: int, codec: str, size: int) -> BinaryIO:
    """The decompressed bytes of a page or of a part of it; in parts, if there are many."""
    import pyarrow

    page = _open(stream, start, stop)
    if codec == "uncompressed":
        return page
    if size <= _LARGE_BYTES:
        data = _read(page, stop - start)
        return io.BytesIO(
            pyarrow.decompress(data, size, codec=codec, asbytes=True) if size else b""
        )
    if codec == "snappy":
        return io.BufferedReader(ByteFile(_snappy_blocks(stream, start, stop, size)), _BLOCK_BYTES)
    body: BinaryIO = pyarrow.input_stream(page, compression=codec)
    return body


def _snappy_blocks(stream: BinaryIO, start: int, stop: int, size: int) -> Iterator[bytes]:
    """The decompressed bytes of a large page in Snappy's format, 64 KiB at a time.

    Snappy compresses blocks of 64 KiB of text by themselves, although the format does not say where
    one ends: the elements are counted to find out, and a block is decompressed as text of its own.
    A page by a compressor that does otherwise is decompressed as a whole.
    """
    import pyarrow

    page = _open(stream, start, stop)
    _varint(page)
    done = 0
    buffer = b""
    while done < size:
        target = min(_SNAPPY_BLOCK, size - done)
        # No block needs more: a literal has a header of at most 5 bytes.
        if len(buffer) < 2 * _SNAPPY_BLOCK:
            buffer += page.read(16 * _SNAPPY_BLOCK)
        try:
            length = _snappy_length(buffer, target)
            block = pyarrow.decompress(
                _as_varint(target) + buffer[:length], target, codec="snappy", asbytes=True
            )
        except (ValueError, IndexError, OSError, pyarrow.ArrowException):
            data = _read(_open(stream, start, stop), stop - start)
            yield pyarrow.decompress(data, size, codec="snappy", asbytes=True)[done:]
            return
        yield block
        buffer = buffer[length:]
        done += target


def _snappy_length(data: bytes, target: int) -> int:
    """Bytes of the elements that give exactly `target` bytes."""
    at = given = 0
    while given < target:
        tag = data[at]
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length < 60:
                at += length + 2
                given += length + 1
            else:
                extra = length - 59
                length = int.from_bytes(data[at + 1 : at + 1 + extra], "little") + 1
                at += 1 + extra + length
                given += length
        elif kind == 1:
            at += 2
            given += 4 + (tag >> 2 & 7)
        else:
            at += 3 if kind == 2 else 5
            given += (tag >> 2) + 1
    if given != target or at > len(data):
        raise ValueError("not in blocks")
    return at


# --- Values


def _page_values(
    body: BinaryIO,
    encoding: int,
    dictionary: "_Dictionary | None",
    size: int,
    count: int,
    max_bytes: int,
) -> Iterator[Value]:
    """The values of a page that are not null.

    Args:
        size: bytes of them in the page.
        count: at most so many.
    """
    if encoding == _PLAIN:
        return (_plain(body, max_bytes) for _ in range(count))
    if encoding not in (_PLAIN_DICTIONARY, _RLE_DICTIONARY) or dictionary is None:
        raise ValueError("values of an unknown encoding")
    if size == 0:  # All are null.
        return iter(())
    width = _read(body, 1)[0]
    return map(dictionary.value, _hybrid(_read(body, size - 1), width, count))


def _plain(body: BinaryIO, max_bytes: int) -> bytes | TooLong:
    """A byte array: its length in four bytes, and the bytes."""
    size = int.from_bytes(_read(body, 4), "little")
    if size <= max_bytes:
        return _read(body, size)
    beginning = _read(body, 512)
    for start in range(512, size, _BLOCK_BYTES):
        _read(body, min(_BLOCK_BYTES, size - start))
    return TooLong(size, beginning)


class _Dictionary:
    """The dictionary of a column chunk, in memory or, if it is large, on disk."""

    def __init__(self, body: BinaryIO, count: int, size: int, max_bytes: int) -> None:
        # On disk: (position, size).
        self._values: list[bytes | TooLong | tuple[int, int]] = []
        self._last: tuple[int, bytes] = (-1, b"")
        self._file = tempfile.TemporaryFile() if size > _LARGE_BYTES else None  # noqa: SIM115
        for _ in range(count):
            value = _plain(body, max_bytes)
            if self._file and isinstance(value, bytes):
                self._values.append((self._file.tell(), len(value)))
                self._file.write(value)
            else:
                self._values.append(value)

    def value(self, number: int) -> bytes | TooLong:
        value = self._values[number]
        if not isinstance(value, tuple):
            return value
        if number != self._last[0]:
            assert self._file is not None
            self._file.seek(value[0])
            self._last = (number, self._file.read(value[1]))
        return self._last[1]


def _hybrid(data: bytes, width: int, count: int) -> Iterator[int]:
    """Numbers of `width` bits in runs: repeated ones, and packed ones in groups of eight."""
    if width == 0:
        yield from itertools.repeat(0, count)
        return
    source = io.BytesIO(data)
    weights = 1 << np.arange(width, dtype=np.int64)
    while count > 0:
        header = _varint(source)
        if header & 1:
            left = header >> 1  # groups
            while left and count > 0:
                groups = min(left, _PACKED_VALUES // 8)
                left -= groups
                packed = np.frombuffer(
                    source.read(groups * width).ljust(groups * width, b"\0"), "u1"
                )
                bits = np.unpackbits(packed, bitorder="little").reshape(-1, width)  # [values, bits]
                numbers = (bits @ weights)[:count].tolist()
                yield from numbers
                count -= len(numbers)
        else:
            repeated = min(header >> 1, count)
            if repeated == 0:
                raise ValueError("an empty run")
            number = int.from_bytes(source.read((width + 7) // 8), "little")
            yield from itertools.repeat(number, repeated)
            count -= repeated


# --- Thrift's compact protocol


def _varint(source: BinaryIO) -> int:
    number = shift = 0
    while True:
        byte = source.read(1)
        if not byte:
            raise EOFError("a number ends too early")
        number |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return number
        shift += 7


def _as_varint(number: int) -> bytes:
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def _integer(source: BinaryIO) -> int:
    number = _varint(source)
    return number >> 1 ^ -(number & 1)


def _fields(source: BinaryIO) -> Iterator[tuple[int, int]]:
    """The numbers and types of the fields of a struct; the caller reads their values."""
    number = 0
    while byte := source.read(1)[0]:
        number = number + (byte >> 4) if byte >> 4 else _integer(source)
        yield number, byte & 15


def _struct(source: BinaryIO) -> dict[int, Any]:
    """The fields of a struct by their numbers."""
    return {number: _field(source, kind) for number, kind in _fields(source)}


def _list_header(source: BinaryIO) -> tuple[int, int]:
    """The length of a list and the type of its elements."""
    head = source.read(1)[0]
    return (head >> 4 if head >> 4 < 15 else _varint(source)), head & 15


def _field(source: BinaryIO, kind: int) -> Any:
    match kind:
        case 1 | 2:
            return kind == 1
        case 3:
            return source.read(1)[0]
        case 4 | 5 | 6:
            return _integer(source)
        case 7:
            return source.read(8)
        case 8:
            return source.read(_varint(source))
        case 9 | 10:
            count, inner = _list_header(source)
            return [source.read(1) if inner < 3 else _field(source, inner) for _ in range(count)]
        case 12:
            return _struct(source)
        case _:
            raise ValueError(f"a field of the unknown type {kind}")
