"""Charts of what the stages before evaluate wrote: vocabulary, records, training logs."""

import csv
import math
from pathlib import Path

from lib.report.charts.svg import Curve, bar_chart, line_chart

# By name: title, label of the vertical axis, and the logged values.
TRAINING = {
    "training_loss": (
        "Training loss",
        "nats per masked token (MLM), per pair (NSP)",
        ("mlm_loss", "nsp_loss"),
    ),
    "training_accuracy": (
        "Training accuracy",
        "fraction correct",
        ("mlm_accuracy", "nsp_accuracy"),
    ),
    "learning_rate": ("Learning rate", "", ("learning_rate",)),
}


def read_curve(path: Path, x: str, y: str) -> Curve:
    """Points of two columns of a CSV or TSV file; lines without numbers are left out."""
    if not path.exists():
        return []
    points = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","):
            try:
                point = float(row[x]), float(row[y])
            except (KeyError, TypeError, ValueError):
                continue
            if all(map(math.isfinite, point)):
                points.append(point)
    return points


def training_charts(logs: Path) -> dict[str, str]:
    """A chart of each value that training logs by step, by name: those of `TRAINING` first.

    Args:
        logs: the folder in which DVCLive has a TSV file for each value, with those of one text in
            a folder of its own (train, dev).
    """
    files = sorted(logs.rglob("*.tsv"), key=lambda path: (path.stem, path.parent.name != "train"))
    in_groups = {value for *_, values in TRAINING.values() for value in values}
    others = dict.fromkeys(path.stem for path in files if path.stem not in in_groups)
    single = {name: (name.replace("_", " ").capitalize(), "", (name,)) for name in others}
    charts = {}
    for name, (title, label, values) in (TRAINING | single).items():
        curves = {
            _name(path, logs): curve
            for path in files
            if path.stem in values and (curve := read_curve(path, "step", path.stem))
        }
        if curves:
            charts[name] = line_chart(curves, "step", label, title=title)
    return charts


def _name(path: Path, logs: Path) -> str:
    """`MLM, dev` for dev/mlm_loss.tsv."""
    head = path.stem.partition("_")[0].upper()
    return path.stem.replace("_", " ") if path.parent == logs else f"{head}, {path.parent.name}"


def cost_charts(log: Path) -> dict[str, str]:
    """Throughput and memory of training, if it ran on this machine."""
    charts = {}
    for name, column, label, title in (
        ("throughput", "tokens_per_second", "tokens per second, without padding", "Throughput"),
        ("memory", "memory_mib", "MiB", "Memory"),
    ):
        if curve := read_curve(log, "step", column):
            curves = {column: curve}
            charts[name] = line_chart(curves, "step", label, title=title, from_zero=True)
    return charts


def records_charts(records: Path) -> dict[str, str]:
    """Lengths of examples, and tokens of sequences."""
    charts = {}
    for name, column, title in (
        ("lengths", "examples", "Training examples by length"),
        ("sequences", "sequences", "Training sequences by number of tokens"),
    ):
        path = records / f"{name}.csv"
        if not path.exists():
            continue
        curve = read_curve(path, "tokens", column)
        bins, counts = [f"{tokens:.0f}" for tokens, _ in curve], [count for _, count in curve]
        charts[name] = bar_chart(bins, counts, "tokens (up to)", column, title=title)
    return charts


def vocabulary_charts(vocab: Path) -> dict[str, str]:
    """Token frequencies."""
    curve = read_curve(vocab / "frequencies.csv", "log10_rank", "log10_fraction")
    title = "Token frequency by rank, in the training sample"
    if not curve:
        return {}
    x_label, y_label = "rank (log10)", "fraction of all tokens (log10)"
    return {"token_frequency": line_chart({"tokens": curve}, x_label, y_label, title=title)}
