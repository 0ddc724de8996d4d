"""The numbers on held-out text, beside their baselines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from lib.report.markup import (
    Child,
    bar,
    element,
    facts,
    figures,
    folded,
    missing,
    number,
    section,
    table,
    words,
)
from lib.report.results import Results

LESS, MORE = "less is better", "more is better"
# How a metric is called and written, and what is better.
MEASURES = {
    "bits_per_character": ("bits per character", ".3f", LESS),
    "mlm_loss": ("MLM loss, nats a masked piece", ".3f", LESS),
    "mlm_perplexity": ("MLM perplexity", ",.1f", LESS),
    "mlm_accuracy": ("masked pieces found", ".1%", MORE),
    "mlm_accuracy_at_5": ("masked pieces among the first five guesses", ".1%", MORE),
    "word_accuracy": ("hidden words found whole", ".1%", MORE),
    "nsp_loss": ("next sentence loss, nats", ".3f", LESS),
    "nsp_accuracy": ("next sentence answers that are right", ".1%", MORE),
}
_HEADLINES = ("bits_per_character", "mlm_loss", "mlm_perplexity", "mlm_accuracy", "nsp_accuracy")
# Pictures of what earlier stages did.
_TOLD_ELSEWHERE = ("training_*", "learning_rate*", "records_*", "token_frequency*")
_WITHOUT, _START = "without a model", "at the start"
# What follows a measure's name when the number is not the model's: what it is, and its column.
BASELINES = {
    "unigram": ("piece frequencies", _WITHOUT),
    "top_token": ("always the commonest piece", _WITHOUT),
    "majority": ("always the commoner answer", _WITHOUT),
    "initial": ("the model it started from", _START),
}


@dataclass(frozen=True)
class Line:
    """A measure of the model.

    Attributes:
        interval: lower and upper end, of 95 %.
        baselines: value by what it is and by its column.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    baselines: Mapping[tuple[str, str], float]

    def written(self, value: float) -> str:
        return format(value, MEASURES[self.name][1])

    def bars(self) -> Element | None:
        """The model's number over its baselines, all to one scale."""
        if not self.baselines:
            return None
        most = max(self.value, *self.baselines.values()) or 1.0
        return element(
            "span",
            bar(self.value / most),
            (bar(value / most, "baseline") for value in self.baselines.values()),
            class_="bars",
        )


def lines(metrics: Mapping[str, Any]) -> list[Line]:
    """The known measures that are there."""
    intervals = metrics.get("intervals") or {}
    found = []
    for name in MEASURES:
        if not isinstance(metrics.get(name), int | float):
            continue
        baselines = {
            what: metrics[f"{name}_{suffix}"]
            for suffix, what in BASELINES.items()
            if isinstance(metrics.get(f"{name}_{suffix}"), int | float)
        }
        ends = intervals.get(name)
        found.append(Line(name, metrics[name], tuple(ends) if ends else None, baselines))
    return found


def _others(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Child]]:
    """What no line has told, as it is."""
    told = {"phase"}
    for name in MEASURES:
        told |= {name, *(f"{name}_{suffix}" for suffix in BASELINES)}
    told_intervals = set(MEASURES)
    for name, value in metrics.items():
        if name == "intervals" and isinstance(value, dict):
            rest = {key: ends for key, ends in value.items() if key not in told_intervals}
            yield from flat(rest, "interval of ")
        elif name not in told:
            yield from flat({name: value})


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Numbers of any depth with their names in words."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{words(name)}: ")
        elif isinstance(value, list):
            yield prefix + words(name), " to ".join(number(item, name) for item in value)
        else:
            yield prefix + words(name), number(value, name)


def tiles(results: Results) -> Element | None:
    """The few numbers that a run is known by."""
    found = [line for line in lines(results.metrics("evaluate") or {}) if line.name in _HEADLINES]
    if not found:
        return None
    return element(
        "ul",
        (
            element(
                "li",
                element("span", MEASURES[line.name][0]),
                element("b", line.written(line.value)),
                (
                    element("small", f"{what}: {line.written(value)}")
                    for (what, _), value in line.baselines.items()
                ),
            )
            for line in found
        ),
        class_="tiles",
    )


def held_out(results: Results) -> Element:
    """All measures, the charts and tables of evaluate, and what else it counted."""
    name, title = "numbers", "Held-out numbers"
    metrics = results.metrics("evaluate")
    if metrics is None:
        return section(name, title, missing("evaluate"))
    found = lines(metrics)
    there = {column for line in found for _, column in line.baselines}
    columns = [column for column in (_WITHOUT, _START) if column in there]
    intervals = any(line.interval for line in found)
    rows: list[list[Child]] = []
    for line in found:
        label, _, direction = MEASURES[line.name]
        row: list[Child] = [
            [label, element("small", direction)],
            element("b", line.written(line.value)),
        ]
        if intervals:
            row.append(" to ".join(map(line.written, line.interval or ())) or "–")
        for column in columns:
            row.append(
                [
                    part
                    for (what, where), value in line.baselines.items()
                    if where == column
                    for part in (line.written(value), element("small", what))
                ]
            )
        rows.append([*row, line.bars()])
    heading = ["measure", "this model", *(["95 % interval"] if intervals else []), *columns, None]
    others = list(_others(metrics))
    return section(
        name,
        title,
        element("p", "On test documents, which neither training nor the vocabulary has seen."),
        table(heading, rows, "measures"),
        figures(*results.images("evaluate", told=_TOLD_ELSEWHERE)),
        results.tables("evaluate"),
        folded("What else evaluate counted", facts(others)) if others else None,
    )
