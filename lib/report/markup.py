"""HTML and SVG built as a tree of elements; the serializer escapes all text."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "Element | str | Iterable[Child] | None"

# Characters that HTML cannot represent: controls, halves of surrogate pairs, noncharacters.
_INVALID = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd"
    + "".join(f"{chr(0x10000 * plane)}-{chr(0x10000 * plane + 0xFFFD)}" for plane in range(1, 17))
    + "]"
)


def _valid(text: str) -> str:
    return _INVALID.sub("\ufffd", text)


def element(tag: str, *children: Child, **attributes: object) -> Element:
    """An element of HTML or SVG.

    Args:
        children: elements, text and iterables of them; None is left out.
        attributes: `class_` is written `class`, `stroke_width` is `stroke-width`; None is left out.
    """
    created = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            created.set(name.rstrip("_").replace("_", "-"), _valid(str(value)))
    append(created, *children)
    return created


def append(parent: Element, *children: Child) -> None:
    """Appends elements and text to an element."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            text = _valid(child)
            if len(parent):
                parent[-1].tail = (parent[-1].tail or "") + text
            else:
                parent.text = (parent.text or "") + text
        elif isinstance(child, Element):
            parent.append(child)
        else:
            append(parent, *child)


def document(title: str, style: str, body: Sequence[Element]) -> str:
    """A complete page; its content security policy forbids it to load or run anything."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        ),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", style),
    )
    root = element("html", head, element("body", body), lang="en")
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def words(key: str) -> str:
    """A key of a results file in words: `documents_in` as `documents in`."""
    return key.replace("_", " ")


def number(value: object, name: str = "") -> str:
    """A value as people read it; fractions, recognised by their names, in per cent."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if name.endswith(("fraction", "fill")) or "accuracy" in name:
            return f"{value:.2%}"
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return str(value)


def table(heading: Sequence[Child], rows: Iterable[Sequence[Child]], kind: str = "") -> Element:
    """A table whose first column names its rows; on a narrow page it scrolls by itself."""
    head = element("tr", (element("th", cell, scope="col") for cell in heading))
    body = [
        element("tr", element("th", row[0], scope="row"), (element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    parts = [element("thead", head)] if heading else []
    whole = element("table", parts, element("tbody", body), class_=kind or None)
    return element("div", whole, class_="scrolls")


def facts(rows: Iterable[tuple[str, Child]]) -> Element:
    """A table of names and values, without a heading."""
    return table((), rows, "facts")


def bar(fraction: float, kind: str = "") -> Element:
    """A horizontal bar, filled to a fraction between 0 and 1."""
    width = f"width:{100 * min(max(fraction, 0.0), 1.0):.2f}%"
    return element("span", element("i", style=width, class_=kind or None), class_="bar")


def stack(parts: Sequence[tuple[str, int]]) -> Element:
    """Counts as one stacked horizontal bar with a legend."""
    whole = sum(count for _, count in parts) or 1
    bars, names = [], []
    for index, (name, count) in enumerate(parts):
        colour = f"area{index % 6}"
        width = f"width:{100 * count / whole:.3f}%"
        bars.append(element("i", style=width, class_=colour, title=f"{name}: {count:,}"))
        label = f"{name}: {count:,} ({count / whole:.1%})"
        names.append(element("li", element("i", class_=colour), label))
    return element(
        "div", element("div", bars, class_="stack"), element("ul", names, class_="legend")
    )


def figure(caption: Child, *content: Child) -> Element:
    """A chart or a table with its title."""
    title = None if caption is None else element("figcaption", caption)
    return element("figure", title, *content)


def folded(summary: str, *content: Child) -> Element:
    """Content that is shown on a click."""
    return element("details", element("summary", summary), *content)


def section(name: str, title: str, *content: Child) -> Element:
    """A section of the page, the target of a link in the navigation."""
    return element("section", element("h2", title), *content, id=name)


def figures(*content: Element | None) -> Element | None:
    """Charts side by side, as many as fit; None if there are none."""
    present = [each for each in content if each is not None]
    return element("div", present, class_="figures") if present else None
