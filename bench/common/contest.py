"""Several systems, each in several modes, in turn: each run is a process of its own.

The fastest mode of each system counts.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common.processes import measure
from bench.common.project import ROOT
from bench.common.report import write_json
from bench.training.steps import STARTED

# After the first round a mode is left out that takes so many times as long as the best.
_BEHIND = 1.15
FIRST_STEP_BAR = 15.0  # seconds


@dataclass(frozen=True)
class Variant:
    """One mode of one system: a module that takes a job.

    A job says: `model` and `vocab_size`; `next_sentence`; `settings` of pretrain, batch_size and
    precision among them; `steps` to count; `records` and `vocabulary` to read, or null for full
    rows of `length` tokens with `predictions` masked ones; and, of the peer, `mode` and `gathered`.
    """

    mode: str
    module: str
    job: dict[str, Any]


Runs = dict[str, list[dict[str, Any]]]


def contest(
    sides: Mapping[str, Sequence[Variant]], repeats: int, work: Path
) -> dict[str, tuple[str, Runs]]:
    """Runs all sides in turn.

    Returns:
        For each side its best mode, and the results of its modes by round.
    """
    runs: dict[str, Runs] = {side: {} for side in sides}
    left = {side: list(variants) for side, variants in sides.items()}
    for number in range(repeats):
        for side, variants in left.items():
            for variant in variants:
                result = run(variant, work)
                runs[side].setdefault(variant.mode, []).append(result)
                print(
                    f"training: {side}, {variant.mode}: {result['tokens_per_second']:,.0f} "
                    f"tokens/s, first step {result['first_step_seconds']:.1f} s",
                    file=sys.stderr,
                )
        if number == 0:
            for side, variants in sides.items():
                rates = {mode: _rate(results) for mode, results in runs[side].items()}
                enough = max(rates.values()) / _BEHIND
                left[side] = [variant for variant in variants if rates[variant.mode] >= enough]
    return {
        side: (max((one.mode for one in left[side]), key=lambda mode: _rate(modes[mode])), modes)
        for side, modes in runs.items()
    }


def _rate(results: Sequence[dict[str, Any]]) -> float:
    return statistics.median(result["tokens_per_second"] for result in results)


def run(variant: Variant, work: Path) -> dict[str, Any]:
    """One process."""
    folder = work / "job"
    write_json(folder / "job.json", variant.job)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        STARTED: repr(time.time()),
    }
    command = [sys.executable, "-m", variant.module, folder / "job.json"]
    measured = measure(command, folder, environment)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {**result, "peak_mib": measured.peak_mib, "process_seconds": measured.wall_seconds}


def figures(name: str, sides: Mapping[str, tuple[str, Runs]], bar: float | None) -> dict[str, Any]:
    """One row of the table: medians, and the ratios of single rounds."""
    row: dict[str, Any] = {"name": name, "bar": bar}
    best = {side: modes[mode] for side, (mode, modes) in sides.items()}
    for side, results in best.items():
        row[side] = _rate(results)
        row[f"{side}_mode"] = sides[side][0]
        share = statistics.median(result["share_of_peak"] for result in results)
        row[f"{side}_share"] = f"{share:.0%}"
        row[f"{side}_gflops"] = (
            statistics.median(result["useful_flops_per_second"] for result in results) / 1e9
        )
        row[f"{side}_mib"] = max(result["peak_mib"] for result in results)
    row["ratio"] = row["ours"] / row["peer"]
    pairs = [
        own["tokens_per_second"] / theirs["tokens_per_second"]
        for own, theirs in zip(best["ours"], best["peer"], strict=True)
    ]
    row["lowest"], row["highest"] = min(pairs), max(pairs)
    if "gathered" in row:
        row["gathered_ratio"] = row["ours"] / row["gathered"]
    row["passed"] = None if bar is None else row["ratio"] >= bar
    row["runs"] = {side: modes for side, (_, modes) in sides.items()}
    return row


def first_steps(sides: Mapping[str, tuple[str, Runs]]) -> list[dict[str, Any]]:
    """How long the first step took, in each mode."""
    rows = []
    for side in ("ours", "peer"):
        for mode, results in sides[side][1].items():
            seconds = statistics.median(result["first_step_seconds"] for result in results)
            # The bar is for the mode that is the default.
            bar = FIRST_STEP_BAR if mode == "plain" else None
            rows.append(
                {
                    "name": {"ours": "ours", "peer": "Hugging Face's"}[side],
                    "mode": mode,
                    "seconds": seconds,
                    "since_start": statistics.median(
                        result["first_step_since_start"] for result in results
                    ),
                    "bar": bar,
                    "passed": None if bar is None else seconds <= bar,
                }
            )
    return rows
