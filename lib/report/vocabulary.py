"""The report's section of the vocabulary: how well it fits the text."""

import re
from xml.etree.ElementTree import Element

from lib.report.markup import (
    element,
    facts,
    figure,
    figures,
    folded,
    number,
    section,
    table,
    words,
)
from lib.report.results import Results

_SHOWN_WORDS = 12
_CODE = re.compile(r"`` (.*?) ``|`([^`]*)`")


def vocabulary(results: Results) -> Element:
    """The section of the vocabulary."""
    name, title = "vocabulary", "Vocabulary"
    metrics = results.metrics("vocab")
    if metrics is None:
        return section(name, title, results.absence("vocab"))
    sample = results.metrics("sample5M") or {}
    fits = {key: value for key, value in metrics.items() if isinstance(value, dict)}
    single = [
        (words(key), number(value, key))
        for key, value in (metrics | sample).items()
        if key not in fits
    ]
    measures = list(dict.fromkeys(measure for fit in fits.values() for measure in fit))
    rows = [
        [words(measure), *(number(fit.get(measure), measure) for fit in fits.values())]
        for measure in measures
    ]
    texts = {"train": "training text", "heldout": "held-out text"}
    heading = ["", *(texts.get(fit, fit) for fit in fits)]
    drawn = results.drawn(
        "vocab/frequencies.csv",
        ("log10_rank", "rank (log10)"),
        "log10_fraction",
        "Token frequency by rank (log10)",
        "evaluate/token_frequency.svg",
    )
    return section(
        name,
        title,
        element("div", table(heading, rows), facts(single), class_="columns"),
        figures(*results.images("vocab"), drawn),
        _report(results.text("vocab/report.md") or ""),
    )


def _report(page: str) -> list[Element | None]:
    """The tables of the page that `lib.vocab.report` writes, each with its title."""
    tables, lists = [], []
    for part in page.split("\n## ")[1:]:
        title, *lines = part.split("\n")
        rows = [_cells(line) for line in lines if line.startswith("| ")]
        if len(rows) > 2:
            heading, first, more = rows[0], rows[2:][:_SHOWN_WORDS], rows[2:][_SHOWN_WORDS:]
            rest = folded(f"{len(more)} more", table(heading, more, "words")) if more else None
            tables.append(figure(title, table(heading, first, "words"), rest))
        elif not rows and any(lines):
            lists.append(folded(title, element("p", _code("\n".join(lines)), class_="tokens")))
    return [figures(*tables), *lists]


def _cells(line: str) -> list[list[Element | str]]:
    inner = line.removeprefix("| ").removesuffix(" |")
    return [_code(cell.replace("\\|", "|")) for cell in re.split(r" (?<!\\)\| ", inner)]


def _code(text: str) -> list[Element | str]:
    """Markdown code spans as elements, each in the direction of its own text."""
    parts: list[Element | str] = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [text[end : found.start()], element("code", element("bdi", found[1] or found[2]))]
        end = found.end()
    return [*parts, text[end:]]
