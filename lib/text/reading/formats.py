"""The formats of raw files: how each is recognised, cut into chunks, and read as documents.

To add a format: write its reader, a function from a `Reader` to documents, and give it an entry in
`FORMATS`. The name of the entry then is a value of preprocess.format.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from html import unescape

from lib.text.documents import MAX_DOCUMENT, Documents, gather, join_all
from lib.text.reading.encodings import is_wide, likely_encoding
from lib.text.reading.json_records import is_json, is_json_lines, read_json, read_json_lines
from lib.text.reading.line_ends import join_lines
from lib.text.reading.lines import MAX_LINE_BYTES, IsCut, first_cut
from lib.text.reading.markup import (
    is_html,
    is_markdown,
    is_mediawiki_dump,
    is_xml,
    read_html,
    read_markdown,
    read_xml,
)
from lib.text.reading.reader import Chunk, RawFile, Reader, ReadOptions
from lib.text.reading.rejections import Rejections
from lib.text.reading.tables import read_parquet, read_separated

_WIKITEXT_FIRST = re.compile(rb"\s* = [^=\r\n]*[^=\s] = \r?\n")
_WIKITEXT_TITLE = re.compile(r" = [^=]*[^=\s] = $")
_WIKITEXT_HEADING = re.compile(r" (?:= )+[^=]*[^=\s](?: =)+ $")
_WIKITEXT_CUT = re.compile(rb" = [^=\r\n]*[^=\s] = \r?\n?$")
_LINE_ENDS = re.compile("[\\0\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_EXTRACTOR_TITLE = re.compile(r"\btitle=\"(.*?)\"[^\"]*>$")


@dataclass(frozen=True)
class Format:
    """A format of raw files.

    Attributes:
        read: yields the documents of a chunk in batches; no document and no line is blank.
        suffixes: files whose names end in one of these are of this format, or of another one with
            the same suffix that recognises them.
        recognise: whether a file is of this format, by its first 64 KiB and preprocess.document.
        cut: whether a document may begin at a line, by its bytes and preprocess.document. None:
            files of this format are read whole, by one worker.
        cut_anywhere: where no document begins within 4 MiB, a file may be cut at any line.
        misfit: the reason for rejecting a file of this format, by its first 64 KiB, or None.
        is_binary: True for a format that is not UTF-8 text.
    """

    read: Callable[[Reader], Iterator[Documents]]
    suffixes: tuple[str, ...] = ()
    recognise: Callable[[bytes, str], bool] = lambda head, document: False
    cut: Callable[[bytes, str], bool] | None = None
    cut_anywhere: bool = False
    misfit: Callable[[bytes], str | None] = lambda head: None
    is_binary: bool = False


def format_of(name: str, head: bytes, document: str) -> str:
    """The format of a file, by its suffix if that is known, otherwise by its first bytes.

    Args:
        name: in lower case, without the suffix of a compression.
        document: preprocess.document.
    """
    by_suffix = [key for key, each in FORMATS.items() if name.endswith(each.suffixes)]
    by_content = (key for key in by_suffix or FORMATS if FORMATS[key].recognise(head, document))
    return next(by_content, by_suffix[0] if by_suffix else "text")


def misfit(format_name: str, head: bytes) -> str | None:
    """The reason why a file cannot be of a format, by its first bytes; None if it can."""
    kind = FORMATS[format_name]
    if not kind.is_binary:
        if known := is_known_binary(head):
            return known
        if _is_binary(head[:4096]):
            return "utf16_file" if is_wide(likely_encoding(head) or "") else "binary_file"
    return kind.misfit(head)


# First bytes -> the reason for rejecting such files.
_KNOWN_BINARY = {
    b"%PDF-": "pdf_file",
    b"{\\rtf": "office_file",
    b"PK\x03\x04": "office_file",
    b"\xd0\xcf\x11\xe0": "office_file",
    b"PAR1": "binary_file",
    b"WARC/1.": "web_archive",
    b"version https://git-lfs.github.com/spec/": "lfs_pointer",
    b"ARROW1": "arrow_file",
    b"\xff\xff\xff\xff": "arrow_file",
}


def is_known_binary(head: bytes) -> str | None:
    """The reason for rejecting a file that begins as those of some binary formats do."""
    return next((reason for start, reason in _KNOWN_BINARY.items() if head.startswith(start)), None)


def _is_binary(head: bytes) -> bool:
    """Whether there are NUL bytes in more than stray numbers: a single one costs its line only."""
    nul = head.count(b"\0")
    if nul == 0:
        return False
    lines = head.split(b"\n")
    return nul > max(3, len(head) // 256) or 2 * sum(b"\0" in line for line in lines) > len(lines)


def cut_rule(file: RawFile, document: str) -> IsCut | None:
    """At which lines a file may be cut without cutting a document; None: nowhere."""
    cut = FORMATS[file.format].cut
    if cut is None or file.compression != "none" or document == "file":
        return None
    if is_wide(file.encoding):
        return None
    return lambda line: cut(line, document)


def borders(file: RawFile, document: str, size: int) -> list[tuple[int, bool]]:
    """Where the chunks of a file begin: at the first cuts from each multiple of `size` bytes on.

    Returns:
        Byte offsets, ascending from 0; and for each whether it is within a document without an end
        (see `Format.cut_anywhere`).
    """
    is_cut = cut_rule(file, document)
    assert is_cut is not None
    within = MAX_DOCUMENT if FORMATS[file.format].cut_anywhere else None
    found = [(0, False)]
    with file.path.open("rb") as stream:
        for offset in range(size, file.size, size):
            if offset <= found[-1][0]:
                continue
            border = first_cut(stream, offset, is_cut, within)
            if border >= file.size:
                break
            stream.seek(border)
            found.append((border, not is_cut(stream.readline(MAX_LINE_BYTES))))
    return found


def read_documents(
    chunk: Chunk, options: ReadOptions, rejections: Rejections, counts: Counter[str]
) -> Iterator[Documents]:
    """Documents of one chunk, a batch at a time; no document and no line in it is blank.

    With `document: blank_line` or `line`, that is what a document is in files of format text; with
    `file`, a file of any format is one. Otherwise a document is a JSON object, a table row, a page
    or a Wikipedia article. (`N sentences` is up to the caller: sentences are not known yet.)

    Args:
        counts: see `Reader`.

    Raises:
        UserError: bad input that is not to be skipped (see `Rejections`).
    """
    reader = Reader(chunk, options, rejections, counts)
    batches = FORMATS[chunk.file.format].read(reader)
    return join_all(batches, counts) if options.document == "file" else batches


# --- Text


def _read_text(reader: Reader) -> Iterator[Documents]:
    """Plain text: a document per line, or documents with blank lines between them."""
    if reader.options.line_ends == "join" and reader.options.document != "line":
        lines = join_lines(reader.lines(), reader.counts)
        if reader.options.document == "blank_line":
            yield from gather(lines, reader.counts)
        else:
            yield from _one_by_one(lines, reader.counts)
        return
    if reader.options.document == "blank_line":
        yield from gather(reader.lines(), reader.counts)
        return
    for block in reader.text_blocks():
        batch = [[line] for line in block if line and not line.isspace()]
        if len(batch) < len(block):
            reader.counts["characters_dropped_blank_lines"] += sum(
                len(line) for line in block if line.isspace()
            )
        yield batch


def _one_by_one(lines: Iterable[str], counts: Counter[str]) -> Iterator[Documents]:
    """A document per line that is not blank."""

    def separated() -> Iterator[str]:
        for line in lines:
            yield line
            yield ""

    return gather(separated(), counts)


def _ends_text(line: bytes, document: str) -> bool:
    return document != "blank_line" or not line.strip()


# --- WikiText (Merity et al., 2016), such as wiki.train.tokens


def _read_wikitext(reader: Reader) -> Iterator[Documents]:
    """An article per document. Headings are not sentences and are left out.

    ` = Title = ` begins an article, ` = = Section = = ` does not.
    """

    def lines() -> Iterator[str]:
        for line in reader.lines():
            if line.startswith(" = ") and _WIKITEXT_HEADING.match(line):
                reader.counts["headings_left_out"] += 1
                reader.drop("headings", line)
                if _WIKITEXT_TITLE.match(line):
                    yield ""
            elif line and not line.isspace():
                yield line
            else:
                reader.drop("blank_lines", line)

    return gather(lines(), reader.counts)


def _is_wikitext(head: bytes, document: str) -> bool:
    # Where each line is a document, a line like ` = winning = ` is more likely a tweet.
    return document != "line" and _WIKITEXT_FIRST.match(head) is not None


def _is_wikitext_title(line: bytes, document: str) -> bool:
    return _WIKITEXT_CUT.match(line) is not None


# --- WikiExtractor's output


def _read_wikiextractor(reader: Reader) -> Iterator[Documents]:
    """An article per document: <doc …> to </doc>, without the title that the first line repeats."""

    def lines() -> Iterator[str]:
        title = None
        for line in reader.lines():
            if line.startswith("<doc "):
                reader.drop("markup", line)
                found = _EXTRACTOR_TITLE.search(line.rstrip())
                title = unescape(found.group(1)) if found else None
                yield ""
            elif line.rstrip() == "</doc>":
                reader.drop("markup", line)
                yield ""
            elif line and not line.isspace():
                text = _unescaped(line) if "&" in line else line
                if title is not None and text.strip() == title:
                    reader.counts["headings_left_out"] += 1
                    reader.drop("headings", line)
                else:
                    reader.counts["characters_dropped_markup"] += len(line) - len(text)
                    yield text
                title = None
            else:
                reader.drop("blank_lines", line)

    return gather(lines(), reader.counts)


def _unescaped(line: str) -> str:
    """A line of WikiExtractor, which escapes <, > and &."""
    text = unescape(line)
    return _LINE_ENDS.sub(" ", text) if _LINE_ENDS.search(text) else text


def _is_wikiextractor(head: bytes, document: str) -> bool:
    start = _text_start(head)
    return start.startswith(b"<doc ") and b">" in start.partition(b"\n")[0]


def _starts_article(line: bytes, document: str) -> bool:
    return line.startswith(b"<doc ")


def _is_xml(head: bytes, document: str) -> bool:
    start = _text_start(head)
    return is_mediawiki_dump(start) or is_xml(start, document)


def _text_start(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()


# A file without a known suffix is of the first format that recognises it.
FORMATS = {
    "parquet": Format(
        read_parquet,
        suffixes=(".parquet",),
        recognise=lambda head, document: head.startswith(b"PAR1"),
        is_binary=True,
    ),
    "wikiextractor": Format(_read_wikiextractor, recognise=_is_wikiextractor, cut=_starts_article),
    "wikitext": Format(_read_wikitext, recognise=_is_wikitext, cut=_is_wikitext_title),
    "html": Format(
        read_html,
        suffixes=(".html", ".htm", ".xhtml"),
        recognise=lambda head, document: is_html(_text_start(head), document),
    ),
    "xml": Format(
        read_xml,
        suffixes=(".xml", ".sgml", ".sgm"),
        recognise=_is_xml,
        misfit=lambda head: "mediawiki_dump" if is_mediawiki_dump(_text_start(head)) else None,
    ),
    "jsonl": Format(
        read_json_lines,
        suffixes=(".jsonl", ".json", ".ndjson"),
        recognise=lambda head, document: is_json_lines(_text_start(head)),
        cut=lambda line, document: True,
    ),
    "json": Format(
        read_json,
        suffixes=(".json", ".jsonl", ".ndjson"),
        recognise=lambda head, document: is_json(_text_start(head)),
    ),
    "csv": Format(partial(read_separated, ","), suffixes=(".csv",)),
    "tsv": Format(partial(read_separated, "\t"), suffixes=(".tsv",)),
    "markdown": Format(
        read_markdown,
        suffixes=(".md", ".markdown", ".mdown", ".mkd"),
        recognise=lambda head, document: document != "line" and is_markdown(_text_start(head)),
    ),
    "text": Format(
        _read_text, recognise=lambda head, document: True, cut=_ends_text, cut_anywhere=True
    ),
}
# Formats whose files may state their encoding.
MARKUP = frozenset({"html", "xml"})
