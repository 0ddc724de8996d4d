"""What the runs of `bench.training.learning` learnt: a line each, a table, curves."""

import statistics
from collections.abc import Sequence
from typing import Any

COLUMNS = {
    "system": "trainer",
    "rate": "rate",
    "seeds": "seeds",
    "loss": "held-out loss",
    "lowest": "lowest",
    "highest": "highest",
    "accuracy": "accuracy",
    "joined": "on joined rows",
    "steps": "steps",
    "cpu_minutes": "CPU min",
}


def said(result: dict[str, Any]) -> str:
    """One run in a line."""
    job = result["job"]
    return (
        f"{job['system']}, rate {job['rate']:g}, seed {job['seed']}: loss "
        f"{result['points'][-1]['records']:.3f} after {result['steps']:,} steps "
        f"in {result['cpu_seconds'] / 60:.2f} CPU minutes"
    )


def summarise(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each (system, rate): means over the seeds."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["job"]["system"], result["job"]["rate"]), []).append(result)
    rows = []
    for (system, rate), runs in sorted(groups.items()):
        ends = [run["points"][-1] for run in runs]
        losses = [end["records"] for end in ends]
        rows.append(
            {
                "system": system,
                "rate": f"{rate:g}",
                "seeds": len(runs),
                "loss": f"{statistics.mean(losses):.4f}",
                "mean": statistics.mean(losses),
                "lowest": f"{min(losses):.4f}",
                "highest": f"{max(losses):.4f}",
                "accuracy": f"{statistics.mean(end['records_accuracy'] for end in ends):.1%}",
                "joined": f"{statistics.mean(end['joined'] for end in ends):.4f}",
                "steps": round(statistics.mean(run["steps"] for run in runs)),
                "cpu_minutes": statistics.mean(run["cpu_seconds"] for run in runs) / 60,
            }
        )
    return rows


def mean_curves(results: Sequence[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Name -> (CPU minutes, held-out loss), means over the seeds, of each system and rate.

    The minutes are the budget's share of the steps made: what a quiet machine takes for them.
    """
    groups: dict[str, list[list[tuple[float, float]]]] = {}
    for result in results:
        name = f"{result['job']['system']}, {result['job']['rate']:g}"
        minutes = result["job"]["cpu_seconds"] / 60
        groups.setdefault(name, []).append(
            [
                (minutes * point["step"] / result["steps"], point["records"])
                for point in result["points"]
            ]
        )
    return {
        name: [
            (points[0][0], statistics.mean(loss for _, loss in points))
            for points in zip(*runs, strict=True)
        ]
        for name, runs in sorted(groups.items())
    }


def curves_csv(results: Sequence[dict[str, Any]]) -> str:
    """Every point of every run."""
    lines = ["system,rate,seed,cpu_seconds,step,loss,accuracy\n"]
    for result in results:
        job = result["job"]
        lines += [
            f"{job['system']},{job['rate']:g},{job['seed']},{point['cpu_seconds']:.1f},"
            f"{point['step']},{point['records']:.5f},{point['records_accuracy']:.5f}\n"
            for point in result["points"]
        ]
    return "".join(lines)
