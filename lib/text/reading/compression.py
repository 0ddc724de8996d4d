"""Compressed raw files: how they are recognised, opened, and what their errors mean."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import cast

# First bytes of a file -> compression.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")

# What reading a damaged compressed stream raises; `damage` gives the reason.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


def compression_of(magic: bytes) -> str:
    """gzip, bzip2, xz, zstandard or none, by the first bytes of a file."""
    return next((name for start, name in _MAGIC.items() if magic.startswith(start)), "none")


@contextmanager
def open_raw(path: Path, compression: str) -> Iterator[BufferedIOBase]:
    """The decompressed bytes of a file."""
    with path.open("rb") as plain:
        match compression:
            case "gzip":
                with gzip.open(plain) as stream:
                    yield cast(BufferedIOBase, stream)
            case "bzip2":
                with bz2.open(plain) as stream:
                    yield cast(BufferedIOBase, stream)
            case "xz":
                with lzma.open(plain) as stream:
                    yield cast(BufferedIOBase, stream)
            case "zstandard":
                import pyarrow  # Slow to import: only where there is such a file.

                yield cast(BufferedIOBase, pyarrow.input_stream(plain, compression="zstd"))
            case _:
                yield plain


def damage(error: Exception) -> str:
    """The reason for rejecting a compressed stream that cannot be read to its end.

    Raises:
        OSError: the disk failed, not the data.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, EOFError) or "Truncated" in str(error):
        return "truncated_compression"
    return "corrupt_compression"
