"""The phases of the training: examples that went in, curves, what came out."""

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from lib.report.curves import chart
from lib.report.markup import (
    Child,
    element,
    facts,
    figure,
    figures,
    missing,
    number,
    section,
    table,
    words,
)
from lib.report.results import SMALL, Results

_FIRST = ("mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy", "learning_rate", "gradient_norm")
_LABELS = {
    "mlm_loss": "MLM loss, nats",
    "mlm_accuracy": "MLM accuracy",
    "nsp_loss": "Next sentence loss, nats",
    "nsp_accuracy": "Next sentence accuracy",
}
_SPEEDS = {"tokens_per_second": "Tokens a second (without padding)", "memory_mib": "Memory, MiB"}


def examples(results: Results) -> Element:
    """The section of the records that the phases train on."""
    parts: list[Child] = []
    for phase in results.params.phases:
        parts.append(_heading(results, phase))
        records = results.metrics(f"records/{phase}")
        if records is None:
            parts.append(missing(f"records of {phase}"))
            continue
        splits = {name: values for name, values in records.items() if isinstance(values, dict)}
        measures = dict.fromkeys(measure for values in splits.values() for measure in values)
        rows = [
            [words(measure), *(number(values.get(measure), measure) for values in splits.values())]
            for measure in measures
        ]
        others = [(words(key), number(records[key], key)) for key in records if key not in splits]
        parts.append(table(["", *splits], rows))
        parts.append(facts(others) if others else None)
        charts = [
            *results.images(f"records/{phase}"),
            *results.drawn(
                f"records/{phase}/lengths.csv",
                ("tokens", "tokens of an example"),
                "examples",
                "Training examples by length",
            ),
            *results.drawn(
                f"records/{phase}/rows.csv",
                ("tokens", "tokens in a row, padding not counted"),
                "rows",
                "Training rows by what is in them",
            ),
        ]
        parts.append(figures(charts))
    return section("examples", "Examples", parts)


def training(results: Results) -> Element:
    """The section of the training runs."""
    parts: list[Child] = []
    for phase in results.params.phases:
        parts.append(_heading(results, phase))
        metrics = results.metrics(f"pretrain/{phase}")
        parts.append(figures(_charts(results, phase)))
        parts.append(_outcome(metrics) if metrics else missing(f"pretrain of {phase}"))
    return section("training", "Training", parts)


def _heading(results: Results, phase: str) -> Element:
    length = results.params.phases[phase].max_seq_length
    return element("h3", "Phase ", element("bdi", phase), f": rows of {length:,} tokens")


def _charts(results: Results, phase: str) -> list[Element]:
    images = results.images(f"pretrain/{phase}")
    return images or [*_curves(results, phase), *_speed(results, phase)]


def _curves(results: Results, phase: str) -> list[Element]:
    """DVCLive's log: a chart for each metric, with training and dev text in the same one."""
    folder = f"pretrain/{phase}/live/plots/metrics"
    metrics: dict[str, dict[str, str]] = {}
    for path in results.files(folder, "*.tsv"):
        text = path.parent.name if path.parent != results.folder / folder else ""
        name = path.relative_to(results.folder).as_posix()
        metrics.setdefault(path.stem, {})[text] = name
    ordered = [*(name for name in _FIRST if name in metrics), *metrics]
    made = []
    for metric in dict.fromkeys(ordered):
        curves = {
            text or words(metric): results.curve(name, "step", metric)
            for text, name in sorted(metrics[metric].items(), reverse=True)
        }
        curves = {text: curve for text, curve in curves.items() if curve}
        if curves:
            caption = _LABELS.get(metric, words(metric).capitalize())
            made.append(figure(caption, chart(curves, "optimizer step", size=SMALL)))
    return made


def _speed(results: Results, phase: str) -> list[Element]:
    made = []
    for column, caption in _SPEEDS.items():
        curve = results.curve(f"cost/training-{phase}.csv", "step", column)
        if curve:
            image = chart({words(column): curve}, "optimizer step", filled=True, size=SMALL)
            made.append(figure(caption, image))
    return made


def _outcome(metrics: Mapping[str, Any]) -> Element:
    """Numbers of training and dev text beside each other, and the others."""
    both = [key.removeprefix("dev_") for key in metrics if key.startswith("dev_")]
    rows = [
        [
            _LABELS.get(name, words(name)),
            *(number(metrics.get(f"{text}_{name}"), name) for text in ("train", "dev")),
        ]
        for name in both
    ]
    told = {f"{text}_{name}" for text in ("train", "dev") for name in both}
    others = [(words(key), number(metrics[key], key)) for key in metrics if key not in told]
    last = table(["at the last step", "training text", "dev text"], rows)
    return element("div", facts(others), last if rows else None, class_="columns")
