"""Documents: grouping raw lines, and Google's input format, in which the pipeline stores text.

In Google's input format (of BERT's create_pretraining_data.py) a line is a sentence, and a blank
line ends each document; the last one of a file may lack it.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from lib.run.errors import UserError

# Documents as readers yield them: each a list of lines, none blank.
Documents = list[list[str]]

_BLOCK_BYTES = 1 << 22
# Characters of raw text. Longer documents are cut: this bounds memory everywhere, and a corpus
# without boundaries does not become a single document.
MAX_DOCUMENT = 4 << 20
_BATCH_CHARACTERS = 1 << 18
_BATCH_BYTES = 64 << 20

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A line of white space only, without its LF; and several blank lines.
_WHITE_LINE = re.compile(rb"^[ \t\r\v\f]++$", re.MULTILINE)
_BLANK_LINES = re.compile(rb"\n{3,}")
# bool [256]: the bytes that are white space but not LF.
_IS_SPACE = np.isin(np.arange(256), list(b" \t\r\v\f"))


def gather(lines: Iterable[str], counts: Counter[str]) -> Iterator[Documents]:
    """Groups lines into documents at blank lines.

    Args:
        counts: `documents_cut` gets the number of cuts in documents of more than 4 Mi characters,
            `characters_dropped_blank_lines` the white space of lines without anything else.

    Yields:
        Batches of documents.
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
            continue
        if line:
            counts["characters_dropped_blank_lines"] += len(line)
        if current:
            batch.append(current)
            batch_size += size
            current, size = [], 0
            if batch_size > _BATCH_CHARACTERS:
                yield batch
                batch, batch_size = [], 0
    yield [*batch, current] if current else batch


def join_all(batches: Iterable[Documents], counts: Counter[str]) -> Iterator[Documents]:
    """All documents as one (or as several of up to 4 Mi characters)."""
    lines = (line for batch in batches for document in batch for line in document)
    return gather(lines, counts)


# Documents (sentences joined by LF), and of each the index of its file and its raw characters.
Groups = tuple[list[str], list[int], list[int]]


class SentenceGroups:
    """Groups the sentences of all documents of a file into new documents of so many sentences.

        >>> groups = SentenceGroups(2, Counter())
        >>> groups.add(["A.\\nB.\\nC.", "D.\\nE."], [0, 0], [7, 5])
        (['A.\\nB.', 'C.\\nD.'], [0, 0], [12, 0])
        >>> groups.rest()
        (['E.'], [0], [0])

    Raw characters are not known by sentence: they count for the next document that is complete.

    Args:
        sentences: per document.
        counts: see `gather`.
    """

    def __init__(self, sentences: int, counts: Counter[str]) -> None:
        self._sentences, self._counts = sentences, counts
        self._current: list[str] = []
        self._size = self._file = self._characters = 0
        self._complete: Groups = ([], [], [])

    def add(self, documents: list[str], files: list[int], characters: list[int]) -> Groups:
        """The groups that some documents complete; those of a file follow one another."""
        start = 0
        for file, same in groupby(files):
            stop = start + len(list(same))
            if file != self._file:
                self._end()
            self._file = file
            self._characters += sum(characters[start:stop])
            for sentence in chain.from_iterable(each.split("\n") for each in documents[start:stop]):
                if self._size + len(sentence) > MAX_DOCUMENT and self._current:
                    self._counts["documents_cut"] += 1
                    self._end()
                self._current.append(sentence)
                self._size += len(sentence)
                if len(self._current) == self._sentences:
                    self._end()
            start = stop
        return self._take()

    def rest(self) -> Groups:
        """The last group, of fewer sentences, if there are any left."""
        self._end()
        return self._take()

    def _end(self) -> None:
        if self._current:
            documents, files, characters = self._complete
            documents.append("\n".join(self._current))
            files.append(self._file)
            characters.append(self._characters)
            self._current, self._size, self._characters = [], 0, 0

    def _take(self) -> Groups:
        complete, self._complete = self._complete, ([], [], [])
        return complete


def corpus_blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    r"""A file in Google's input format in blocks of whole lines, brought into its plainest form.

    The stages write this form, and it passes through unchanged: LF ends every line, one blank line
    ends every document, no document is empty. Other tools also end lines in CR LF, leave out the
    blank line or the LF at the end of a file, write several blank lines or white space in them, or
    begin with a byte order mark:

        "\n\nA.\r\nB.\r\n \r\n\r\nC."  ->  "A.\nB.\n\nC.\n\n"

    Args:
        size: of a block, in bytes; lines are not cut.
    """
    is_first = after_blank = True
    while block := stream.read(size):
        if not block.endswith(b"\n"):
            block += stream.readline()
        if is_first:
            block, is_first = block.removeprefix(_BYTE_ORDER_MARK), False
        if not block.endswith(b"\n"):
            block += b"\n"
        if not _is_plain(block, _lines(block)):
            block = _WHITE_LINE.sub(b"", block.replace(b"\r\n", b"\n"))
            block = _BLANK_LINES.sub(b"\n\n", block)
        if block.startswith(b"\n"):
            block = (b"" if after_blank else b"\n") + block.lstrip(b"\n")
        if block:
            yield block
            after_blank = block.endswith(b"\n\n") or block == b"\n"
    if not after_blank:
        yield b"\n"


def read_corpus(path: Path) -> Iterator[bytes]:
    """Documents of a file in Google's input format.

    Yields:
        Bytes of one document: a sentence per line, each line LF-ended, no blank line.
    """
    rest: list[bytes] = []  # the beginning of a document that ends in a later block
    with path.open("rb") as stream:
        for block in corpus_blocks(stream, _BLOCK_BYTES):
            if block.startswith(b"\n"):
                yield b"".join(rest)
                rest, block = [], block[1:]
            *whole, last = block.split(b"\n\n")
            for document in whole:
                yield b"".join([*rest, document, b"\n"])
                rest = []
            if last:
                rest.append(last)


@dataclass(frozen=True)
class CorpusText:
    """One corpus file in memory, indexed by lines and documents.

    An example: text      "A.\\nB.\\n\\nC.\\n\\n", two documents
                lines     [0, 3, 6, 7, 10, 11]
                documents [0, 3, 5]

    Attributes:
        text: bytes of the file, in the form that `corpus_blocks` gives it.
        lines: int64 [lines + 1]: line i is text[lines[i]:lines[i + 1]], its LF included.
        documents: int64 [documents + 1]: document d has the lines documents[d] to
            documents[d + 1] - 1; the last of them is the blank line that ends it.
    """

    text: bytes
    lines: np.ndarray
    documents: np.ndarray

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file in Google's input format."""
        text = path.read_bytes()
        lines = _lines(text)
        ends_documents = text.endswith(b"\n\n") or not text
        if text.startswith((_BYTE_ORDER_MARK, b"\n")) or not (
            ends_documents and _is_plain(text, lines)
        ):
            del text
            with path.open("rb") as stream:
                text = b"".join(corpus_blocks(stream, _BLOCK_BYTES))
            lines = _lines(text)
        blank = np.flatnonzero(np.diff(lines) == 1) + 1
        return cls(text, lines, np.concatenate(([0], blank)))

    def check_encoding(self, path: Path) -> None:
        """Refuses text that is not UTF-8.

        Raises:
            UserError: it is not; `path` is the file that it was read from.
        """
        decode = codecs.getincrementaldecoder("utf-8")().decode
        for start in range(0, len(self.text), _BLOCK_BYTES):
            block = self.text[start : start + _BLOCK_BYTES]
            try:
                decode(block, start + _BLOCK_BYTES >= len(self.text))
            except UnicodeDecodeError as error:
                # A character may begin in the block before.
                line = self.text.count(b"\n", 0, max(0, start + error.start - 3)) + 1
                raise UserError(
                    f"{path}: not UTF-8 (near line {line:,}); have the stage that wrote it write "
                    "UTF-8"
                ) from None

    @classmethod
    def join(cls, corpora: Sequence[Self]) -> Self:
        """The texts of several files one after another."""
        if len(corpora) == 1:
            return corpora[0]
        bytes_before = np.cumsum([0, *(len(each.text) for each in corpora)])
        lines_before = np.cumsum([0, *(len(each.lines) - 1 for each in corpora)])
        lines = [each.lines[:-1] + bytes_before[index] for index, each in enumerate(corpora)]
        documents = [
            each.documents[:-1] + lines_before[index] for index, each in enumerate(corpora)
        ]
        return cls(
            b"".join([each.text for each in corpora]),
            np.concatenate([*lines, bytes_before[-1:]]),
            np.concatenate([*documents, lines_before[-1:]]),
        )

    @property
    def starts(self) -> np.ndarray:
        """int64 [documents + 1]: byte offset of each document, and the end of the text."""
        starts: np.ndarray = self.lines[self.documents]
        return starts


def _lines(text: bytes) -> np.ndarray:
    """int64 [lines + 1]: the offset of each line that LF ends, and of the end of the last one."""
    characters = np.frombuffer(text, np.uint8)
    lines = np.zeros(text.count(b"\n") + 1, np.int64)
    found = 1
    # A block at a time, or memory would hold several arrays of all line ends.
    for start in range(0, len(text), _BLOCK_BYTES):
        ends = np.flatnonzero(characters[start : start + _BLOCK_BYTES] == ord("\n"))
        lines[found : found + len(ends)] = ends + (start + 1)
        found += len(ends)
    return lines


def _is_plain(text: bytes, lines: np.ndarray) -> bool:
    """Whether whole lines have no CR LF, no blank lines with white space, no two blank lines.

    False also if a line ends in other white space.

    Args:
        lines: see `_lines`.
    """
    # In CR LF and in lines of white space, white space comes before the LF; in blank lines, an LF.
    before = np.take(np.frombuffer(text, np.uint8), lines[1:] - 2, mode="clip")
    blank = before == ord("\n")
    return not (np.take(_IS_SPACE, before).any() or (blank[1:] & blank[:-1]).any())


def in_batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Consecutive corpus files, in batches of at most 64 MiB (or of a single file).

    preprocess writes few files, but a corpus from elsewhere may have many small ones.
    """
    batch: list[Path] = []
    size = 0
    for path in files:
        more = path.stat().st_size
        if batch and size + more > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += more
    if batch:
        yield batch


def join_ranges(text: bytes, starts: np.ndarray, stops: np.ndarray) -> bytes:
    """Concatenates text[starts[0]:stops[0]], text[starts[1]:stops[1]] and so on."""
    ranges = zip(starts.tolist(), stops.tolist(), strict=True)
    return b"".join([text[start:stop] for start, stop in ranges])


def format_document(sentences: str) -> bytes:
    """A document in Google's input format, from its sentences joined by LF."""
    return f"{sentences}\n\n".encode()
