"""The raw files of a folder: which files are text, in which format and compression."""

import codecs
import csv
import io
import os
import re
import stat
from pathlib import Path

from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.text.names import shown_name, some_of
from lib.text.reading.compression import DAMAGED, SUFFIXES, compression_of, damage, open_raw
from lib.text.reading.encodings import (
    HALF_PAIRS,
    MIXED,
    UTF8,
    declared_encoding,
    doubt,
    encoding_of,
    likely_encoding,
    marked_encoding,
)
from lib.text.reading.formats import MARKUP, format_of, is_known_binary, misfit
from lib.text.reading.reader import RawFile
from lib.text.reading.rejected_files import RejectedFiles
from lib.text.reading.rejections import BadInputError, Rejections

# Files that tools keep in a data folder: never the user's text.
_IGNORED_SUFFIXES = (".dvc",)
# Copies that editors, patch and browsers leave behind: a.txt~, #a.txt#, a.txt.bak, ~$a.doc.
_LEFT_BEHIND = re.compile(
    r"(?i)^~\$|~$|^#.*#$|\.(?:bak|backup|old|orig|rej|sw[a-p]|te?mp|part|crdownload)$"
    r"|^(?:thumbs\.db|desktop\.ini)$"
)
_HEAD_BYTES = 1 << 16
_EXCERPT_BYTES = 512
# All files are named in one line if there are at most so many, otherwise some of each kind.
_ALL_NAMED = 12
_SOME_NAMED = 3


def list_files(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden, links followed, sorted by relative path.

    Raises:
        UserError: the folder is missing, or a name below it is not UTF-8.
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
        for name in (*folders, *names):
            if not name.isascii():
                _refuse_bad_name(parent, name)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and not name.endswith(_IGNORED_SUFFIXES)
        ]
    # They begin with the same folder, so this is the order of the relative paths.
    return sorted(found, key=os.fspath)


def relative_name(path: Path, folder: Path) -> str:
    """The path of a file relative to the folder that it was found in.

    Much faster than `Path.relative_to`, and there may be many small files.
    """
    start = str(folder)
    if start == ".":
        return str(path)
    return str(path).removeprefix(start).lstrip("/")


def _refuse_bad_name(parent: str, name: str) -> None:
    data = os.fsencode(name)  # whatever the locale makes of it
    try:
        data.decode()
    except UnicodeDecodeError:
        shown = shown_name(Path(parent, name))
        encoding = likely_encoding(data) or "latin1"
        raise UserError(
            f"{shown}: the name of this file is not UTF-8, so DVC cannot record it; rename it "
            f"(`convmv -r -f {encoding} -t utf-8 --notest`, if it is in {encoding})"
        ) from None


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
    folder: Path,
    format_name: str,
    document: str,
    encoding: str,
    skip: bool,
    rejected: RejectedFiles,
    prefix: str = "",
) -> tuple[list[RawFile], list[str]]:
    """Examines every file below a folder.

    Args:
        format_name, document, encoding: see `examine`.
        skip: see `Rejections`.
        rejected: gets the files that cannot be read.
        prefix: stands before the names of files, which are relative to the folder.

    Returns:
        The files to read, and the names of those that are passed over because of their names.

    Raises:
        UserError: there is no file at all, or see `list_files`.
    """
    files, passed_over = [], []
    paths = list_files(folder)
    for path in paths:
        name = prefix + relative_name(path, folder)
        if _LEFT_BEHIND.search(path.name):
            passed_over.append(shown_name(name))
            continue
        rejections = Rejections(str(path), skip)
        try:
            if file := examine(path, format_name, document, rejections, encoding, name):
                files.append(file)
        except BadInputError as error:
            rejected.add_fault(error.fault)
        rejected.add(name, rejections)
    if len(passed_over) == len(paths):
        raise UserError(f"preprocess.input: no files to read in {folder}; put your text there")
    return files, passed_over


def examine(
    path: Path,
    format_name: str,
    document: str,
    rejections: Rejections,
    encoding: str = UTF8,
    name: str = "",
) -> RawFile | None:
    """Finds out what a file is, by its name and its first bytes; None if it is rejected.

    Args:
        format_name: preprocess.format: `auto`, or the format of all files.
        document: preprocess.document.
        encoding: preprocess.encoding: of files that are not UTF-8.
        name: its path relative to the folder of raw text.
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
            head = stream.read(_HEAD_BYTES)
    except OSError:
        rejections.add_file("unreadable_file", status.st_size)
        return None
    compression = compression_of(head)
    if compression == "none" and path.suffix.lower() in SUFFIXES:
        reason = "corrupt_compression" if head else "truncated_compression"
        rejections.add_file(reason, status.st_size)
        return None
    if compression != "none":
        head = b""
        try:
            with open_raw(path, compression) as unpacked:
                while len(head) < _HEAD_BYTES and (some := unpacked.read1(_HEAD_BYTES)):
                    head += some
        except DAMAGED as error:
            reason = damage(error)
            if reason in ("corrupt_compression", "zstandard_window") and not head:
                rejections.add_file(reason, status.st_size)
                return None
            # What precedes the damage is read later; that reading rejects the rest.

    actual = marked_encoding(head) or UTF8
    if actual == UTF8 and encoding != UTF8 and not is_known_binary(head):
        actual = _actual_encoding(path, compression, encoding)
    text = head if actual in (UTF8, MIXED) else _as_utf8(head, actual)
    if format_name == "auto":
        own_name = path.name.lower()
        for suffix in SUFFIXES:
            own_name = own_name.removesuffix(suffix)
        format_name = format_of(own_name, text, document)
    if format_name in MARKUP and actual == UTF8 and (declared := declared_encoding(text)):
        actual = _actual_encoding(path, compression, declared)
    problem = "mixed_encodings" if actual == MIXED else misfit(format_name, text)
    if problem:
        rejections.add_file(problem, status.st_size, excerpt=head[:_EXCERPT_BYTES])
        return None
    doubtful = doubt(head, actual) if actual == encoding != UTF8 else None
    return RawFile(path, format_name, compression, status.st_size, actual, doubtful, name)


def _actual_encoding(path: Path, compression: str, other: str) -> str:
    """UTF-8, `other`, or MIXED: see `encoding_of`."""
    if other == UTF8:
        return UTF8
    with open_raw(path, compression) as stream:
        return encoding_of(stream, other)


def _as_utf8(head: bytes, encoding: str) -> bytes:
    """The text of the beginning of a file, which may end within a character."""
    text = codecs.getincrementaldecoder(encoding)(HALF_PAIRS).decode(head)
    return text.encode(UTF8, "surrogatepass")


def kind_of(file: RawFile) -> str:
    """The format of a file in words, with its compression and an encoding other than UTF-8."""
    more = [each for each in (file.compression, file.encoding) if each not in ("none", UTF8)]
    return f"{file.format} ({', '.join(more)})" if more else file.format


def kinds_in_words(files: list[RawFile]) -> str:
    """How many files are of each kind, with their names (of many files, the first few)."""
    kinds: dict[str, list[str]] = {}
    for file in files:
        kinds.setdefault(kind_of(file), []).append(shown_name(file.name))
    shown = len(files) if len(files) <= _ALL_NAMED else _SOME_NAMED
    return "; ".join(
        f"{len(names):,} as {kind}: {some_of(names, shown)}"
        for kind, names in sorted(kinds.items())
    )


def write_listing(files: list[RawFile], target: Path) -> None:
    """Writes a table of all files that are read: format, compression, encoding, size."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("file", "format", "compression", "encoding", "bytes"))
    for file in files:
        writer.writerow(
            (shown_name(file.name), file.format, file.compression, file.encoding, file.size)
        )
    write_text(target, stream.getvalue())
