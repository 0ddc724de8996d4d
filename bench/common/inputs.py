"""Texts to measure with, made from the files that are given."""

import re
from collections.abc import Iterator
from pathlib import Path

_MEGABYTE = 1_000_000
# ` = Title = ` opens an article; ` = = Section = = ` does not.
_TITLE = re.compile(r" = [^=].*[^=] = ")


def wikitext_documents(source: Path, target: Path, limit: int | None = None) -> None:
    """WikiText with its articles as documents: lines as they are, a blank line between articles.

    Args:
        limit: megabytes to take; all by default.
    """
    with source.open(encoding="utf-8") as lines, target.open("w", encoding="utf-8") as file:
        size = 0
        for line in lines:
            line = line.rstrip("\n")
            if _TITLE.fullmatch(line):
                if limit and size > limit * _MEGABYTE:
                    return
                file.write("\n")
            if line.strip():
                file.write(line.strip() + "\n")
                size += len(line)


def first_lines(source: Path, target: Path, limit: int | None = None) -> None:
    """The first lines of a file, up to so many megabytes."""
    with source.open("rb") as lines, target.open("wb") as file:
        size = 0
        for line in lines:
            file.write(line)
            size += len(line)
            if limit and size > limit * _MEGABYTE:
                return


def documents(name: str, source: Path, target: Path) -> None:
    """The text `wikitext` or `tweets` with a blank line between documents."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if name == "wikitext":
        wikitext_documents(source, target)
    else:
        target.write_bytes(source.read_bytes().replace(b"\n", b"\n\n"))


def enlarged(source: Path, megabytes: int, files: int, target: Path) -> None:
    """Text of so many megabytes, in files of equal size: the source again and again.

    Each document (between blank lines) ends with a word that no other has, so that none is a
    duplicate of another.
    """
    target.mkdir(parents=True, exist_ok=True)
    documents = _numbered(source)
    for number in range(files):
        size = 0
        with (target / f"{number:03d}.txt").open("w", encoding="utf-8") as file:
            while size < megabytes * _MEGABYTE / files:
                document = next(documents)
                file.write(document)
                size += len(document.encode())


def _numbered(source: Path) -> Iterator[str]:
    documents = [part for part in source.read_text(encoding="utf-8").split("\n\n") if part.strip()]
    number = 0
    while True:
        for document in documents:
            number += 1
            yield f"{document.strip()} Number {number}.\n\n"
