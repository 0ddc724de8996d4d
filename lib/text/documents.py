"""What a document is: layouts of raw text, and Google's input format inside the house."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

# Documents as the readers give them: each a list of lines, none blank.
Documents = list[list[str]]

_CHUNK_BYTES = 1 << 22
# Characters of raw text: longer documents are cut, so that memory is bounded wherever a document
# is held, and a corpus in which no document ends does not become one document.
MAX_DOCUMENT = 4 << 20
_BATCH = 1 << 18


def gather(lines: Iterable[str], counts: Counter[str]) -> Iterator[Documents]:
    """Groups lines into documents at blank lines.

    Args:
        counts: `documents_cut` gets the number of cuts in documents of more than 4 Mi characters.

    Yields:
        Some documents at a time.
    """
    batch: Documents = []
    current: list[str] = []
    size = batch_size = 0
    for line in lines:
        if line and not line.isspace():
            if size + len(line) > MAX_DOCUMENT and current:
                counts["documents_cut"] += 1
                yield [*batch, current]
                batch, current, size, batch_size = [], [], 0, 0
            current.append(line)
            size += len(line)
        elif current:
            batch.append(current)
            batch_size += size
            current, size = [], 0
            if batch_size > _BATCH:
                yield batch
                batch, batch_size = [], 0
    yield [*batch, current] if current else batch


def regroup(
    batches: Iterable[Documents], lines: int | None, counts: Counter[str]
) -> Iterator[Documents]:
    """Groups the lines of all documents anew: every so many make one (None: all of them)."""

    def separated() -> Iterator[str]:
        number = 0
        for batch in batches:
            for document in batch:
                for line in document:
                    if lines and number == lines:
                        number = 0
                        yield ""
                    number += 1
                    yield line

    return gather(separated(), counts)


def read_corpus(path: Path) -> Iterator[bytes]:
    """Documents of a file in Google's input format, as written by `format_document`.

    Yields:
        Bytes of one document: a sentence a line, each line LF-ended, no blank line.
    """
    rest: list[bytes] = []  # The beginning of a document that ends in a later chunk.
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            if rest and rest[-1].endswith(b"\n") and chunk.startswith(b"\n"):
                chunk = b"\n" + chunk
                rest[-1] = rest[-1][:-1]
            first, *others = chunk.split(b"\n\n")
            rest.append(first)
            if others:
                yield b"".join(rest) + b"\n"
                *whole, last = others
                for document in whole:
                    yield document + b"\n"
                rest = [last]
    document = b"".join(rest)
    if document:
        yield document.rstrip(b"\n") + b"\n"


@dataclass(frozen=True)
class CorpusText:
    """One corpus file in memory, by lines and documents; blank lines belong to their documents.

    Attributes:
        text: the file's bytes.
        lines: int64 [lines + 1]: line i is text[lines[i]:lines[i + 1]], its LF included.
        documents: int64 [documents + 1]: document d is the lines documents[d] to
            documents[d + 1] - 1; the last of them is the blank one.
    """

    text: bytes
    lines: np.ndarray
    documents: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file in Google's input format."""
        text = path.read_bytes()
        characters = np.frombuffer(text, np.uint8)
        lines = np.zeros(text.count(b"\n") + 1, np.int64)
        found = 1
        # A chunk at a time: the places of the line ends would else be there several times over.
        for start in range(0, len(text), _CHUNK_BYTES):
            ends = np.flatnonzero(characters[start : start + _CHUNK_BYTES] == ord("\n"))
            lines[found : found + len(ends)] = ends + (start + 1)
            found += len(ends)
        blank = np.flatnonzero(np.diff(lines) == 1) + 1
        return cls(text, lines, np.concatenate(([0], blank)))

    @property
    def starts(self) -> np.ndarray:
        """int64 [documents + 1]: where each document begins in the text."""
        starts: np.ndarray = self.lines[self.documents]
        return starts


def join_ranges(text: bytes, starts: np.ndarray, stops: np.ndarray) -> bytes:
    """text[starts[0]:stops[0]], text[starts[1]:stops[1]] and so on, put together."""
    ranges = zip(starts.tolist(), stops.tolist(), strict=True)
    return b"".join([text[start:stop] for start, stop in ranges])


def format_document(sentences: str) -> bytes:
    """A document in Google's input format: its sentences, LF between them, and a blank line."""
    return f"{sentences}\n\n".encode()
