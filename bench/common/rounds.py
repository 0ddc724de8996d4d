"""Rounds of the step benchmark: every mode of every system in turn, a process for each run.

The fastest mode of each system counts.
"""

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common.processes import measure, python_environment
from bench.common.report import write_json
from bench.common.step_timing import STARTED

# A mode slower than the best by more than this factor in the first round is not run again.
_TOO_SLOW = 1.15
FIRST_STEP_THRESHOLD = 15.0  # seconds


@dataclass(frozen=True)
class Variant:
    """One mode of one system.

    Attributes:
        mode: name of the mode.
        module: run as `python -m MODULE JOB_JSON`; writes result.json next to the job.
        job: `model` (sizes) and `vocab_size`; `next_sentence`; `settings` of pretrain, including
            batch_size and precision; `steps` to time; `records` and `vocabulary` to read, or null
            for random sequences of `length` tokens with `predictions` masked ones; for the peer
            also `mode` and `gathered` (MLM head at masked positions only); `local`, for ours, of a
            ModernBERT without global layers.
    """

    mode: str
    module: str
    job: dict[str, Any]


Runs = dict[str, list[dict[str, Any]]]


def run_rounds(
    sides: Mapping[str, Sequence[Variant]], repeats: int, work: Path
) -> dict[str, tuple[str, Runs]]:
    """Runs the variants of all sides in turn, `repeats` times.

    Returns:
        For each side its best mode, and mode -> results by round.
    """
    runs: dict[str, Runs] = {side: {} for side in sides}
    remaining = {side: list(variants) for side, variants in sides.items()}
    for number in range(repeats):
        for side, variants in remaining.items():
            for variant in variants:
                result = run_variant(variant, work)
                runs[side].setdefault(variant.mode, []).append(result)
                print(
                    f"training: {side}, {variant.mode}: {result['tokens_per_second']:,.0f} "
                    f"tokens/s, first step {result['first_step_seconds']:.1f} s",
                    file=sys.stderr,
                )
        if number == 0:
            for side, tried in sides.items():
                rates = {mode: _median_rate(results) for mode, results in runs[side].items()}
                slowest = max(rates.values()) / _TOO_SLOW
                remaining[side] = [one for one in tried if rates[one.mode] >= slowest]
    return {
        side: (
            max((one.mode for one in remaining[side]), key=lambda mode: _median_rate(modes[mode])),
            modes,
        )
        for side, modes in runs.items()
    }


def _median_rate(results: Sequence[dict[str, Any]]) -> float:
    return statistics.median(result["tokens_per_second"] for result in results)


def run_variant(variant: Variant, work: Path) -> dict[str, Any]:
    """Runs one variant in its own process; returns its results and the process's resources."""
    folder = work / "job"
    write_json(folder / "job.json", variant.job)
    environment = python_environment(**{STARTED: repr(time.time())})
    command = [sys.executable, "-m", variant.module, folder / "job.json"]
    measured = measure(command, folder, environment)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {**result, "peak_mib": measured.peak_mib, "process_seconds": measured.wall_seconds}


def summarise(
    name: str, sides: Mapping[str, tuple[str, Runs]], threshold: float | None
) -> dict[str, Any]:
    """Results of one case: medians of each side's best mode, and the ratios of single rounds."""
    row: dict[str, Any] = {"name": name, "threshold": threshold}
    best = {side: modes[mode] for side, (mode, modes) in sides.items()}
    for side, results in best.items():
        row[side] = _median_rate(results)
        row[f"{side}_mode"] = sides[side][0]
        fraction = statistics.median(result["peak_fraction"] for result in results)
        row[f"{side}_peak_fraction"] = f"{fraction:.0%}"
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
    if all("tokens_per_cpu_second" in result for side in best.values() for result in side):
        ours, peer = (
            statistics.median(result["tokens_per_cpu_second"] for result in best[side])
            for side in ("ours", "peer")
        )
        row["cpu_ratio"] = ours / peer
    if "gathered" in row:
        row["gathered_ratio"] = row["ours"] / row["gathered"]
    row["passed"] = None if threshold is None else row["ratio"] >= threshold
    row["runs"] = {side: modes for side, (_, modes) in sides.items()}
    return row


def first_steps(sides: Mapping[str, tuple[str, Runs]]) -> list[dict[str, Any]]:
    """Duration of the first step in each mode of our system and of the peer."""
    rows = []
    for side in ("ours", "peer"):
        for mode, results in sides[side][1].items():
            seconds = statistics.median(result["first_step_seconds"] for result in results)
            # The threshold applies to the default mode only.
            threshold = FIRST_STEP_THRESHOLD if mode == "plain" else None
            rows.append(
                {
                    "name": {"ours": "ours", "peer": "Hugging Face's"}[side],
                    "mode": mode,
                    "seconds": seconds,
                    "since_start": statistics.median(
                        result["first_step_since_start"] for result in results
                    ),
                    "threshold": threshold,
                    "passed": None if threshold is None else seconds <= threshold,
                }
            )
    return rows
