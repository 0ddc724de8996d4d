"""The charts of a run: the tables of evaluate, and what the earlier stages logged."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.evaluation.breakdowns import NSP_CLASSES
from lib.report.charts.axes import svg_file
from lib.report.charts.bars import bar_chart, confusion_matrix
from lib.report.charts.lines import Curve, line_chart
from lib.run.atomic import write_text

_LOSS = "MLM loss (nats per token)"


def draw_run(results: Path, phase: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Writes all charts as SVG files.

    Args:
        results: the folder that has one folder of results for each stage.
        tables: those of `lib.evaluation.phase.Evaluation`.
    """
    target, costs = results / "evaluate", results / "cost"
    _draw_breakdowns(target, tables)
    _draw_models(target, tables["models"])
    _draw_training(target, results / f"pretrain/{phase}/curves")
    _draw_data(target, results / f"records/{phase}", results / "vocab")
    _draw_throughput(costs / f"throughput-{phase}.svg", costs / f"training-{phase}.csv")


def _draw_breakdowns(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    """A chart for each table of `Breakdowns.tables`."""
    for name, title, label in (
        ("by_frequency", "Loss by token frequency", "occurrences of the token in training text"),
        ("by_token_type", "Loss by token type", "type of the masked token"),
    ):
        table = tables[name]
        notes = [f"{count:,}" for count in table["tokens"]]
        # On two lines: large numbers would run into each other.
        bins = [bin.replace("-", "-\n") for bin in table.iloc[:, 0]]
        losses = table["mlm_loss"].tolist()
        chart = bar_chart(bins, losses, label, _LOSS, title=title, notes=notes)
        write_text(folder / f"{name}.svg", svg_file(chart))
    for name, title, label in (
        ("by_position", "Loss by position", "position of the token in its sequence (up to)"),
        ("by_length", "Loss by sequence length", "tokens in the sequence (up to)"),
    ):
        table = tables[name]
        curves = {"loss": _points(table.iloc[:, 0], table["mlm_loss"])}
        chart = line_chart(curves, label, _LOSS, title=title)
        write_text(folder / f"{name}.svg", svg_file(chart))
    pairs = tables["nsp_confusion"]
    actual, predicted = pairs["actual"], pairs["predicted"]
    counts = np.array(
        [[((actual == a) & (predicted == p)).sum() for p in NSP_CLASSES] for a in NSP_CLASSES]
    )  # [actual, predicted]
    title = "NSP confusion matrix" if len(pairs) else "NSP confusion matrix: not evaluated"
    chart = confusion_matrix(NSP_CLASSES, counts, "predicted", "actual", title=title)
    write_text(folder / "nsp_confusion.svg", svg_file(chart))


def _draw_models(folder: Path, models: pd.DataFrame) -> None:
    """Bits per character of each model by step; one line for each sequence length."""
    curves = {}
    for length, group in models.sort_values("step", kind="stable").groupby("length"):
        once = group.drop_duplicates("step")
        label = f"sequences of {length} tokens"
        curves[label] = _points(once["step"], once["bits_per_character"])
    chart = line_chart(curves, "step", "bits per character", title="Models by step")
    write_text(folder / "models.svg", svg_file(chart))


def _draw_training(folder: Path, logs: Path) -> None:
    """Loss, accuracy and learning rate by step.

    Args:
        logs: the folder in which DVCLive has a TSV file for each of them.
    """
    for measure, title, label in (
        ("loss", "Training loss", "nats per masked token (MLM), per pair (NSP)"),
        ("accuracy", "Training accuracy", "fraction correct"),
    ):
        curves = {
            f"{head.upper()}, {split}": _curve(path)
            for head in ("mlm", "nsp")
            for split in ("train", "dev")
            if (path := logs / split / f"{head}_{measure}.tsv").exists()
        }
        chart = line_chart(curves, "step", label, title=title)
        write_text(folder / f"training_{measure}.svg", svg_file(chart))
    rate = {"learning rate": _curve(logs / "learning_rate.tsv")}
    chart = line_chart(rate, "step", title="Learning rate")
    write_text(folder / "learning_rate.svg", svg_file(chart))


def _draw_throughput(target: Path, costs: Path) -> None:
    """Tokens per second by step, if training ran on this machine."""
    table = pd.read_csv(costs) if costs.exists() else pd.DataFrame()
    if len(table):
        curves = {"tokens": _points(table["step"], table["tokens_per_second"])}
        label = "tokens per second (without padding)"
        chart = line_chart(curves, "step", label, title="Training throughput")
        write_text(target, svg_file(chart))


def _draw_data(folder: Path, records: Path, vocab: Path) -> None:
    """Lengths of examples, tokens of sequences, and token frequencies.

    Args:
        records, vocab: the results of these stages.
    """
    for name, column, title in (
        ("lengths", "examples", "Training examples by length"),
        ("sequences", "sequences", "Training sequences by number of tokens"),
    ):
        table = pd.read_csv(records / f"{name}.csv")
        bins, counts = table["tokens"].tolist(), table[column].tolist()
        chart = bar_chart(bins, counts, "tokens (up to)", column, title=title)
        write_text(folder / f"records_{name}.svg", svg_file(chart))
    table = pd.read_csv(vocab / "frequencies.csv")
    chart = line_chart(
        {"tokens": _points(table["log10_rank"], table["log10_fraction"])},
        "rank (log10)",
        "fraction of all tokens (log10)",
        title="Token frequency by rank, in the training sample",
    )
    write_text(folder / "token_frequency.svg", svg_file(chart))


def _curve(path: Path) -> Curve:
    """The two columns of one of DVCLive's files."""
    table = pd.read_csv(path, sep="\t")
    return _points(table.iloc[:, 0], table.iloc[:, 1])


def _points(x: pd.Series, y: pd.Series) -> Curve:
    return list(zip(x.tolist(), y.tolist(), strict=True))
