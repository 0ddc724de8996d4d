"""Input texts of the benchmarks, made from WikiText-2 and a file of tweets."""

import itertools
import re
from pathlib import Path

_MEGABYTE = 1_000_000
# ` = Title = ` starts an article; ` = = Section = = ` does not.
_TITLE = re.compile(r" = [^=].*[^=] = ")


def read_vocabulary(path: Path) -> list[str]:
    """Tokens of a vocab.txt."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def write_wikitext(source: Path, target: Path, limit: float | None = None) -> None:
    """Writes WikiText with a blank line between articles and only there.

    Args:
        limit: megabytes to write; None writes all.
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


def write_first_lines(source: Path, target: Path, limit: float | None = None) -> None:
    """Copies a file up to the line that exceeds `limit` megabytes; None copies all."""
    with source.open("rb") as lines, target.open("wb") as file:
        size = 0
        for line in lines:
            file.write(line)
            size += len(line)
            if limit and size > limit * _MEGABYTE:
                return


def write_documents(name: str, source: Path, target: Path) -> None:
    """Writes the text called `wikitext` or `tweets` with a blank line between documents."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if name == "wikitext":
        write_wikitext(source, target)
    else:
        target.write_bytes(source.read_bytes().replace(b"\n", b"\n\n"))


def write_enlarged(source: Path, megabytes: float, files: int, folder: Path) -> None:
    """Writes the documents of a text repeatedly into files of equal size.

    Each document (separated by blank lines) ends with a unique number, so that no two are
    duplicates.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = [part.strip() for part in source.read_text(encoding="utf-8").split("\n\n")]
    documents = enumerate(itertools.cycle(filter(None, texts)), 1)
    for name in range(files):
        size = 0
        with (folder / f"{name:03d}.txt").open("w", encoding="utf-8") as file:
            while size < megabytes * _MEGABYTE / files:
                number, text = next(documents)
                document = f"{text} Number {number}.\n\n"
                file.write(document)
                size += len(document.encode())
