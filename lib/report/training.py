"""The report's sections of examples and training: records, curves and outcome of each phase."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from lib.evaluation.metrics import METRICS
from lib.params import SHARDS
from lib.records.statistics import constant_pairs
from lib.report.charts.lines import line_chart
from lib.report.held_out import flat
from lib.report.markup import (
    Child,
    element,
    facts,
    figure,
    figures,
    number,
    section,
    table,
    words,
)
from lib.report.results import SMALL, Results

_FIRST = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy", "learning_rate", "gradient_norm")
# By column: the title, and the name of the chart that already shows it, if there is one.
_SPEEDS = {
    "tokens_per_second": ("Tokens per second, without padding", "throughput"),
    "memory_mib": ("Memory, MiB", "memory"),
}


def examples(results: Results) -> Element:
    """The section of the records that the phases train on."""
    parts: list[Child] = []
    for phase in results.params.phases:
        parts.append(_heading(results, phase))
        records = results.metrics(f"records/{phase}")
        if records is None:
            parts.append(results.absence(f"records/{phase}"))
            continue
        splits = {name: values for name, values in records.items() if isinstance(values, dict)}
        measures = dict.fromkeys(measure for values in splits.values() for measure in values)
        rows = [
            [words(measure), *(number(values.get(measure), measure) for values in splits.values())]
            for measure in measures
        ]
        others = [(words(key), number(records[key], key)) for key in records if key not in splits]
        parts.append(table(["", *splits], rows))
        parts.append(_constant_pairs(results, phase, records))
        parts.append(facts(others) if others else None)
        # evaluate draws those of its own phase.
        folder = "evaluate/records_" if phase == results.params.evaluate.phase else None
        lengths, full = (
            results.drawn(
                f"records/{phase}/{name}.csv",
                ("tokens", label),
                column,
                caption,
                f"{folder}{name}.svg" if folder else None,
            )
            for name, label, column, caption in (
                ("lengths", "tokens of an example", "examples", "Training examples by length"),
                (
                    "sequences",
                    "tokens, without padding",
                    "sequences",
                    "Training sequences by number of tokens",
                ),
            )
        )
        parts.append(figures(*results.images(f"records/{phase}"), lengths, full))
    return section("examples", "Examples", parts)


def _constant_pairs(results: Results, phase: str, records: Mapping[str, Any]) -> Element | None:
    """A note if the phase trains on sentence pairs that nearly all have the same label."""
    trained = results.metrics(f"pretrain/{phase}") or {}
    from_text = results.params.records.source == SHARDS
    has_pairs = results.params.records.next_sentence if from_text else "dev_nsp_loss" in trained
    random_next = records.get("train", {}).get("random_next_fraction", 0.5)
    found = constant_pairs(random_next) if has_pairs else None
    if found is None:
        return None
    return element("p", f"{found}; set records.next_sentence: false", class_="missing")


def training(results: Results) -> Element:
    """The section of the training runs."""
    parts: list[Child] = []
    for phase in results.params.phases:
        parts.append(_heading(results, phase))
        metrics = results.metrics(f"pretrain/{phase}")
        if not results.why_outdated(results.folder / f"pretrain/{phase}"):
            parts.append(figures(*_charts(results, phase)))
        parts.append(_outcome(metrics) if metrics else results.absence(f"pretrain/{phase}"))
    return section("training", "Training", parts)


def _heading(results: Results, phase: str) -> Element:
    length = results.params.phases[phase].max_seq_length
    return element("h3", "Phase ", element("bdi", phase), f": sequences of {length:,} tokens")


def _charts(results: Results, phase: str) -> Iterator[Element]:
    """Charts from stages, and a new chart of each logged value that none of them shows."""
    drawn = results.files(f"pretrain/{phase}", "*.svg")
    if phase == results.params.evaluate.phase:
        drawn += results.files("evaluate", "training_*.svg")
        drawn += results.files("evaluate", "learning_rate.svg")
    drawn += results.files("cost", f"throughput-{phase}.svg")
    yield from map(results.image, drawn)
    # training_loss shows the losses of both heads, mlm_loss and nsp_loss.
    shown = tuple(path.stem.removeprefix("training_") for path in drawn)
    logs = _logs(results, phase)
    for metric in sorted(logs, key=lambda name: (*_FIRST, name).index(name)):
        curves = {
            text or words(metric): results.curve(name, "step", metric)
            for text, name in sorted(logs[metric].items(), reverse=True)
        }
        curves = {text: curve for text, curve in curves.items() if curve}
        if curves and not metric.endswith(shown):
            caption = _label(metric)[:1].upper() + _label(metric)[1:]
            yield figure(caption, line_chart(curves, "optimizer step", size=SMALL))
    for column, (caption, picture) in _SPEEDS.items():
        curve = results.curve(f"cost/training-{phase}.csv", "step", column)
        if curve and f"{picture}-{phase}" not in shown:
            image = line_chart({words(column): curve}, "optimizer step", filled=True, size=SMALL)
            yield figure(caption, image)


def curves_folder(results: Path, phase: str) -> Path:
    """The folder of a phase's curves; while training runs, that of its log so far."""
    folder = results / f"pretrain/{phase}/curves"
    return folder if folder.exists() else results / f"pretrain/{phase}/live/plots/metrics"


def _logs(results: Results, phase: str) -> dict[str, dict[str, str]]:
    """Curves by metric and by text (train, dev or empty)."""
    folder = curves_folder(results.folder, phase)
    logs: dict[str, dict[str, str]] = {}
    for path in folder.rglob("*.tsv"):
        text = "" if path.parent == folder else path.parent.name
        logs.setdefault(path.stem, {})[text] = path.relative_to(results.folder).as_posix()
    return logs


def _label(metric: str) -> str:
    return METRICS[metric].label if metric in METRICS else words(metric)


def _outcome(metrics: Mapping[str, Any]) -> Element:
    """Metrics on training and dev text side by side, and the other values."""
    both = [key.removeprefix("dev_") for key in metrics if key.startswith("dev_")]
    rows = [
        [
            _label(name),
            *(number(metrics.get(f"{text}_{name}"), name) for text in ("train", "dev")),
        ]
        for name in both
    ]
    shown = {f"{text}_{name}" for text in ("train", "dev") for name in both}
    others = flat({key: value for key, value in metrics.items() if key not in shown})
    last = table(["at the last step", "training text", "dev text"], rows)
    return element("div", facts(others), last if rows else None, class_="columns")
