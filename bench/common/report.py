"""Results of a benchmark: medians and ratios, a table to print, a JSON file."""

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
    name: str, ours: Sequence[Measured], peer: Sequence[Measured], threshold: float
) -> dict[str, Any]:
    """Compares alternating runs of our system and of a peer.

    Args:
        threshold: smallest accepted ratio of the peer's wall time to ours.

    Returns:
        `wall_ratio`, `cpu_ratio` and `memory_ratio` are the peer's median over ours: above 1, ours
        is better. Other load on the machine hardly affects `cpu_ratio`. `lowest` and `highest` are
        the extreme wall-time ratios of a single pair of runs.
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
        "threshold": threshold,
        "passed": ratio >= threshold,
        "ours_runs": [run.wall_seconds for run in ours],
        "peer_runs": [run.wall_seconds for run in peer],
    }


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """Conditions of a measurement: date, processor, load and versions.

    Args:
        packages: packages whose versions to report; None for one that is not installed.
    """
    versions: dict[str, str | None] = {}
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
    """The commit of a git checkout, or `unknown`."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else "unknown"


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Formats results as an aligned text table.

    Args:
        columns: key of a row -> heading. Floats get three significant digits, booleans become
            `yes` or `NO`, missing values `-`.
    """
    lines = [list(columns.values())]
    lines += [[_format(row.get(key)) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formatted = []
    for line in lines:
        first = line[0].ljust(widths[0])
        others = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        formatted.append("  ".join([first, *others]).rstrip())
    return "\n".join(formatted)


def _format(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return str(value)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
