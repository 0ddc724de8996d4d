"""Documents in markup: HTML and XML (or SGML) by lxml, Markdown by markdown-it.

Tags end lines or are left out; their text stays, with entities as characters. White space is what a
browser makes of it: a line end within a paragraph is a space. Two examples, | for line ends:

    <p>One.<br>Two &amp; <b>th</b>ree.</p><ul><li>Four</ul>      One.|Two & three.|Four
    # Title\\n\\nSee [this page](x.html),\\nplease.                Title|See this page, please.

HTML is parsed by libxml2 as a stream of tags: memory does not depend on the size of a file. So is
XML, with the same tolerant parser: text collections in SGML have bare ampersands, tags without
ends and several roots, at which an XML parser stops or loses text. For that, the names of elements
get a prefix, so that none is one of HTML.
"""

import html
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lib.text.documents import MAX_DOCUMENT, Documents, gather
from lib.text.names import some_of
from lib.text.reading.compression import open_raw
from lib.text.reading.encodings import HALF_PAIR, UTF8, advice
from lib.text.reading.fields import MISSING_VALUES, SHOWN, TextFields, short
from lib.text.reading.lines import BLOCK_BYTES
from lib.text.reading.pages import (
    BLOCKS,
    HTML_NAMES,
    MAY_STAY_OPEN,
    SPACE,
    VOID,
    Page,
    close,
    html_parser,
    html_to_lines,
)
from lib.text.reading.reader import Reader

LF = "\n"
_BLANK_LINES = re.compile(r"[ \t]*\n[ \t]*\n\s*")
_TAG = re.compile(rb"<(/?)([A-Za-z][\w.:-]*)((?:\s[^<>]*)?)>")


# --- HTML


def read_html(reader: Reader) -> Iterator[Documents]:
    """A file per document."""
    page = Page(reader.counts)

    def lines() -> Iterator[str]:
        for _ in _parsed(reader, page, str):
            yield from page.take()
        page.end_line()
        yield from page.take()

    return _counted(reader, gather(lines(), reader.counts))


def _parsed(reader: Reader, target: Any, prepare: Callable[[str], str]) -> Iterator[None]:
    """Gives the text of a file to a parser, a block at a time; yields after each."""
    parser = html_parser(target)
    for block in _blocks(reader):
        parser.feed(prepare(block))
        yield
    if rest := prepare(""):
        parser.feed(rest)
    close(parser)
    yield


def _blocks(reader: Reader) -> Iterator[str]:
    """The text of a file in blocks, without what cannot be decoded and NUL bytes (rejected).

    Lines of markup may be of any length: exports often have a single one.
    """
    lines = 0
    utf8 = reader.chunk.file.encoding == UTF8
    bad = {HALF_PAIR: "invalid_utf8" if utf8 else "invalid_encoding", "\0": "nul_byte"}
    for block in reader.characters():
        for mark, reason in bad.items():
            if mark in block:
                first = block.index(mark)
                line = f"line {lines + block.count(LF, 0, first) + 1}"
                where = line if mark != HALF_PAIR else partial(_with_advice, reader, line)
                excerpt = block[max(0, first - 40) : first + 40].replace(HALF_PAIR, "\ufffd")
                reader.rejections.add(reason, where, excerpt, block.count(mark))
                block = block.replace(mark, "")
        if block:
            lines += block.count(LF)
            reader.counts["characters_read"] += len(block) - block.count(LF)
            yield block


def _with_advice(reader: Reader, line: str) -> str:
    """The position of bytes that cannot be decoded, and what is known about the encoding."""
    file = reader.chunk.file
    if file.encoding != UTF8:
        return line
    with open_raw(file.path, file.compression) as stream:
        return f"{line} ({advice(stream.read1(BLOCK_BYTES))})"


_OTHERWISE_DROPPED = tuple(
    f"characters_dropped_{reason}" for reason in ("rejected", "blank_lines", "headings")
)


def _counted(reader: Reader, batches: Iterator[Documents]) -> Iterator[Documents]:
    """The documents; what else the files have counts as markup."""
    counts = reader.counts

    def left() -> int:
        return counts["characters_read"] - sum(counts[key] for key in _OTHERWISE_DROPPED)

    before, kept = left(), 0
    for batch in batches:
        kept += sum(len(line) for document in batch for line in document)
        yield batch
    dropped = left() - before - kept
    # Line ends that became spaces are text; without much markup there may be more of them.
    counts["characters_read"] += max(-dropped, 0)
    counts["characters_dropped_markup"] += max(dropped, 0)


# --- XML and SGML


def read_xml(reader: Reader) -> Iterator[Documents]:
    """A document per element that preprocess.text_field names.

    `item.text` is an element `text` within `item`. Of several names, the elements of one parent are
    joined. Upper and lower case are the same.
    """
    elements = _Elements(reader.fields)

    def documents() -> Iterator[Documents]:
        for _ in _parsed(reader, elements, _Prefixed()):
            yield elements.take(reader)
        elements.finish()
        yield elements.take(reader)
        if not elements.found and elements.seen:
            names = sorted(elements.seen, key=lambda name: -elements.seen[name])
            shown = some_of(list(map(short, names)), SHOWN)
            where = f"(looked for an element `{reader.fields}` among those with text: {shown})"
            reader.reject_file("text_field_missing", where)

    return _counted(reader, documents())


class _Prefixed:
    """Text as the parser gets it: names of elements with a prefix, CDATA sections as text."""

    def __init__(self) -> None:
        self._rest = ""
        self._in_cdata = False

    def __call__(self, text: str) -> str:
        """The text of a block (empty: at the end), up to the last tag that is whole."""
        final = not text
        text = self._rest + text
        parts = []
        while True:
            mark = "]]>" if self._in_cdata else "<![CDATA["
            inner, found, rest = text.partition(mark)
            if not found:
                break
            parts.append(html.escape(inner) if self._in_cdata else self._tags(inner))
            self._in_cdata = not self._in_cdata
            text = rest
        # A tag or the end of a section may go on in the next block.
        start = text.rfind("]" if self._in_cdata else "<")
        whole = len(text)
        if not final and start >= 0 and ">" not in text[start:] and whole - start < 1 << 16:
            whole = start - 2 if self._in_cdata else start
        whole = max(whole, 0)
        self._rest = text[whole:]
        parts.append(html.escape(text[:whole]) if self._in_cdata else self._tags(text[:whole]))
        return "".join(parts)

    @staticmethod
    def _tags(text: str) -> str:
        return _NAME.sub(r"<\1x-", text)


_NAME = re.compile(r"<(/?)(?=[A-Za-z_])")


class _Node:
    """An element within a document: its name, its text and elements in order."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.content: list[str | _Node] = []

    def text(self) -> str:
        """The text, with LF around elements that are lines of their own.

        These are the block elements of HTML, and those whose parent has no text of its own: in
        `<p>an <i>old</i> house</p>`, i is part of a line, in `<body><s>One.</s><s>Two.</s></body>`
        s is not.
        """
        parts: list[str] = []
        # (content to go on with, whether its elements are lines)
        stack: list[tuple[Iterator[str | _Node], bool]] = [self._open(parts)]
        while stack:
            content, lines = stack[-1]
            for part in content:
                if isinstance(part, str):
                    parts.append(part)
                    continue
                if lines or part.name in BLOCKS or part.name in ("lb", "l"):
                    parts.append("\n\n")
                stack.append(part._open(parts))
                break
            else:
                stack.pop()
                if stack and stack[-1][1]:
                    parts.append("\n\n")
        return "".join(parts)

    def _open(self, parts: list[str]) -> tuple[Iterator["str | _Node"], bool]:
        mixed = any(isinstance(part, str) and not part.isspace() for part in self.content)
        return iter(self.content), not mixed


class _Elements:
    """Target of lxml's parser that collects the text of the elements with given names."""

    def __init__(self, fields: TextFields) -> None:
        self._paths = [name.lower().split(".") for name in fields.names]
        self._several = len(self._paths) > 1
        self._open: list[str] = []
        self._nodes: list[_Node] = []
        self._size = 0
        # Of several names: the texts of one parent, by the depth of the parent.
        self._joined: dict[int, list[str]] = {}
        self._documents: list[str] = []
        self.found = False
        # Elements with text -> characters.
        self.seen: dict[str, int] = {}

    def start(self, name: str, attributes: Any) -> None:
        # The parser adds `html` and `body`, which have no prefix.
        name = name[2:] if name.startswith("x-") else ""
        self._open.append(name)
        if self._nodes:
            node = _Node(name)
            self._nodes[-1].content.append(node)
            self._nodes.append(node)
        elif any(self._open[-len(path) :] == path for path in self._paths):
            self.found = True
            self._nodes = [_Node(name)]
            self._size = 0

    def data(self, text: str) -> None:
        if self._nodes:
            self._nodes[-1].content.append(text)
            self._size += len(text)
            if self._size > MAX_DOCUMENT:
                self._emit(self._nodes[0].text())
                self._nodes = [_Node(node.name) for node in self._nodes]
                self._size = 0
        elif not self.found and self._open and self._open[-1] and not text.isspace():
            name = self._open[-1]
            if name in self.seen or len(self.seen) < 1000:
                self.seen[name] = self.seen.get(name, 0) + len(text)

    def end(self, name: str) -> None:
        if self._nodes:
            node = self._nodes.pop()
            if not self._nodes:
                self._emit(node.text())
        if self._open:
            self._open.pop()
        self._end_joined(len(self._open) + 1)

    def close(self) -> None:
        pass

    def finish(self) -> None:
        if self._nodes:
            self._emit(self._nodes[0].text())
        self._end_joined(0)

    def _emit(self, text: str) -> None:
        if self._several:
            self._joined.setdefault(len(self._open) - 1, []).append(text)
        else:
            self._documents.append(text)

    def _end_joined(self, depth: int) -> None:
        for parent in [each for each in self._joined if each >= depth]:
            self._documents.append("\n\n".join(self._joined.pop(parent)))

    def take(self, reader: Reader) -> Documents:
        """The documents that are complete."""
        texts, self._documents = self._documents, []
        documents = []
        for text in texts:
            lines = (SPACE.sub(" ", part).strip() for part in _BLANK_LINES.split(text))
            found = [line for line in lines if line]
            if found and not (len(found) == 1 and found[0] in MISSING_VALUES):
                documents.append(found)
            else:
                reader.counts["records_without_text"] += 1
        return documents


# --- Markdown

_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_PIECE_CHARACTERS = 1 << 17
_FRONT_MATTER = re.compile(r"---[ \t]*\n.*?\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)


def read_markdown(reader: Reader) -> Iterator[Documents]:
    """A file per document: the text of its paragraphs, headings, lists, tables and code."""
    from markdown_it import MarkdownIt  # Slow to import: only where there is such a file.

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    def lines() -> Iterator[str]:
        for number, piece in enumerate(_pieces(reader.lines())):
            text = _FRONT_MATTER.sub("", piece, count=1) if number == 0 else piece
            for token in parser.parse(text):
                if token.type == "inline":
                    inline = "".join(_inline(each) for each in token.children or [])
                    yield from filter(str.strip, inline.split("\n"))
                elif token.type in ("fence", "code_block"):
                    yield from filter(str.strip, token.content.split("\n"))
                elif token.type == "html_block":
                    yield from html_to_lines(token.content, reader.counts)

    return _counted(reader, gather(lines(), reader.counts))


def _inline(token: Any) -> str:
    """The text of a part of a paragraph."""
    match token.type:
        case "text" | "code_inline" | "text_special":
            return str(token.content)
        case "softbreak":
            return " "
        case "hardbreak":
            return "\n"
        case "image":
            return "".join(_inline(each) for each in token.children or [])
        case "html_inline" if re.match(r"</?(\w+)", token.content):
            name = re.match(r"</?(\w+)", token.content)
            return "\n" if name and name[1].lower() in BLOCKS else ""
    return ""


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """The text of a file in pieces that end at a blank line outside fenced code."""
    piece: list[str] = []
    size = 0
    fence = ""
    for line in lines:
        piece.append(line)
        size += len(line)
        if found := _FENCE.match(line):
            if not fence:
                fence = found[1]
            elif found[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        at_end = not fence and not line.strip()
        if (size > _PIECE_CHARACTERS and at_end) or size > MAX_DOCUMENT:
            yield "\n".join(piece) + "\n"
            piece, size = [], 0
    yield "\n".join(piece) + "\n"


# --- Recognition, by the first 64 KiB of a file, without white space at its beginning

_BEFORE_ROOT = re.compile(rb"(?s:<!--.*?-->|<\?xml\s[^>]*>|\s+)*")
_DOCTYPE = re.compile(rb"<!DOCTYPE\s+([\w.:-]+)[^<>\[]*(?:\[.*?\]\s*)?>\s*(?=<)", re.I | re.S)
_PAGE = re.compile(rb"<(?:html|head|body)(?:\s[^<>]*)?>\s*<[a-z!/]", re.IGNORECASE)
_ELEMENT = re.compile(rb"<([A-Za-z][\w.:-]*)(?:\s[^<>]*)?/?>")


def is_html(head: bytes, document: str) -> bool:
    """Whether a file is a page or, unless its lines are documents, a fragment of HTML."""
    root = head[_end(_BEFORE_ROOT, head) :]
    if doctype := _DOCTYPE.match(root):
        return doctype[1].lower() == b"html"
    if _PAGE.match(root):
        return True
    return document != "line" and _first_name(root) in HTML_NAMES and _is_marked_up(root)


def is_xml(head: bytes, document: str) -> bool:
    """Whether a file is XML or SGML, other than HTML."""
    end = _end(_BEFORE_ROOT, head)
    root = head[end:]
    if _DOCTYPE.match(root) or head[:end].lstrip().startswith(b"<?xml"):
        return root.startswith(b"<")
    return document != "line" and _first_name(root) != "" and _is_marked_up(root)


def is_mediawiki_dump(head: bytes) -> bool:
    return head[_end(_BEFORE_ROOT, head) :].startswith(b"<mediawiki")


def is_markdown(head: bytes) -> bool:
    """Whether a text begins with a heading of Markdown and goes on with other marks of it."""
    if not head.startswith(b"# "):
        return False
    # The comments of programs begin with # as well, and have no blank lines around them.
    if not re.match(rb"# [^\n#]+\n\r?\n", head.replace(b"\r\n", b"\n")):
        return False
    marks = (rb"\]\(https?://", rb"(?m)^(?:```|~~~)", rb"\n\r?\n##+ \w")
    return sum(re.search(mark, head) is not None for mark in marks) >= 2


def _end(pattern: re.Pattern[bytes], head: bytes) -> int:
    found = pattern.match(head)
    return found.end() if found else 0


def _first_name(root: bytes) -> str:
    found = _ELEMENT.match(root)
    return found[1].decode("ascii", "replace").lower() if found else ""


def _is_marked_up(root: bytes) -> bool:
    """Whether nearly all text is within elements, most of which are closed.

    So prose that begins with `<p> is the tag of a paragraph` is not markup.
    """
    open_names: list[str] = []
    opened = closed = inside = outside = position = 0
    for tag in _TAG.finditer(root):
        text = len(root[position : tag.start()].strip())
        position = tag.end()
        if open_names:
            inside += text
        else:
            outside += text
        name = tag[2].decode("ascii", "replace").lower()
        if tag[1]:
            if name in open_names[-50:]:
                closed += name not in MAY_STAY_OPEN
                while open_names.pop() != name:
                    pass
        elif name not in VOID and not tag[3].endswith(b"/"):
            opened += name not in MAY_STAY_OPEN
            open_names.append(name)
    # What follows the last tag may be cut off.
    rest = len(root[position:].strip())
    outside += 0 if open_names else rest
    inside += rest if open_names else 0
    still_open = len([name for name in open_names if name not in MAY_STAY_OPEN])
    return (
        outside <= 0.1 * (inside + outside)
        and closed + (closed > 0) * min(still_open, 20) >= 0.8 * opened
        and (closed > 0 or root.count(b"</") > 0)
    )
