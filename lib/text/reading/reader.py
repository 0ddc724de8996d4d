"""A chunk of a raw file as the reader of its format sees it: lines, options, rejections, counts."""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

from lib.text.reading.compression import DAMAGED, CompressedStream, damage, open_raw
from lib.text.reading.dialects import Dialect
from lib.text.reading.encodings import HALF_PAIRS, UTF8, TranscodedStream
from lib.text.reading.fields import MISSING_VALUES, TextFields, text_of
from lib.text.reading.line_ends import count_joined, join_wrapped
from lib.text.reading.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    ByteStream,
    decode_lines,
    line_blocks,
)
from lib.text.reading.pages import html_to_lines
from lib.text.reading.rejections import Rejections

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_END = re.compile("\r\n|\r|\n")
_PAGE = re.compile(
    r"(?:[\s\ufeff]++|<!--(?>.*?-->)|<\?xml\s[^>]*+>)*+"
    r"(?:<!DOCTYPE\s++html[^<>]*+>\s*+<|<html(?:\s[^<>]*+)?>\s*+<)",
    re.IGNORECASE | re.DOTALL,
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class RawFile:
    """A raw file to read.

    Attributes:
        format: a key of `formats.FORMATS`.
        compression: gzip, bzip2, xz, zstandard, or none.
        size: bytes on disk.
        encoding: of its text, as Python names it.
        doubt: another encoding that its text is more likely to be in, or None.
        name: its path relative to the folder of raw text.
    """

    path: Path
    format: str
    compression: str
    size: int
    encoding: str = UTF8
    doubt: str | None = None
    name: str = ""


@dataclass(frozen=True)
class Chunk:
    """A raw file, or the part of it between two cuts (see `lines`).

    Attributes:
        start, stop: byte offsets; stop None: to the end of the file.
        content: the bytes of a small file that is not compressed, if they are known already.
    """

    file: RawFile
    start: int = 0
    stop: int | None = None
    content: bytes | None = field(default=None, repr=False)

    def line(self, number: int) -> str:
        """Name of the n-th line (from 0) of this chunk, for errors.

        It is counted within the chunk; `rejections.after_lines` makes it one of the file.
        """
        return f"line {number + 1}"


@dataclass(frozen=True)
class ReadOptions:
    """How files are read: keys of `preprocess` in params.yaml (`fields`: of `text_field`)."""

    document: str = "blank_line"
    fields: TextFields = field(default_factory=TextFields)
    csv: Dialect = field(default_factory=Dialect)
    line_ends: Literal["keep", "join"] = "keep"


@dataclass(frozen=True)
class Reader:
    """Access to one chunk for the reader of its format.

    Attributes:
        rejections: gets bad input.
        counts: gets headings left out, records without text, documents cut at 4 Mi characters,
            lines of the chunk (`raw_lines`), characters of text that were read (`characters_read`,
            without line ends) and those left out (`characters_dropped_REASON`).
    """

    chunk: Chunk
    options: ReadOptions
    rejections: Rejections
    counts: Counter[str]

    @property
    def fields(self) -> TextFields:
        return self.options.fields

    def lines(self) -> Iterator[str]:
        """All lines of a format that has text in all of them, decoded, without their ends."""
        return chain.from_iterable(self.text_blocks())

    def text_blocks(self) -> Iterator[list[str]]:
        """The lines of `lines`, in blocks."""
        counts, rejected = self.counts, self.rejections.characters
        before = rejected.total()
        for _, block in self.blocks():
            characters = sum(map(len, block))
            if (after := rejected.total()) > before:
                characters += after - before
                counts["characters_dropped_rejected"] += after - before
                before = after
            counts["characters_read"] += characters
            yield block

    def drop(self, reason: str, line: str) -> None:
        """Counts the characters of a line that is left out."""
        self.counts[f"characters_dropped_{reason}"] += len(line)

    def blocks(self) -> Iterator[tuple[int, list[str]]]:
        """All lines in blocks, each block with the number of lines before it."""
        chunk = self.chunk
        content = chunk.content
        if content is not None and chunk.file.encoding == UTF8 and len(content) <= BLOCK_BYTES:
            # What follows gives the same; there may be very many small files.
            lines = content.removeprefix(_BYTE_ORDER_MARK)
            yield 0, decode_lines(lines, self.rejections, chunk.line, b"")
            self.counts["raw_lines"] += content.count(b"\n")
            return
        with self._open() as (stream, size):

            def line_after(first: int) -> Callable[[int], str]:
                return lambda index: chunk.line(first + index)

            number, block, before = 0, b"", b""
            for number, block in line_blocks(stream, size, self.rejections, chunk.line):
                if number == 0 and chunk.start == 0:
                    block = block.removeprefix(_BYTE_ORDER_MARK)
                yield number, decode_lines(block, self.rejections, line_after(number), before)
                before = block
            self.counts["raw_lines"] += number + block.count(b"\n")

    @contextmanager
    def _open(self) -> Iterator[tuple[ByteStream, int | None]]:
        """The chunk as UTF-8, and the number of bytes to read (None: to the end)."""
        chunk, file = self.chunk, self.chunk.file
        if chunk.content is None:
            opened: Any = open_raw(file.path, file.compression)
        else:
            opened = nullcontext(BytesIO(chunk.content))
        with opened as stream:
            size = None
            if chunk.stop is not None:
                stream.seek(chunk.start)
                size = chunk.stop - chunk.start
            if file.encoding == UTF8:
                yield stream, size
            else:
                yield TranscodedStream(stream, file.encoding, size), None

    def characters(self) -> Iterator[str]:
        """The text of a whole file, decoded, in blocks that may end anywhere.

        Each sequence of bytes that is not UTF-8 becomes half a surrogate pair, which is not a
        character either: `record_lines` rejects the record it is in.
        """
        decoder = codecs.getincrementaldecoder("utf-8-sig")(HALF_PAIRS)
        with self._open() as (stream, _):
            try:
                while block := stream.read1(BLOCK_BYTES):
                    yield decoder.decode(block)
            except DAMAGED as error:
                reason = damage(error)
                self.rejections.add(
                    reason, lost=cast(CompressedStream | TranscodedStream, stream).lost()
                )
        if rest := decoder.decode(b"", final=True):
            yield rest

    def record_lines(self, value: Any, where: str | Callable[[], str]) -> list[str]:
        """The non-blank lines of one record's text; none if the text is missing or rejected.

        Args:
            value: a string, None, or a list of strings, which are joined.
            where: the record's position in the file, for errors.
        """
        try:
            text: str | None = value if type(value) is str else text_of(value)
        except TypeError as error:
            found = f"({error})"
            self.rejections.add(
                "text_not_a_string",
                lambda: f"{where() if callable(where) else where} {found}",
                repr(value),
            )
            return []
        if not text:
            self.counts["records_without_text"] += 1
        elif len(text) < 8 and text.strip() in MISSING_VALUES:
            self.counts["records_without_text"] += 1
            self.counts["characters_read"] += len(text)
            self.drop("missing_values", text)
        elif len(text) > MAX_LINE_BYTES:
            self.reject_record("line_too_long", where, text)
        elif "\0" in text:
            self.reject_record("nul_byte", where, text)
        elif not text.isascii() and _SURROGATE.search(text):
            self.reject_record("invalid_unicode", where, text)
        else:
            if text[0] in "<\ufeff\n\r\t " and _PAGE.match(text):
                return self._page_lines(text)
            if "\n" not in text and "\r" not in text and not text.isspace():
                self.counts["characters_read"] += len(text)  # nearly always
                return [text]
            lines = _LINE_END.split(text)
            if self.options.line_ends == "join":
                joined = join_wrapped(lines)
                count_joined(joined, self.counts)
                self.counts["characters_read"] += joined.removed
                lines = joined.lines
            kept = [line for line in lines if line and not line.isspace()]
            characters = sum(map(len, lines))
            self.counts["characters_read"] += characters
            if len(kept) < len(lines):
                self.counts["characters_dropped_blank_lines"] += characters - sum(map(len, kept))
                self.counts["records_without_text"] += not kept
            return kept
        return []

    def _page_lines(self, text: str) -> list[str]:
        """The lines of text of a record that is a whole page of HTML."""
        lines = html_to_lines(text, self.counts)
        size = len(text) - text.count("\n") - text.count("\r")
        self.counts["records_of_html"] += 1
        self.counts["records_without_text"] += not lines
        self.counts["characters_read"] += size
        self.counts["characters_dropped_markup"] += size - sum(map(len, lines))
        return lines

    def reject_record(
        self, reason: str, where: str | Callable[[], str], text: str, size: int | None = None
    ) -> None:
        """Rejects the text of a record; `size`: of it, if `text` is only its beginning."""
        size = len(text) if size is None else size
        self.counts["characters_read"] += size
        self.counts["characters_dropped_rejected"] += size
        self.rejections.add(reason, where, text, size)

    def reject_file(
        self, reason: str, where: str | Callable[[], str] = "", read: float = 0
    ) -> None:
        """Rejects the whole file (or chunk), or what is left of it.

        Args:
            read: the fraction of it that was read.
        """
        stop = self.chunk.file.size if self.chunk.stop is None else self.chunk.stop
        size = stop - self.chunk.start
        if read:
            self.rejections.add(reason, where, b"", round(size * (1 - read)))
        else:
            self.rejections.add_file(reason, size, where)
