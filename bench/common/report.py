"""Results of a benchmark: medians and ratios, a table to print, a JSON file."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.common.processes import Measured, median
from lib.run.atomic import write_text

Row = dict[str, Any]
"""A result: `name`, figures, and `passed` if it has a threshold."""

# Those that some benchmark depends on or compares with.
PACKAGES = (
    *("accelerate", "distributed", "emoji", "numpy", "pyarrow", "sentencepiece", "sentencex"),
    *("tensorflow", "tokenizers", "torch", "transformers"),
)


def compare(
    name: str, ours: Sequence[Measured], peer: Sequence[Measured], threshold: float | None = None
) -> Row:
    """Compares alternating runs of our system and of a peer.

    Args:
        threshold: smallest accepted ratio of the peer's wall time to ours, if there is one.

    Returns:
        `wall_ratio`, `cpu_ratio` and `memory_ratio` are the peer's median over ours: above 1, ours
        is better. Other load on the machine hardly affects `cpu_ratio`. `lowest` and `highest` are
        the extreme wall-time ratios of a single pair of runs.
    """
    own, theirs = median(ours), median(peer)
    pairs = [each.wall_seconds / one.wall_seconds for one, each in zip(ours, peer, strict=True)]
    ratio = theirs.wall_seconds / own.wall_seconds
    return {
        "name": name,
        "ours_seconds": own.wall_seconds,
        "peer_seconds": theirs.wall_seconds,
        "wall_ratio": ratio,
        "lowest": min(pairs),
        "highest": max(pairs),
        "cpu_ratio": theirs.cpu_seconds / own.cpu_seconds,
        "threshold": threshold,
        "passed": None if threshold is None else ratio >= threshold,
        "ours_mib": own.peak_mib,
        "peer_mib": theirs.peak_mib,
        "memory_ratio": theirs.peak_mib / own.peak_mib,
        "runs": {
            side: [[run.wall_seconds, run.cpu_seconds, run.peak_mib] for run in runs]
            for side, runs in (("ours", ours), ("peer", peer))
        },
    }


def machine() -> dict[str, Any]:
    """Conditions of a measurement: date, processor, load and versions of installed packages."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
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


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned text table of the values of results, under their keys, without lists and dicts.

    Floats get three significant digits, booleans become `yes` or `NO`, missing values `-`.
    """
    keys = dict.fromkeys(
        key for row in rows for key, value in row.items() if not isinstance(value, list | dict)
    )
    lines = [[key.replace("_", " ") for key in keys]]
    lines += [[_format(row.get(key)) for key in keys] for row in rows]
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


def read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
