"""Which files of a folder are raw text, in which format, under which compression."""

import bz2
import gzip
import json
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from lib.params import Preprocess
from lib.run.errors import UserError
from lib.text.reading.rejections import Rejections

# Files that tools keep in a data folder: never text of the user's.
_IGNORED_SUFFIXES = (".dvc",)

_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
}
_COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
_FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_HEAD_BYTES = 1 << 16
_HEADING = re.compile(rb"\s* = [^=\r\n]*[^=\s] = \r?\n")

# What reading a damaged compressed stream raises; `damage` says which damage it is.
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class RawFile:
    """A file to read.

    Attributes:
        format: text, wikitext, wikiextractor, jsonl, csv, tsv or parquet.
        compression: gzip, bzip2, xz, zstandard, or none.
    """

    path: Path
    format: str
    compression: str
    size: int


@contextmanager
def open_raw(path: Path, compression: str) -> Iterator[BufferedIOBase]:
    """The file's bytes, decompressed."""
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
                import pyarrow  # It takes a while: only where there is such a file.

                yield cast(BufferedIOBase, pyarrow.input_stream(plain, compression="zstd"))
            case _:
                yield plain


def damage(error: Exception) -> str:
    """The reason for rejecting a compressed stream that cannot be read to its end.

    Raises:
        OSError: it is the disk that failed, not the data.
    """
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    if isinstance(error, EOFError) or "Truncated" in str(error):
        return "truncated_compression"
    return "corrupt_compression"


def list_files(folder: Path) -> Iterator[Path]:
    """All that is below a folder and is not hidden, links followed, sorted by relative path.

    Raises:
        UserError: the folder is missing.
    """
    if not folder.is_dir():
        raise UserError(
            f"preprocess.input: no folder {folder}; put your text there, or name its "
            "folder in params.yaml"
        )
    found = []
    seen = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        facts = Path(parent).stat()
        if (facts.st_dev, facts.st_ino) in seen:  # A link back to a folder above it.
            folders.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and not name.endswith(_IGNORED_SUFFIXES)
        ]
    yield from sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def check_apart(raw: Path, corpus: Path) -> None:
    """Refuses a corpus folder that would replace the raw text or be read as raw text.

    Raises:
        UserError: one of the folders is or holds the other.
    """
    one, other = raw.resolve(), corpus.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UserError(
            f"{corpus}: should lie apart from the raw text in {raw}; name another folder"
        )


def examine_all(
    raw: Path, settings: Preprocess
) -> Iterator[tuple[Path, RawFile | None, Rejections]]:
    """Looks at every file below a folder: its path, what it is (None: rejected), and why not.

    Raises:
        UserError: there is no file to read, or bad input is not to be skipped.
    """
    found = False
    for path in list_files(raw):
        skip = settings.bad_input == "skip"
        rejections = Rejections(str(path), skip, settings.bad_input_limit)
        file = examine(path, settings.format, settings.document, rejections)
        found |= file is not None
        yield path, file, rejections
    if not found:
        raise UserError(f"preprocess.input: no files to read in {raw}; put your text there")


def examine(path: Path, wanted: str, document: str, rejections: Rejections) -> RawFile | None:
    """Finds out what a file is, by its first bytes and its name; None if it is rejected.

    Args:
        wanted: preprocess.format: `auto`, or the format that all files are to be read as.
        document: preprocess.document: where each line is a document, there are no articles.
    """
    try:
        facts = path.stat()
    except OSError:
        rejections.add("dangling_link")
        return None
    if not stat.S_ISREG(facts.st_mode):
        rejections.add("not_a_regular_file")
        return None
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
    except OSError:
        rejections.add("unreadable_file")
        return None
    compression = next(
        (name for start, name in _COMPRESSIONS.items() if magic.startswith(start)), "none"
    )
    if compression == "none" and magic and path.suffix.lower() in _COMPRESSED_SUFFIXES:
        rejections.add("corrupt_compression")
        return None
    head = b""
    try:
        with open_raw(path, compression) as stream:
            while len(head) < _HEAD_BYTES and (chunk := stream.read1(_HEAD_BYTES)):
                head += chunk
    except DAMAGED as error:
        reason = damage(error)
        if reason == "corrupt_compression" and not head:
            rejections.add(reason)
            return None
        # What there is of it is read; reading it whole tells of the damage.
    kind = _recognise(path, head, document) if wanted == "auto" else wanted
    if unfit := _unfit(kind, head):
        rejections.add(unfit, excerpt=head)
        return None
    return RawFile(path, kind, compression, facts.st_size)


def _recognise(path: Path, head: bytes, document: str) -> str:
    name = path.name.lower()
    for suffix in _COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    by_name = _FORMATS.get(Path(name).suffix)
    if by_name:
        return by_name
    if head.startswith(b"PAR1"):
        return "parquet"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"<doc ") and b">" in start.partition(b"\n")[0]:
        return "wikiextractor"
    if document != "line" and _HEADING.match(head):
        return "wikitext"
    if start.startswith(b"{"):
        try:
            if isinstance(json.loads(start.partition(b"\n")[0]), dict):
                return "jsonl"
        except (ValueError, RecursionError):
            pass
    return "text"


def _unfit(kind: str, head: bytes) -> str | None:
    """Why a file cannot be of this kind, by its first bytes."""
    if kind == "parquet":
        return None
    if head.startswith(_WIDE):
        return "utf16_file"
    if b"\0" in head[:4096] or head.startswith((b"PAR1", b"%PDF-")):
        return "binary_file"
    if kind == "jsonl" and head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        return "json_array"
    return None
