"""The charts of a run: the tables of evaluate, and what the earlier stages logged."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.evaluation.breakdowns import NSP_CLASSES
from lib.report.charts.svg import Curve, draw_bars, draw_counts, draw_lines

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
    _draw_training(target, results / f"pretrain/{phase}/live/plots/metrics")
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
        draw_bars(folder / f"{name}.svg", title, label, _LOSS, bins, losses, notes)
    for name, title, label in (
        ("by_position", "Loss by position", "position of the token in its sequence (up to)"),
        ("by_length", "Loss by sequence length", "tokens in the sequence (up to)"),
    ):
        table = tables[name]
        curve = table.iloc[:, 0].tolist(), table["mlm_loss"].tolist()
        draw_lines(folder / f"{name}.svg", title, label, _LOSS, {"loss": curve})
    pairs = tables["nsp_confusion"]
    actual, predicted = pairs["actual"], pairs["predicted"]
    counts = np.array(
        [[((actual == a) & (predicted == p)).sum() for p in NSP_CLASSES] for a in NSP_CLASSES]
    )  # [actual, predicted]
    title = "NSP confusion matrix" if len(pairs) else "NSP confusion matrix: not evaluated"
    draw_counts(folder / "nsp_confusion.svg", title, "predicted", "actual", NSP_CLASSES, counts)


def _draw_models(folder: Path, models: pd.DataFrame) -> None:
    """Bits per character of each model by step; one line for each sequence length."""
    curves = {}
    for length, group in models.sort_values("step", kind="stable").groupby("length"):
        once = group.drop_duplicates("step")
        label = f"sequences of {length} tokens"
        curves[label] = once["step"].tolist(), once["bits_per_character"].tolist()
    draw_lines(folder / "models.svg", "Models by step", "step", "bits per character", curves)


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
        draw_lines(folder / f"training_{measure}.svg", title, "step", label, curves)
    rate = {"learning rate": _curve(logs / "learning_rate.tsv")}
    draw_lines(folder / "learning_rate.svg", "Learning rate", "step", "learning rate", rate)


def _draw_throughput(target: Path, costs: Path) -> None:
    """Tokens per second by step, if training ran on this machine."""
    if costs.exists():
        table = pd.read_csv(costs)
        curve = table["step"].tolist(), table["tokens_per_second"].tolist()
        label = "tokens per second (without padding)"
        draw_lines(target, "Training throughput", "step", label, {"tokens": curve})


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
        path = folder / f"records_{name}.svg"
        counts = table[column].tolist()
        draw_bars(path, title, "tokens (up to)", column, table["tokens"].tolist(), counts)
    table = pd.read_csv(vocab / "frequencies.csv")
    curve = table["log10_rank"].tolist(), table["log10_fraction"].tolist()
    draw_lines(
        folder / "token_frequency.svg",
        "Token frequency by rank, in the training sample",
        "rank (log10)",
        "fraction of all tokens (log10)",
        {"tokens": curve},
    )


def _curve(path: Path) -> Curve:
    """The two columns of one of DVCLive's files."""
    table = pd.read_csv(path, sep="\t")
    return table.iloc[:, 0].tolist(), table.iloc[:, 1].tolist()
