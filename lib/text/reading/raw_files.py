"""The raw files of a folder: which files are text, in which format and compression."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from lib.run.errors import UserError
from lib.text.reading.compression import DAMAGED, SUFFIXES, compression_of, damage, open_raw
from lib.text.reading.formats import format_of, misfit
from lib.text.reading.reader import RawFile
from lib.text.reading.rejections import Rejections

# Files that tools keep in a data folder: never the user's text.
_IGNORED_SUFFIXES = (".dvc",)
_HEAD_BYTES = 1 << 16
_EXCERPT_BYTES = 512


def list_files(folder: Path) -> Iterator[Path]:
    """All files below a folder that are not hidden, links followed, sorted by relative path.

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
        status = Path(parent).stat()
        if (status.st_dev, status.st_ino) in seen:  # A link back to a folder above it.
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
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
        UserError: one of the folders is the other or contains it.
    """
    one, other = raw.resolve(), corpus.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise UserError(
            f"{corpus}: should be separate from the raw text in {raw}; name another folder"
        )


def examine_all(
    folder: Path, format_name: str, document: str
) -> Iterator[tuple[Path, RawFile | None, Rejections]]:
    """Examines every file below a folder: its path, what it is, or why it is rejected (then None).

    Args:
        format_name, document: see `examine`.

    Raises:
        UserError: there is no file at all.
    """
    any_file = False
    for path in list_files(folder):
        rejections = Rejections(str(path), skip=True)
        yield path, examine(path, format_name, document, rejections), rejections
        any_file = True
    if not any_file:
        raise UserError(f"preprocess.input: no files to read in {folder}; put your text there")


def examine(path: Path, format_name: str, document: str, rejections: Rejections) -> RawFile | None:
    """Finds out what a file is, by its name and its first bytes; None if it is rejected.

    Args:
        format_name: preprocess.format: `auto`, or the format of all files.
        document: preprocess.document.
    """
    try:
        status = path.stat()
    except OSError:
        rejections.add_file("dangling_link", 0)
        return None
    if not stat.S_ISREG(status.st_mode):
        rejections.add_file("not_a_regular_file", 0)
        return None
    try:
        with path.open("rb") as stream:
            magic = stream.read(8)
    except OSError:
        rejections.add_file("unreadable_file", status.st_size)
        return None
    compression = compression_of(magic)
    if compression == "none" and path.suffix.lower() in SUFFIXES:
        reason = "corrupt_compression" if magic else "truncated_compression"
        rejections.add_file(reason, status.st_size)
        return None
    head = b""
    try:
        with open_raw(path, compression) as stream:
            while len(head) < _HEAD_BYTES and (some := stream.read1(_HEAD_BYTES)):
                head += some
    except DAMAGED as error:
        reason = damage(error)
        if reason == "corrupt_compression" and not head:
            rejections.add_file(reason, status.st_size)
            return None
        # What precedes the damage is read later; that reading rejects the rest.
    if format_name == "auto":
        name = path.name.lower()
        for suffix in SUFFIXES:
            name = name.removesuffix(suffix)
        format_name = format_of(name, head, document)
    if problem := misfit(format_name, head):
        rejections.add_file(problem, status.st_size, excerpt=head[:_EXCERPT_BYTES])
        return None
    return RawFile(path, format_name, compression, status.st_size)
