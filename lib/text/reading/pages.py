"""HTML to lines of text, by lxml: fed piece by piece, so that it holds little of a page."""

import re
from collections import Counter
from contextlib import suppress
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Elements of HTML that begin and end a line of text.
BLOCKS = _names(
    "address article aside blockquote body br button caption center dd details dialog dir div dl "
    "dt fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 h6 head header hgroup hr "
    "html legend li main menu nav ol optgroup option p pre section summary table tbody td tfoot th "
    "thead tr ul"
)
# Elements without text for readers. A title is a heading that the page repeats.
_SKIPPED = _names("script style template noscript iframe svg math select object title canvas")
_INLINE = _names(
    "a abbr acronym b bdi bdo big cite code del dfn em font i img input ins kbd label mark q s "
    "samp small span strike strong sub sup time tt u var wbr"
)
VOID = _names("area base br col embed hr img input link meta source track wbr")
# Elements whose end tag HTML does not require.
MAY_STAY_OPEN = _names(
    "p li dt dd tr td th thead tbody tfoot option optgroup html head body colgroup"
)
HTML_NAMES = BLOCKS | _SKIPPED | _INLINE | VOID | MAY_STAY_OPEN

# Characters of a line without a line end after which it is cut: no text for readers is so long.
_LONG = 1 << 20
SPACE = re.compile(r"[ \t\n\r\f]+")
_LINE_END = re.compile(r"\r\n?|\n")


class Page:
    """Target of lxml's parser that collects the lines of text of a page."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._lines: list[str] = []
        self._parts: list[str] = []
        self._size = 0
        self._verbatim = 0
        # Name of the element that is skipped, and how many of that name are open.
        self._skipped, self._depth = "", 0

    def start(self, name: str, attributes: Any) -> None:
        if self._depth:
            self._depth += name == self._skipped
        elif name in _SKIPPED:
            self._skipped, self._depth = name, 1
            self._counts["headings_left_out"] += name == "title"
        elif name in BLOCKS:
            self.end_line()
            self._verbatim += name == "pre"

    def end(self, name: str) -> None:
        if self._depth:
            self._depth -= name == self._skipped
        elif name in BLOCKS:
            self.end_line()
            self._verbatim -= name == "pre"

    def data(self, text: str) -> None:
        if self._depth:
            return
        self._parts.append(text)
        self._size += len(text)
        if self._size > _LONG:
            *parts, rest = "".join(self._parts).rpartition(" ")
            self._parts = parts
            self.end_line()
            self._parts, self._size = [rest], len(rest)

    def close(self) -> None:
        pass

    def end_line(self) -> None:
        if self._parts:
            text = "".join(self._parts)
            self._parts, self._size = [], 0
            if self._verbatim > 0:
                self._lines += [line for line in _LINE_END.split(text) if line.strip()]
            elif line := SPACE.sub(" ", text).strip():
                self._lines.append(line)

    def take(self) -> list[str]:
        """The lines that are complete."""
        lines, self._lines = self._lines, []
        return lines


def html_parser(target: Any) -> Any:
    """A parser that gives its target (`start`, `end`, `data`) the tags and the text it is fed."""
    from lxml import etree  # Slow to import: only where there is such a file.

    return etree.HTMLParser(target=target, huge_tree=True)


def close(parser: Any) -> None:
    """Gives the target what is left."""
    from lxml import etree

    with suppress(etree.XMLSyntaxError):  # There is no text at all.
        parser.close()


def html_to_lines(text: str, counts: Counter[str]) -> list[str]:
    """The lines of a page or a piece of HTML.

    Args:
        counts: `headings_left_out` gets the number of titles.
    """
    page = Page(counts)
    parser = html_parser(page)
    parser.feed(text)
    close(parser)
    page.end_line()
    return page.take()
