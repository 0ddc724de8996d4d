"""The pictures of a run: of the tables of evaluate, and of what the stages before it plotted."""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.evaluation.breakdowns import ANSWERS
from lib.report.charts.svg import Curve, draw_bars, draw_counts, draw_lines

_LOSS = "MLM loss (nats a piece)"


def draw_breakdowns(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """An SVG beside the CSV of each table of `Breakdowns.tables`."""
    for name, title, label in (
        ("by_frequency", "Loss by frequency", "times that the piece occurs in training text"),
        ("by_token_type", "Loss by kind of piece", "of hidden words"),
    ):
        table = tables[name]
        notes = [f"{count:,}" for count in table["pieces"]]
        # On two lines: large numbers would run into each other.
        bins = [bin.replace("-", "-\n") for bin in table.iloc[:, 0]]
        losses = table["mlm_loss"].tolist()
        draw_bars(folder / f"{name}.svg", title, label, _LOSS, bins, losses, notes)
    for name, title, label in (
        ("by_position", "Loss by place", "place of the piece in its row (up to)"),
        ("by_length", "Loss by length", "tokens of the row (up to)"),
    ):
        table = tables[name]
        curve = table.iloc[:, 0].tolist(), table["mlm_loss"].tolist()
        draw_lines(folder / f"{name}.svg", title, label, _LOSS, {"loss": curve})
    pairs = tables["nsp_confusion"]
    counts = np.array(
        [
            [((pairs["actual"] == actual) & (pairs["predicted"] == said)).sum() for said in ANSWERS]
            for actual in ANSWERS
        ]
    )
    title = "Next sentence" if len(pairs) else "Next sentence: not asked"
    draw_counts(folder / "nsp_confusion.svg", title, "the model says", "B truly", ANSWERS, counts)


def draw_models(folder: Path, models: pd.DataFrame) -> None:
    """Bits a character of each model by its step; a line for each length of rows."""
    curves = {}
    for length, group in models.sort_values("step", kind="stable").groupby("length"):
        once = group.drop_duplicates("step")
        curves[f"rows of {length}"] = once["step"].tolist(), once["bits_per_character"].tolist()
    draw_lines(folder / "models.svg", "Models by step", "step", "bits a character", curves)


def draw_training(folder: Path, logs: Path) -> None:
    """Loss, accuracy and learning rate by step.

    Args:
        logs: the folder in which DVCLive keeps a TSV file for each of them.
    """
    for measure, title, label in (
        ("loss", "Loss in training", "nats a masked piece (MLM), a pair (NSP)"),
        ("accuracy", "Accuracy in training", "share that is right"),
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


def draw_throughput(target: Path, costs: Path) -> None:
    """Tokens a second by step, from the costs of training, if they are still there."""
    if costs.exists():
        table = pd.read_csv(costs)
        curve = table["step"].tolist(), table["tokens_per_second"].tolist()
        label = "tokens a second (no padding)"
        draw_lines(target, "Throughput of training", "step", label, {"tokens": curve})


def draw_data(folder: Path, records: Path, vocab: Path) -> None:
    """How long examples are, how full rows are, and how frequent pieces are.

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
        "Pieces by frequency in the training sample",
        "rank (decimal logarithm)",
        "share of all tokens (decimal logarithm)",
        {"pieces": curve},
    )


def _curve(path: Path) -> Curve:
    """The two columns of one of DVCLive's files."""
    table = pd.read_csv(path, sep="\t")
    return table.iloc[:, 0].tolist(), table.iloc[:, 1].tolist()
