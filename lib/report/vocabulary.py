"""The report's section of the vocabulary: how well it fits the text."""

import re
from typing import Any

from markupsafe import Markup

from lib.report.charts.stage_charts import vocabulary_charts
from lib.report.results import Results

_CODE = re.compile(r"(`` .*? ``|`[^`]*`)")


def vocabulary(results: Results) -> dict[str, Any]:
    """Metrics, the fit to each text, token frequencies, and the lists of the vocabulary's page."""
    metrics = results.metrics("vocab")
    texts = {"train": "training text", "heldout": "held-out text"}
    values = (metrics or {}) | (results.metrics("sample5M") or {})
    fits = {key: value for key, value in values.items() if isinstance(value, dict)}
    tables, lists = _report(results.text("vocab/report.md") or "")
    return {
        "metrics": metrics,
        "fits": {texts.get(name, name): fit for name, fit in fits.items()},
        "others": {key: value for key, value in values.items() if key not in fits},
        "charts": vocabulary_charts(results.folder / "vocab"),
        "tables": tables,
        "lists": lists,
    }


def _report(page: str) -> tuple[dict[str, list[list[Markup]]], dict[str, Markup]]:
    """The tables and lists of the page that `lib.vocab.report` writes, by title."""
    tables, lists = {}, {}
    for part in page.split("\n## ")[1:]:
        title, *lines = part.split("\n")
        rows = [_cells(line) for line in lines if line.startswith("| ")]
        if len(rows) > 2:
            tables[title] = [rows[0], *rows[2:]]
        elif not rows and any(lines):
            lists[title] = _code("\n".join(lines))
    return tables, lists


def _cells(line: str) -> list[Markup]:
    inner = line.removeprefix("| ").removesuffix(" |")
    return [_code(cell.replace("\\|", "|")) for cell in re.split(r" (?<!\\)\| ", inner)]


def _code(text: str) -> Markup:
    """Markdown code spans as elements, each in the direction of its own text."""
    return Markup("").join(
        Markup("<code><bdi>{}</bdi></code>").format(part.strip("`").strip(" "))
        if index % 2
        else part
        for index, part in enumerate(_CODE.split(text))
    )
