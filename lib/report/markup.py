"""HTML and SVG as a tree of elements: whatever text goes in, the serializer escapes it."""

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias
from xml.etree.ElementTree import Element, tostring

Child: TypeAlias = "Element | str | Iterable[Child] | None"

# What HTML has no way to write: control characters, halves of surrogate pairs, noncharacters.
_IMPOSSIBLE = re.compile(
    "[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd"
    + "".join(f"{chr(0x10000 * plane)}-{chr(0x10000 * plane + 0xFFFD)}" for plane in range(1, 17))
    + "]"
)


def _possible(text: str) -> str:
    return _IMPOSSIBLE.sub("\ufffd", text)


def element(tag: str, *children: Child, **attributes: object) -> Element:
    """An element of HTML or SVG.

    Args:
        children: elements and text, and iterables of them; None is left out.
        attributes: `class_` is written `class`, `stroke_width` is `stroke-width`; None is left out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), _possible(str(value)))
    append(made, *children)
    return made


def append(to: Element, *children: Child) -> None:
    """Puts more elements and text at the end of an element."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            text = _possible(child)
            if len(to):
                to[-1].tail = (to[-1].tail or "") + text
            else:
                to.text = (to.text or "") + text
        elif isinstance(child, Element):
            to.append(child)
        else:
            append(to, *child)


def document(title: str, style: str, body: Sequence[Element]) -> str:
    """A whole page that may load nothing and run nothing: its own policy forbids it."""
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
    """The name of a metric as people read it."""
    return key.replace("_", " ")


def number(value: object, name: str = "") -> str:
    """A value of a metric as people read it; shares as per cent, told by the name."""
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
    """A table that scrolls by itself where the page is narrow; the first cells name the rows."""
    head = element("tr", (element("th", cell, scope="col") for cell in heading))
    body = [
        element("tr", element("th", row[0], scope="row"), (element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    parts = [element("thead", head)] if heading else []
    made = element("table", parts, element("tbody", body), class_=kind or None)
    return element("div", made, class_="scrolls")


def facts(rows: Iterable[tuple[str, Child]]) -> Element:
    """A table of names and values, without a heading."""
    return table((), rows, "facts")


def bar(share: float, kind: str = "") -> Element:
    """A horizontal bar, filled to a share between 0 and 1."""
    width = f"width:{100 * min(max(share, 0.0), 1.0):.2f}%"
    return element("span", element("i", style=width, class_=kind or None), class_="bar")


def stack(parts: Sequence[tuple[str, int]]) -> Element:
    """Counts as parts of one horizontal bar, with their names below it."""
    whole = sum(count for _, count in parts) or 1
    bars, names = [], []
    for place, (name, count) in enumerate(parts):
        colour = f"area{place % 6}"
        width = f"width:{100 * count / whole:.3f}%"
        bars.append(element("i", style=width, class_=colour, title=f"{name}: {count:,}"))
        said = f"{name}: {count:,} ({count / whole:.1%})"
        names.append(element("li", element("i", class_=colour), said))
    return element(
        "div", element("div", bars, class_="stack"), element("ul", names, class_="legend")
    )


def figure(caption: Child, *content: Child) -> Element:
    """A chart with its title."""
    title = None if caption is None else element("figcaption", caption)
    return element("figure", title, *content)


def folded(summary: str, *content: Child) -> Element:
    """What is shown on a click."""
    return element("details", element("summary", summary), *content)


def section(name: str, title: str, *content: Child) -> Element:
    """A part of the page that its table of contents can lead to."""
    return element("section", element("h2", title), *content, id=name)


def figures(*content: Element | None) -> Element | None:
    """Charts beside each other, as many as fit; None if there are none."""
    there = [each for each in content if each is not None]
    return element("div", there, class_="figures") if there else None


def missing(stage: str) -> Element:
    """Says that there is nothing to show yet."""
    return element("p", f"{stage} has not run yet: dvc repro", class_="missing")
