"""A chunk of a raw file as the reader of its format sees it: lines, options, rejections, counts."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from lib.text.reading.compression import DAMAGED, damage, open_raw
from lib.text.reading.lines import MAX_LINE_BYTES, decode_lines, line_blocks, range_bytes
from lib.text.reading.rejections import Rejections

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile("\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class RawFile:
    """A raw file to read.

    Attributes:
        format: a key of `formats.FORMATS`.
        compression: gzip, bzip2, xz, zstandard, or none.
        size: bytes on disk.
    """

    path: Path
    format: str
    compression: str
    size: int


@dataclass(frozen=True)
class Chunk:
    """A raw file, or the part of it between two cuts (see `lines`).

    Attributes:
        start, stop: byte offsets; stop None: to the end of the file.
    """

    file: RawFile
    start: int = 0
    stop: int | None = None

    def line(self, number: int) -> str:
        """Name of a line for errors; lines are counted from 0 in this chunk."""
        before = range_bytes(self.file.path, 0, self.start)
        lines_before = sum(some.count(b"\n") for some in before)
        return f"line {lines_before + number + 1}"


@dataclass(frozen=True)
class Reader:
    """Access to one chunk for the reader of its format.

    Attributes:
        document: preprocess.document.
        text_field: preprocess.text_field.
        rejections: gets bad input.
        counts: gets headings left out, records without text, and documents cut at 4 Mi characters.
    """

    chunk: Chunk
    document: str
    text_field: str
    rejections: Rejections
    counts: Counter[str]

    def lines(self) -> Iterator[str]:
        """All lines, decoded, without their ends."""
        return chain.from_iterable(map(itemgetter(1), self.blocks()))

    def blocks(self) -> Iterator[tuple[int, list[str]]]:
        """All lines in blocks, each block with the number of lines before it."""
        chunk = self.chunk
        with open_raw(chunk.file.path, chunk.file.compression) as stream:
            size = None
            if chunk.stop is not None:
                stream.seek(chunk.start)
                size = chunk.stop - chunk.start

            def line_after(first: int) -> Callable[[int], str]:
                return lambda index: chunk.line(first + index)

            try:
                for number, block in line_blocks(stream, size, self.rejections, chunk.line):
                    if number == 0 and chunk.start == 0:
                        block = block.removeprefix(_BYTE_ORDER_MARK)
                    yield number, decode_lines(block, self.rejections, line_after(number))
            except DAMAGED as error:  # What came before the damage has been read.
                self.rejections.add(damage(error))

    def record_lines(self, text: Any, where: str | Callable[[], str]) -> list[str]:
        """The non-blank lines of one record's text; none if the text is missing or rejected.

        Args:
            where: the record's position in the file, for errors.
        """
        if text is None or text == "":
            self.counts["records_without_text"] += 1
        elif not isinstance(text, str):
            self.rejections.add("text_not_a_string", where, repr(text))
        elif len(text) > MAX_LINE_BYTES:
            self.rejections.add("line_too_long", where, text)
        elif "\0" in text:
            self.rejections.add("nul_byte", where, text)
        elif not text.isascii() and _SURROGATE.search(text):
            self.rejections.add("invalid_unicode", where, text)
        else:
            lines = [line for line in _LINE_END.split(text) if line and not line.isspace()]
            self.counts["records_without_text"] += not lines
            return lines
        return []

    def missing_field(self, names: Iterable[str]) -> str:
        """Names the field that was looked for and the existing ones, for an error."""
        shown = [" ".join(name.split())[:40] for name in islice(names, 20)]
        return f"(looked for `{self.text_field}` among: {', '.join(shown)})"
