"""What a document is: layouts of raw text, and Google's input format inside the house."""

from collections.abc import Iterable, Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 22


def group_lines(lines: Iterable[str], document: str) -> Iterator[list[str]]:
    """Groups the lines of one raw file into documents, each a list of non-blank lines.

    Args:
        lines: text lines without their line ends.
        document: `blank_line` (one or more blank lines end a document), `line` (each line is
            one), `file` (the whole file is one), or `N sentences` (every N non-blank lines).
    """
    size = int(document.split()[0]) if document.endswith(" sentences") else None
    if document == "line":
        size = 1
    current: list[str] = []
    for line in lines:
        if line.strip():
            current.append(line)
            if len(current) == size:
                yield current
                current = []
        elif document == "blank_line" and current:
            yield current
            current = []
    if current:
        yield current


def read_corpus(path: Path) -> Iterator[bytes]:
    """Documents of a file in Google's input format, as written by `format_document`.

    Yields:
        Bytes of one document: a sentence a line, each line LF-ended, no blank line.
    """
    rest = b""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            *whole, rest = (rest + chunk).split(b"\n\n")
            for document in whole:
                yield document + b"\n"
    if rest:
        yield rest.rstrip(b"\n") + b"\n"


def format_document(sentences: Iterable[str]) -> bytes:
    """One document in Google's input format: a sentence a line and a blank line after it."""
    return ("\n".join(sentences) + "\n\n").encode()
