"""Figures of several runs: medians and ratios, a table to read, a JSON file to keep."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.common.processes import Measured
from lib.run.atomic import write_text


def compare(
    name: str, ours: Sequence[Measured], peer: Sequence[Measured], bar: float
) -> dict[str, Any]:
    """One comparison of alternating runs.

    Args:
        bar: how many times as long as ours the peer should take, at least.

    Returns:
        `wall_ratio` and `memory_ratio` are the peer's median over ours: above 1, ours is better.
        `cpu_ratio` is that of processor time, which other work on the machine hardly touches;
        `lowest` and `highest` are the ratios of the single pairs of runs.
    """
    medians = {
        "ours_seconds": statistics.median(run.wall_seconds for run in ours),
        "peer_seconds": statistics.median(run.wall_seconds for run in peer),
        "ours_cpu_seconds": statistics.median(run.cpu_seconds for run in ours),
        "peer_cpu_seconds": statistics.median(run.cpu_seconds for run in peer),
        "ours_mib": statistics.median(run.peak_mib for run in ours),
        "peer_mib": statistics.median(run.peak_mib for run in peer),
    }
    pairs = [theirs.wall_seconds / own.wall_seconds for own, theirs in zip(ours, peer, strict=True)]
    ratio = medians["peer_seconds"] / medians["ours_seconds"]
    return {
        "name": name,
        **medians,
        "wall_ratio": ratio,
        "lowest": min(pairs),
        "highest": max(pairs),
        "cpu_ratio": medians["peer_cpu_seconds"] / medians["ours_cpu_seconds"],
        "memory_ratio": medians["peer_mib"] / medians["ours_mib"],
        "bar": bar,
        "passed": ratio >= bar,
        "ours_runs": [run.wall_seconds for run in ours],
        "peer_runs": [run.wall_seconds for run in peer],
    }


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """What the figures depend on: the machine, its load, versions, the date.

    Args:
        packages: those whose versions to tell, if they are installed.
    """
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def revision(checkout: Path) -> str:
    """The commit of a checkout, as far as git can tell."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    told = subprocess.run(command, capture_output=True, text=True)
    return told.stdout.strip() if told.returncode == 0 else "unknown"


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Rows of a table for people.

    Args:
        columns: key in the rows -> heading; numbers get three significant digits, truth values
            `yes` or `NO`.
    """
    cells = [list(columns.values())]
    cells += [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        first = line[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return str(value)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Keeps the figures."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
