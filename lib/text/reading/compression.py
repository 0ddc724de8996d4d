"""Compressed raw files: how they are recognised, opened, and what their errors mean.

A file may consist of several compressed streams, as pbzip2 writes it and as Wikipedia's multistream
dumps are. Python's own readers of bzip2 and xz take a damaged stream after the first for padding;
here every byte of a file belongs to a stream, or the file is damaged.
"""

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedIOBase, BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
# Compressed bytes given to a decompressor at once. If they are damaged, it returns nothing of them.
_PIECE_BYTES = 1 << 13
_BLOCK_BYTES = 1 << 18

# What reading a damaged compressed stream raises; `damage` gives the reason.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


class _GzipDecompressor:
    """zlib's decompressor of one gzip stream, its checksum included, like those of bz2 and lzma."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max_length)


# One stream of a file.
_Decompressor = bz2.BZ2Decompressor | lzma.LZMADecompressor | _GzipDecompressor
# Compression -> first bytes of each stream, and its decompressor.
_STREAMS: dict[str, tuple[bytes, Callable[[], _Decompressor]]] = {
    "gzip": (b"\x1f\x8b", _GzipDecompressor),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ)),
}


# First bytes of a file -> compression. A zstandard file may begin with a frame to be skipped (pzstd
# writes one), whose first byte is one of sixteen.
_MAGIC = {
    **{start: name for name, (start, _) in _STREAMS.items()},
    b"\x28\xb5\x2f\xfd": "zstandard",
    **{bytes([first]) + b"\x2a\x4d\x18": "zstandard" for first in range(0x50, 0x60)},
}
_FIRST_BYTES = frozenset(start[:2] for start in _MAGIC)


def compression_of(magic: bytes) -> str:
    """gzip, bzip2, xz, zstandard or none, by the first bytes of a file."""
    if magic[:2] not in _FIRST_BYTES:
        return "none"
    return next((name for start, name in _MAGIC.items() if magic.startswith(start)), "none")


class ByteFile(RawIOBase):
    """A file of the bytes of some blocks, of which a read gives one at most."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._rest:
            self._rest = memoryview(next(self._blocks, b""))
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class CompressedStream(BufferedIOBase):
    """The decompressed bytes of all streams of a file.

    Reading raises one of DAMAGED where the file is damaged or cut off, after all bytes before have
    been read.
    """

    def __init__(self, plain: BufferedReader, compression: str) -> None:
        self._size = os.fstat(plain.fileno()).st_size
        self._plain = plain
        # Compressed bytes that gave the bytes read so far, and the number of these.
        self._used = self._produced = 0
        self._pending = b""  # compressed bytes that have not been given to a decompressor
        self._error: Exception | None = None
        if compression == "zstandard":
            import pyarrow  # Slow to import: only where there is such a file.

            pieces = ByteFile(iter(partial(plain.read, _PIECE_BYTES), b""))
            zstandard = pyarrow.input_stream(pieces, compression="zstd")
            # In the same way, a read that meets damage returns nothing.
            self._next: Callable[[int], bytes] = lambda size: bytes(
                zstandard.read1(min(size, 2 * _PIECE_BYTES))
            )
        else:
            self._start, self._new_decompressor = _STREAMS[compression]
            self._current: _Decompressor | None = None
            self._next = self._one_piece

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes (256 KiB if it is negative); none at the end of the file."""
        size = size if size >= 0 else _BLOCK_BYTES
        parts = []
        while size > 0 and self._error is None:
            try:
                part = self._next(size)
            except DAMAGED as error:
                self._error = error
                break
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self._produced += len(part)
            self._used = self._plain.tell() - len(self._pending)
        if self._error is not None and not parts:
            raise self._error
        return b"".join(parts)

    def read(self, size: int | None = -1, /) -> bytes:
        left = size if size is not None and size >= 0 else 1 << 62
        parts = []
        while left and (part := self.read1(min(left, _BLOCK_BYTES))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def lost(self) -> int:
        """Bytes of text that an error kept from being read, as far as is known.

        They are estimated from the compressed bytes that are left and the compression ratio so far.
        What is missing after the end of a file that was cut off is not among them.
        """
        ratio = self._produced / self._used if self._used else 1.0
        return round((self._size - self._used) * ratio)

    def _one_piece(self, size: int) -> bytes:
        """What a piece of compressed bytes gives, at most `size` bytes; none at the end."""
        while True:
            if self._current is None and not self._begin_stream():
                return b""
            decompressor = self._current
            assert decompressor is not None
            data, at_end = b"", False
            if decompressor.needs_input:
                data, self._pending = self._pending, b""
                data = data or self._plain.read(_PIECE_BYTES)
                at_end = not data
            part = decompressor.decompress(data, size)
            if decompressor.eof:
                self._pending, self._current = decompressor.unused_data, None
            if part:
                return part
            if at_end and self._current is not None:
                raise EOFError("compressed data ends before its end")

    def _begin_stream(self) -> bool:
        """Starts the next stream, after padding of zero bytes; False at the end of the file."""
        self._pending = self._pending.lstrip(b"\0")
        while not self._pending:
            piece = self._plain.read(_PIECE_BYTES)
            if not piece:
                return False
            self._pending = piece.lstrip(b"\0")
        self._pending += self._plain.read(max(0, len(self._start) - len(self._pending)))
        if not self._pending.startswith(self._start):
            if self._start.startswith(self._pending):
                raise EOFError("compressed data ends before its end")
            raise OSError("neither a compressed stream nor padding")
        self._current = self._new_decompressor()
        return True


@contextmanager
def open_raw(path: Path, compression: str) -> Iterator[BufferedReader | CompressedStream]:
    """The decompressed bytes of a file."""
    with path.open("rb") as plain:
        yield plain if compression == "none" else CompressedStream(plain, compression)


def damage(error: Exception) -> str:
    """The reason for rejecting a compressed stream that cannot be read to its end.

    A zstandard file may need a window of up to 2 GiB, which is more than a worker should take; the
    library reads windows of up to 128 MiB.

    Raises:
        OSError: the disk failed, not the data.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if "requires too much memory" in str(error):
        return "zstandard_window"
    if isinstance(error, EOFError) or "Truncated" in str(error):
        return "truncated_compression"
    return "corrupt_compression"
