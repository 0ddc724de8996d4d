r"""Hard-wrapped text: recognised by the lengths of its lines, and its paragraphs put together.

A line that was wrapped is full: the next word would not have fitted. An example, of width 24:

    He carried nothing but a      He carried nothing but a wet coat and the following letter.
    wet coat and the follow-
    ing letter.
    Bergen, 1 May                 Bergen, 1 May

Everything is decided within one unit, a cell of a table or some hundred lines of a file, in which
the wrapped lines have about the same length. Lists, verse, code, and text with one sentence or one
paragraph per line have lines of any length, and are left as they are.

A hyphen at the end of a line is removed with it if the next line goes on in lower case. It stays

- if the unit has the word with the hyphen, and not without it ("well-\nknown");
- if the word without it does not occur, and both of its parts are words of the unit;
- if hardly any lines of the unit end in a hyphen, so that words were not divided, and the word
  without it does not occur ("tax-\nrelated");
- after a part with a hyphen of its own (mother-in-\nlaw) or of digits, and after self, well, half,
  quasi and ex;
- before a capital letter or a digit, and, with a space, before "and" and the like (pre- and
  postwar).

A soft hyphen is always removed.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

# Lines of a file that are a unit; it ends at the next blank line, or at the maximum.
_UNIT_LINES = 500
_MAX_UNIT_LINES = 1000
# Characters of a paragraph: longer ones are not put together any further.
_MAX_PARAGRAPH = 1 << 16
# A unit with fewer line ends within paragraphs is judged by each of them alone.
_FEW = 5
# With so many, the number of those at hyphens says whether words are divided.
_FEW_FOR_HYPHENS = 60
_MIN_WIDTH, _MAX_WIDTH = 30, 200
# Lengths of most wrapped lines are at most so much below the width.
_WINDOW = 12
# The lengths of more than half of all lines differ by less, whether from PDF files or not.
_SPREAD = 60

# Scripts that are written without spaces between words.
_NO_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef"
)
_WITHOUT_SPACE = re.compile(f"[{_NO_SPACES}]")
_FIRST_WORD = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")
# Signs of quoted mail, and indentation.
_BEFORE_TEXT = re.compile(r"(\s*(?:>\s?)*)\s*")
# Lines that begin something: items of lists, headings of Markdown, rows of tables, code, rulers.
_BEGINS = re.compile(
    r"(?:[-*+•‣◦▪·–—]|\(?(?:\d{1,3}[.)]|[A-Za-z]\)|[ivx]{1,4}[.)])|#{1,6}|=+|\$|//|[{}<@])(?:\s|$)"
    r"|[-=*_~]{3,}|[|]"
)
_ITEM = re.compile(r"\s*(?:[-*+•‣◦▪·–—]|\(?(?:\d{1,3}[.)]|[A-Za-z]\)))\s+")
_FINAL = frozenset(".!?…:。！？।؟۔։።")
_HYPHENS = "-\u2010\u00ad\u00ac"
_SOFT_HYPHENS = "\u00ad\u00ac"  # and the sign that OCR makes of a hyphen
# First parts with which English words keep their hyphen; words before which a part stands alone.
_KEEPS_HYPHEN = frozenset(["self", "well", "half", "quasi", "ex"])
_JOINS_PARTS = frozenset(
    ["and", "or", "to", "und", "oder", "bzw", "et", "ou", "y", "e", "o", "en", "of", "ve", "veya"]
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_PARTS_AT_END = re.compile(r"[^\W_]+(?:[-\u2010][^\W_]+)*.$")


@dataclass
class JoinedLines:
    """Lines after wrapped ones were put together.

    Attributes:
        joined: line ends that are gone.
        added: spaces in their place.
        removed: characters that are gone with them: hyphens, indentation, signs of quoted mail.
    """

    lines: list[str] = field(default_factory=list)
    joined: int = 0
    added: int = 0
    removed: int = 0


@dataclass(frozen=True)
class _Wrapping:
    """How the lines of a unit are wrapped.

    Attributes:
        width: their maximum length, except for a few.
        full: a line is full if the next word would have made it longer than this.
    """

    width: float
    full: float


def _first_word(line: str) -> int:
    """Length of what would have had to fit on the previous line."""
    found = _FIRST_WORD.match(line)
    return len(found[0]) if found else 0


def _goes_on(line: str, following: str) -> bool:
    """Whether a sentence certainly continues on the following line."""
    first = following[0]
    return line[-1] not in _FINAL and first.isalpha() and not (first.isupper() or first.istitle())


def _pairs(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Consecutive lines of a paragraph, the second of which does not begin an item or the like.

    The first is without white space at its end, the second without what is before its text.
    """
    pairs = []
    previous = ""
    for line in lines:
        line = line.rstrip()
        text = line[_text_column(line) :] if line[:1] in " \t>" else line
        if previous and text and not _BEGINS.match(text):
            pairs.append((previous, text))
        previous = line if text else ""
    return pairs


def _text_column(line: str) -> int:
    """Where a line begins after indentation and signs of quoted mail."""
    found = _BEFORE_TEXT.match(line)
    return found.end() if found else 0


def _wrapping(pairs: list[tuple[str, str]]) -> _Wrapping | None:
    """How lines are wrapped, judged by at least _FEW pairs; None if they are not."""
    ordered = sorted(len(line) for line, _ in pairs)
    most = len(ordered) * 6 // 10
    if most and min(map(int.__sub__, ordered[most:], ordered)) > _SPREAD:
        return None  # As nearly always in text that is not wrapped; what follows takes longer.
    lengths = np.array([len(line) for line, _ in pairs])
    words = np.array([_first_word(following) for _, following in pairs])
    goes_on = np.array([_goes_on(line, following) for line, following in pairs])
    # The width below which most lines end closely.
    counts = np.bincount(np.minimum(lengths, _MAX_WIDTH + 1), minlength=_MAX_WIDTH + 2)
    within = np.convolve(counts, np.ones(_WINDOW, np.int64))[: _MAX_WIDTH + 1]
    width = int(len(within) - 1 - within[::-1].argmax())
    # No line is that long: the width is that of the longest in the window.
    width = int(lengths[lengths <= width].max(initial=0))
    is_full = (lengths <= width) & (lengths + 1 + words > width)
    # Chinese characters are twice as wide.
    wide = sum(_WITHOUT_SPACE.match(line[-1]) is not None for line, _ in pairs)
    min_width = _MIN_WIDTH / 2 if 2 * wide > len(pairs) else _MIN_WIDTH
    if width >= min_width and is_full.mean() >= 0.6 and goes_on[is_full].mean() >= 0.2:
        return _Wrapping(width, width)
    # Text from PDF files: the width on paper is the same, the number of characters is not.
    low, middle, high = np.percentile(lengths, [10, 50, 90])
    if middle >= 40 and high <= _MAX_WIDTH and low >= 0.6 * high and goes_on.mean() >= 0.5:
        return _Wrapping(high, 0.85 * high)
    return None


def count_wrapped(documents: Sequence[Sequence[str]], counts: Counter[str]) -> int:
    """Judges some documents, none with blank lines: whether they are hard-wrapped.

    Args:
        counts: `line_ends_examined` gets the number of line ends within documents,
            `line_ends_wrapped` the same if they are wrapped, and `characters_...` the characters.

    Returns:
        The number of characters if they are wrapped, otherwise 0.
    """
    characters = sum(map(len, (line for document in documents for line in document)))
    counts["characters_examined"] += characters
    pairs = [pair for document in documents if len(document) > 1 for pair in _pairs(document)]
    counts["line_ends_examined"] += len(pairs)
    if len(pairs) < _FEW or not _wrapping(pairs):
        return 0
    counts["line_ends_wrapped"] += len(pairs)
    counts["characters_wrapped"] += characters
    return characters


def join_wrapped(lines: Sequence[str]) -> JoinedLines:
    """Lines with those put together that were wrapped; blank lines separate paragraphs.

    Args:
        lines: a unit, such as the text of a cell.
    """
    result = JoinedLines()
    pairs = _pairs(lines)
    wrapping = _wrapping(pairs) if len(pairs) >= _FEW else None
    if not pairs or (wrapping is None and len(pairs) >= _FEW):
        result.lines = list(lines)
        return result
    words: _Words | None = None  # needed for hyphens only
    parts: list[str] = []  # of the current paragraph
    size = 0
    # The line before, without white space at its end; the signs of quotation before it; the column
    # of its text, and of the text of its item.
    previous, quotes, indent, item, in_prose = "", 0, 0, 0, True

    def end() -> None:
        nonlocal size
        if parts:
            result.lines.append("".join(parts))
            parts.clear()
            size = 0

    for line in lines:
        text = line.rstrip()
        column = _text_column(text)
        body, depth = text[column:], text.count(">", 0, column)
        if not (
            parts
            and body
            and previous
            and size < _MAX_PARAGRAPH
            and depth == quotes
            and (column <= indent or column == item or _goes_on(previous, body))
            and _is_wrapped(previous, body, wrapping)
            and (
                not _BEGINS.match(body) or (in_prose and _is_in_sentence(previous, body, wrapping))
            )
        ):
            end()
            parts.append(line)
            begins = _ITEM.match(text)
            item = begins.end() if begins else -1
            in_prose = begins is None
        else:
            if words is None and previous[-1] in _HYPHENS:
                words = _words_of(lines, pairs)
            kept, space = _at_line_end(previous, body, words)
            last = parts[-1]
            cut = len(last.rstrip()) - (len(previous) - kept)
            result.removed += len(last) - cut + len(line) - len(line[column:])
            result.added += len(space)
            result.joined += 1
            parts[-1] = last[:cut] + space
            parts.append(line[column:])
        size += len(line)
        previous, quotes, indent = text if body else "", depth, column
        if not body:
            end()
    end()
    return result


def _is_wrapped(line: str, following: str, wrapping: _Wrapping | None) -> bool:
    """Whether a line end is not the end of something; `following` has no indentation."""
    goes_on = _goes_on(line, following) or (
        line[-1] in _HYPHENS and line[-2:-1].isalpha() and following[0].islower()
    )
    if wrapping is None:
        return goes_on and len(line) >= _MIN_WIDTH
    if len(line) + 1 + _first_word(following) > wrapping.full:
        return True
    return goes_on and 2 * len(line) >= wrapping.width


def _is_in_sentence(line: str, following: str, wrapping: _Wrapping | None) -> bool:
    """Whether a line that begins like an item (a dash, a number) continues a sentence."""
    is_full = wrapping is not None and len(line) + 1 + _first_word(following) > wrapping.full
    return is_full and line[-1] not in _FINAL and following[0] in "(0123456789-–—"


@dataclass(frozen=True)
class _Words:
    """The words of a unit in lower case, and whether many of its lines end in a hyphen."""

    words: frozenset[str]
    are_divided: bool


def _words_of(lines: Sequence[str], pairs: list[tuple[str, str]]) -> _Words:
    words = Counter(word for line in lines for word in _WORD.findall(line.lower()))
    hyphens = 0
    for line, following in pairs:
        if line[-1] in _HYPHENS and line[-2:-1].isalpha():
            hyphens += 1
            # Both parts of a divided word were counted as words.
            words.subtract(_WORD.findall(line.lower())[-1:])
            words.subtract(_WORD.findall(following.lower())[:1])
    are_divided = len(pairs) < _FEW_FOR_HYPHENS or hyphens >= 0.03 * len(pairs)
    return _Words(frozenset(word for word, count in words.items() if count > 0), are_divided)


def _at_line_end(line: str, following: str, words: _Words | None) -> tuple[int, str]:
    """How many characters of a line stay when it is joined, and what goes between."""
    size = len(line)
    last, before = line[-1], line[-2:-1]
    if words and last in _HYPHENS and before.isalnum():
        if last in _SOFT_HYPHENS:
            return size - 1, ""
        return _at_hyphen(line, following, words)
    if last == "—" or line.endswith("--"):
        return size, " " if line.rstrip("-—").endswith(" ") else ""
    if _WITHOUT_SPACE.match(last) and _WITHOUT_SPACE.match(following):
        return size, ""
    return size, " "


def _at_hyphen(line: str, following: str, unit: _Words) -> tuple[int, str]:
    """The same after a hyphen within a word."""
    size, words = len(line), unit.words
    parts = _PARTS_AT_END.search(line)
    part = parts[0][:-1].lower() if parts else ""
    found = _WORD.match(following)
    rest = found[0].lower() if found else ""
    if rest in _JOINS_PARTS:
        return size, " "
    if not following[0].islower() or not part.isalpha() or part in _KEEPS_HYPHEN:
        return size, ""
    if part + rest in words:
        return size - 1, ""
    if f"{part}-{rest}" in words or (part in words and rest in words) or not unit.are_divided:
        return size, ""
    return size - 1, ""


def join_lines(lines: Iterable[str], counts: Counter[str]) -> Iterator[str]:
    """The lines of a file, with those put together that were wrapped.

    Args:
        counts: see `count_joined`; spaces that take the place of line ends count as read.
    """
    unit: list[str] = []

    def joined() -> list[str]:
        found = join_wrapped(unit)
        count_joined(found, counts)
        counts["characters_read"] += found.added
        unit.clear()
        return found.lines

    for line in lines:
        unit.append(line)
        if len(unit) >= _UNIT_LINES and (
            not line or line.isspace() or len(unit) == _MAX_UNIT_LINES
        ):
            yield from joined()
    yield from joined()


def count_joined(found: JoinedLines, counts: Counter[str]) -> None:
    """Counts the line ends that are gone, and the characters that are gone with them."""
    if found.joined:
        counts["line_ends_joined"] += found.joined
        counts["characters_dropped_line_ends"] += found.removed
