"""Summary of training runs: a line per run, means over seeds, learning curves.

A run is a dict with its `job` (`name`, `rate`, `seed`, `cpu_seconds`), its `steps` and
`cpu_seconds`, and `points`: `step`, `cpu_seconds` and scores of each saved model.
"""

import csv
import io
import math
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.common import cli
from bench.common.report import Row
from lib.report.charts.svg import line_chart
from lib.run.atomic import write_text

Run = dict[str, Any]
Curve = list[tuple[float, float]]


def describe(run: Run, score: str) -> str:
    """One line about a run."""
    job = run["job"]
    return (
        f"{job['name']}, rate {job['rate']:g}, seed {job['seed']}: {score} "
        f"{run['points'][-1][score]:.4f} after {run['steps']:,} steps in "
        f"{run['cpu_seconds'] / 60:.2f} CPU minutes"
    )


def by_name_and_rate(runs: Sequence[Run]) -> dict[tuple[str, float], list[Run]]:
    """(name, rate) -> its runs with different seeds, in order of appearance."""
    groups: dict[tuple[str, float], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["job"]["name"], run["job"]["rate"]), []).append(run)
    return groups


def mean_and_deviation(values: Sequence[float], name: str, sign: str = "") -> dict[str, str]:
    """Mean and, of several values, standard deviation, as `name` and `name_deviation`."""
    found = {name: f"{statistics.mean(values):{sign}.4f}"}
    if len(values) > 1:
        found[f"{name}_deviation"] = f"{statistics.stdev(values):.4f}"
    return found


def summarise(runs: Sequence[Run], score: str, accuracy: str, *others: str) -> list[Row]:
    """Means over the seeds for each (name, rate), at the end of the runs.

    Args:
        score, accuracy, others: keys of the points; `score` is lower for a better model.
    """
    rows = []
    for (name, rate), group in by_name_and_rate(runs).items():
        ends = [run["points"][-1] for run in group]
        scores = [end[score] for end in ends]
        rows.append(
            {
                "name": name,
                "rate": f"{rate:g}",
                "seeds": len(group),
                **mean_and_deviation(scores, "score"),
                "lowest": f"{min(scores):.4f}",
                "highest": f"{max(scores):.4f}",
                "accuracy": f"{statistics.mean(end[accuracy] for end in ends):.1%}",
                **{key: f"{statistics.mean(end[key] for end in ends):.4f}" for key in others},
                "steps": round(statistics.mean(run["steps"] for run in group)),
                "cpu_minutes": statistics.mean(run["cpu_seconds"] for run in group) / 60,
            }
        )
    return rows


def paired_difference(runs: Sequence[Run], others: Sequence[Run], score: str) -> list[float]:
    """Score of a run minus that of the other run with the same seed, at their ends, by seed."""
    ends = {run["job"]["seed"]: run["points"][-1][score] for run in others}
    return [
        run["points"][-1][score] - ends[run["job"]["seed"]]
        for run in sorted(runs, key=lambda run: int(run["job"]["seed"]))
        if run["job"]["seed"] in ends
    ]


def best_rates(runs: Sequence[Run], score: str) -> dict[str, float]:
    """Name -> the rate whose runs end with the lowest score, on average."""
    best: dict[str, tuple[float, float]] = {}
    for (name, rate), group in by_name_and_rate(runs).items():
        mean = statistics.mean(run["points"][-1][score] for run in group)
        best[name] = min(best.get(name, (math.inf, rate)), (mean, rate))
    return {name: rate for name, (_, rate) in best.items()}


def search_rates(
    rates: Mapping[str, Sequence[float]],
    seeds: Sequence[int],
    train: Callable[[list[tuple[str, float, int]]], list[Run]],
    score: str,
) -> tuple[list[Run], dict[str, float]]:
    """Runs of each name with all its rates and the first seed, and with the best and the others.

    Args:
        rates: name -> the rates to try.
        train: runs of some (name, rate, seed).

    Returns:
        The runs, and the best rate of each name.
    """
    first, *others = seeds
    runs = train([(name, rate, first) for name, tried in rates.items() for rate in tried])
    best = best_rates(runs, score)
    for name, tried in rates.items():
        if len(tried) > 1 and best[name] in (min(tried), max(tried)):
            cli.progress(f"{name}: the best rate, {best[name]:g}, is at the end of those tried")
    return runs + train([(name, best[name], seed) for seed in others for name in rates]), best


def mean_curves(runs: Sequence[Run], score: str) -> dict[tuple[str, float], Curve]:
    """(name, rate) -> (CPU minutes, score) of the saved models, means over the seeds.

    Minutes are the fraction of the budget at that step: what the steps take on an idle machine.
    """
    curves = {}
    for key, group in by_name_and_rate(runs).items():
        minutes = group[0]["job"]["cpu_seconds"] / 60
        curves[key] = [
            (
                minutes * points[0]["step"] / group[0]["steps"],
                statistics.mean(point[score] for point in points),
            )
            for points in zip(*(run["points"] for run in group), strict=True)
        ]
    return curves


def time_to_reach(curve: Curve, score: float) -> float:
    """Minutes until a curve is at a score or below, at its first such point; infinity if never."""
    return next((minutes for minutes, found in curve if found <= score), math.inf)


def save_csv(options: Namespace, rows: Iterable[Sequence[object]]) -> None:
    """Writes rows to the CSV file that belongs to --out, if that is given."""
    if options.out:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(options.out.with_suffix(".csv"), text.getvalue())


def curves_table(
    runs: Sequence[Run], score: str, accuracy: str, column: str = "loss"
) -> list[list[object]]:
    """A header and a line per saved model of every run; `column` is the heading of the score."""
    table: list[list[object]] = [
        ["system", "rate", "seed", "cpu_seconds", "step", column, "accuracy"]
    ]
    for run in runs:
        job = run["job"]
        for point in run["points"]:
            name = [job["name"], f"{job['rate']:g}", job["seed"]]
            scores = [f"{point[score]:.5f}", f"{point[accuracy]:.5f}"]
            table.append([*name, f"{point['cpu_seconds']:.1f}", point["step"], *scores])
    return table


def save_chart(
    options: Namespace,
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str,
    title: str,
    dashed: Sequence[str] = (),
    suffix: str = ".svg",
) -> None:
    """Writes a chart to the SVG file that belongs to --out, if that is given."""
    if options.out:
        chart = line_chart(curves, x_label, y_label, title=title, dashed=dashed)
        write_text(options.out.with_suffix(suffix), chart)
