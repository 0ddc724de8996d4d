"""The charts that evaluate writes: of its tables, and of what the earlier stages wrote."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from lib.evaluation.breakdowns import NSP_CLASSES
from lib.report.charts.stage_charts import (
    TRAINING,
    cost_charts,
    records_charts,
    training_charts,
    vocabulary_charts,
)
from lib.report.charts.svg import Curve, bar_chart, confusion_matrix, line_chart
from lib.run.atomic import write_text

_LOSS = "MLM loss (nats per token)"


def draw_run(results: Path, phase: str, tables: Mapping[str, pd.DataFrame]) -> None:
    """Writes all charts as SVG files.

    Args:
        results: the folder that has one folder of results for each stage.
        tables: those of `lib.evaluation.phase.Evaluation`.
    """
    records = records_charts(results / f"records/{phase}")
    training = training_charts(results / f"pretrain/{phase}/curves")
    charts = {
        **_evaluation_charts(tables),
        **vocabulary_charts(results / "vocab"),
        **{f"records_{name}": chart for name, chart in records.items()},
        **{name: training[name] for name in TRAINING},
    }
    for name, chart in charts.items():
        write_text(results / f"evaluate/{name}.svg", chart)
    costs = cost_charts(results / f"cost/training-{phase}.csv")
    if "throughput" in costs:
        write_text(results / f"cost/throughput-{phase}.svg", costs["throughput"])


def _evaluation_charts(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """A chart of each table, by name."""
    charts = {}
    for name, title, label in (
        ("by_frequency", "Loss by token frequency", "occurrences of the token in training text"),
        ("by_token_type", "Loss by token type", "type of the masked token"),
    ):
        table = tables[name]
        notes = [f"{count:,}" for count in table["tokens"]]
        # On two lines: large numbers would run into each other.
        bins = [bin.replace("-", "-\n") for bin in table.iloc[:, 0]]
        losses = table["mlm_loss"].tolist()
        charts[name] = bar_chart(bins, losses, label, _LOSS, title=title, notes=notes)
    for name, title, label in (
        ("by_position", "Loss by position", "position of the token in its sequence (up to)"),
        ("by_length", "Loss by sequence length", "tokens in the sequence (up to)"),
    ):
        table = tables[name]
        curves = {"loss": _points(table.iloc[:, 0], table["mlm_loss"])}
        charts[name] = line_chart(curves, label, _LOSS, title=title)
    # A line for each sequence length.
    curves = {}
    by_length = tables["models"].sort_values("step", kind="stable").groupby("length")
    for length, group in by_length:
        once = group.drop_duplicates("step")
        curves[f"sequences of {length} tokens"] = _points(once["step"], once["bits_per_character"])
    title = "Models by step"
    charts["models"] = line_chart(curves, "step", "bits per character", title=title)
    inputs = tables["inputs"]
    charts["inputs"] = bar_chart(
        [f"{name}\n{model}" for name, model in zip(inputs["input"], inputs["model"], strict=True)],
        inputs["bits_per_character"].tolist(),
        "test text and model",
        "bits per character",
        title="Models by input",
        notes=[f"{value:.3f}" for value in inputs["bits_per_character"]],
    )
    pairs = tables["nsp_confusion"]
    actual, predicted = pairs["actual"], pairs["predicted"]
    counts = np.array(
        [[((actual == a) & (predicted == p)).sum() for p in NSP_CLASSES] for a in NSP_CLASSES]
    )  # [actual, predicted]
    title = "NSP confusion matrix" if len(pairs) else "NSP confusion matrix: not evaluated"
    matrix = confusion_matrix(NSP_CLASSES, counts, "predicted", "actual", title=title)
    return {**charts, "nsp_confusion": matrix}


def _points(x: pd.Series, y: pd.Series) -> Curve:
    return list(zip(x.tolist(), y.tolist(), strict=True))
