"""The report's section of held-out metrics: values, intervals and baselines."""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from lib.evaluation.metrics import INITIAL, Result, headlines, results_in
from lib.report.markup import (
    Child,
    bar,
    element,
    facts,
    figures,
    folded,
    number,
    section,
    table,
    words,
)
from lib.report.repeats import Repeats, repeats_of
from lib.report.results import Results

# Charts that other sections show.
_OTHER_SECTIONS = ("training_*", "learning_rate*", "records_*", "token_frequency*")


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
    """The headline metrics, large."""
    metrics = results.metrics("evaluate") or {}
    found = list(headlines(metrics))
    if not found:
        return None
    repeats = repeats_of(results.folder, metrics)
    return element(
        "ul",
        (
            element(
                "li",
                element("span", result.metric.label),
                element("b", result.written(result.value)),
                (
                    element("small", f"{baseline.label}: {result.written(value)}")
                    for baseline, value in result.baselines.items()
                ),
                _over_seeds(repeats, result),
            )
            for result in found
        ),
        class_="tiles",
    )


def _over_seeds(repeats: Repeats | None, result: Result) -> Element | None:
    written = repeats.written(result.metric) if repeats else ""
    return (
        element("small", f"{len(repeats.runs)} seeds: {written}") if repeats and written else None
    )


def held_out(results: Results) -> Element:
    """All metrics, the charts and tables of evaluate, and its counts."""
    name, title = "metrics", "Held-out metrics"
    metrics = results.metrics("evaluate")
    if metrics is None:
        return section(name, title, results.absence("evaluate"))
    found, rest = results_in(metrics)
    rest.pop("phase", None)
    with_initial = any(INITIAL in result.baselines for result in found)
    heading = ["metric", "this model", "95 % interval", "baseline"]
    heading += ["initial model"] if with_initial else []
    repeats = repeats_of(results.folder, metrics)
    heading += [f"{len(repeats.runs)} seeds: mean ± sd", ""] if repeats else [""]
    others = list(flat(rest))
    return section(
        name,
        title,
        element(
            "p",
            "Measured on test documents, which were not used in training or for the vocabulary.",
        ),
        element("p", f"Repeated: {repeats.described()}, all else being equal.")
        if repeats
        else None,
        table(heading, [_row(result, with_initial, repeats) for result in found], "measures"),
        figures(*results.images("evaluate", skip=_OTHER_SECTIONS)),
        results.tables("evaluate"),
        folded("Other values of evaluate", facts(others)) if others else None,
    )


def _row(result: Result, with_initial: bool, repeats: Repeats | None) -> list[Child]:
    baseline: Child = "–"
    if result.without_model:
        what, value = result.without_model
        baseline = [result.written(value), element("small", what.label)]
    row: list[Child] = [
        [result.metric.label, element("small", result.metric.direction())],
        element("b", result.written(result.value)),
        result.written_interval() or "–",
        baseline,
    ]
    if with_initial:
        initial = result.baselines.get(INITIAL)
        row.append("–" if initial is None else result.written(initial))
    if repeats:
        row.append(repeats.written(result.metric) or "–")
    return [*row, _bars(result)]


def _bars(result: Result) -> Element | None:
    """The model's value above its baselines, all to one scale."""
    if not result.baselines:
        return None
    longest = max(result.value, *result.baselines.values()) or 1.0
    return element(
        "span",
        bar(result.value / longest),
        (bar(value / longest, "baseline") for value in result.baselines.values()),
        class_="bars",
    )
