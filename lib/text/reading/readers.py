"""Readers: raw files of many formats as documents, each a list of raw lines."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from html import unescape
from io import BufferedIOBase
from typing import Any

from lib.text.documents import Documents, gather, regroup
from lib.text.reading.lines import IsCut, decode_lines, first_cut, line_blocks, range_chunks
from lib.text.reading.raw_files import DAMAGED, RawFile, damage, open_raw
from lib.text.reading.rejections import Rejections
from lib.text.reading.tables import missing_field, read_parquet, separated_records, text_lines

_BOM = b"\xef\xbb\xbf"
_LINE_END = b"\n"
_WIKITEXT_TITLE = re.compile(r" = [^=]*[^=\s] = $")
_WIKITEXT_HEADING = re.compile(r" (?:= )+[^=]*[^=\s](?: =)+ $")
_WIKITEXT_CUT = re.compile(rb" = [^=\r\n]*[^=\s] = \r?\n?$")
_EXTRACTOR_TITLE = re.compile(r"\btitle=\"(.*?)\"[^\"]*>$")

# Blocks of lines, each with the number of the lines before it.
_Lines = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True)
class Source:
    """What to read: a raw file, or the part of it between two cuts.

    Attributes:
        start, stop: byte offsets, for a file that is read in pieces; otherwise all of it.
    """

    file: RawFile
    start: int = 0
    stop: int | None = None

    def line(self, number: int) -> str:
        """The name of a line, counted from 0 in this source, for errors."""
        before = range_chunks(self.file.path, 0, self.start)
        return f"line {number + sum(chunk.count(_LINE_END) for chunk in before) + 1}"


def cut_rule(file: RawFile, document: str) -> IsCut | None:
    """Where a file may be cut into pieces without cutting a document; None: nowhere."""
    if file.compression != "none" or document == "file":
        return None
    if file.format == "jsonl" or (file.format == "text" and document != "blank_line"):
        return _is_line
    rules = {"text": _is_blank, "wikitext": _is_title, "wikiextractor": _is_doc}
    return rules.get(file.format)


def _is_line(line: bytes) -> bool:
    return True


def _is_blank(line: bytes) -> bool:
    return not line.strip()


def _is_title(line: bytes) -> bool:
    return _WIKITEXT_CUT.match(line) is not None


def _is_doc(line: bytes) -> bool:
    return line.startswith(b"<doc ")


def between_cuts(file: RawFile, start: int, stop: int, is_cut: IsCut) -> Source:
    """The source whose documents begin in the byte range from `start` to `stop`."""
    with file.path.open("rb") as stream:
        return Source(file, first_cut(stream, start, is_cut), first_cut(stream, stop, is_cut))


def read_documents(
    source: Source, document: str, text_field: str, rejections: Rejections, counts: Counter[str]
) -> Iterator[Documents]:
    """Documents of one source, some at a time; no document and no line in it is blank.

    Args:
        document: what a document is in files of format text: `blank_line` or `line`. `file` and
            `N sentences` (every N lines) hold for all formats; without them a document is a JSON
            object, a table's row or a Wikipedia article.
        text_field: the field or column that holds the text, where there are such.
        counts: gets headings left out, records without text, and documents cut because they pass
            4 MiB.

    Raises:
        UserError: bad input that is not to be skipped (see `Rejections`).
    """
    if source.file.format == "parquet":
        batches = read_parquet(source.file, text_field, rejections, counts)
    else:
        batches = _read_lines(source, document, text_field, rejections, counts)
    if document == "file":
        return regroup(batches, None, counts)
    if document.endswith(" sentences"):
        return regroup(batches, int(document.split()[0]), counts)
    return batches


def _read_lines(
    source: Source, document: str, text_field: str, rejections: Rejections, counts: Counter[str]
) -> Iterator[Documents]:
    """The formats that are made of lines."""
    with open_raw(source.file.path, source.file.compression) as stream:
        lines = _decoded(stream, source, rejections)
        match source.file.format:
            case "jsonl":
                yield from _json_records(lines, text_field, source, rejections, counts)
            case "csv" | "tsv" as kind:
                delimiter = "," if kind == "csv" else "\t"
                yield from separated_records(
                    lines, delimiter, text_field, rejections, source.line, counts
                )
            case "wikitext":
                yield from gather(_wikitext(lines, counts), counts)
            case "wikiextractor":
                yield from gather(_wikiextractor(lines, counts), counts)
            case _ if document == "blank_line":
                yield from gather((line for _, block in lines for line in block), counts)
            case _:
                for _, block in lines:
                    yield [[line] for line in block if line and not line.isspace()]


def _decoded(stream: BufferedIOBase, source: Source, rejections: Rejections) -> _Lines:
    size = None
    if source.stop is not None:
        stream.seek(source.start)
        size = source.stop - source.start

    def place(first: int) -> Callable[[int], str]:
        return lambda index: source.line(first + index)

    try:
        for number, block in line_blocks(stream, size, rejections, source.line):
            if number == 0 and source.start == 0:
                block = block.removeprefix(_BOM)
            yield number, decode_lines(block, rejections, place(number))
    except DAMAGED as error:  # What came before the damage has been read.
        rejections.add(damage(error))


def _wikitext(lines: _Lines, counts: Counter[str]) -> Iterator[str]:
    """WikiText: ` = Title = ` begins an article. Headings are no sentences and are left out."""
    for _, block in lines:
        for line in block:
            if line.startswith(" = ") and _WIKITEXT_HEADING.match(line):
                counts["headings_left_out"] += 1
                if _WIKITEXT_TITLE.match(line):
                    yield ""
            elif line and not line.isspace():
                yield line


def _wikiextractor(lines: _Lines, counts: Counter[str]) -> Iterator[str]:
    """WikiExtractor: <doc …> to </doc> is an article; the title that it repeats is left out."""
    title = None
    for _, block in lines:
        for line in block:
            if line.startswith("<doc "):
                found = _EXTRACTOR_TITLE.search(line.rstrip())
                title = unescape(found.group(1)) if found else None
                yield ""
            elif line.rstrip() == "</doc>":
                yield ""
            elif line and not line.isspace():
                if title is not None and unescape(line.strip()) == title:
                    counts["headings_left_out"] += 1
                else:
                    yield line
                title = None


def _json_records(
    lines: _Lines, text_field: str, source: Source, rejections: Rejections, counts: Counter[str]
) -> Iterator[Documents]:
    """A JSON object a line."""

    def without_field(number: int, record: dict[str, Any]) -> str:
        return f"{source.line(number)} {missing_field(text_field, record)}"

    for first, block in lines:
        batch = []
        for number, line in enumerate(block, first):
            if not line or line.isspace():
                continue
            where = partial(source.line, number)
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                rejections.add("malformed_json", where, line)
                continue
            if not isinstance(record, dict):
                rejections.add("not_an_object", where, line)
            elif text_field not in record:
                rejections.add("text_field_missing", partial(without_field, number, record), line)
            elif found := text_lines(record[text_field], rejections, where, counts):
                batch.append(found)
        yield batch
