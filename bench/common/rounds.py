"""Rounds of the step benchmark: every mode of every system in turn, a process for each run.

The fastest mode of each system counts.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import cli, jobs
from bench.common.report import Row, read_json
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
                cli.progress(
                    f"{side}, {variant.mode}: {result['tokens_per_second']:,.0f} tokens/s, first "
                    f"step {result['first_step_seconds']:.1f} s"
                )
        if number == 0:
            for side, tried in sides.items():
                slowest = max(map(_rate, runs[side].values())) / _TOO_SLOW
                remaining[side] = [one for one in tried if _rate(runs[side][one.mode]) >= slowest]
    best = {
        side: max((one.mode for one in remaining[side]), key=lambda mode: _rate(modes[mode]))
        for side, modes in runs.items()
    }
    return {side: (best[side], modes) for side, modes in runs.items()}


def _median(results: Sequence[Row], key: str) -> float:
    return statistics.median(result[key] for result in results)


def _rate(results: Sequence[Row]) -> float:
    return _median(results, "tokens_per_second")


def run_variant(variant: Variant, work: Path) -> Row:
    """Runs one variant in its own process; returns its results and the process's resources."""
    folder = work / "job"
    run = jobs.start(variant.module, variant.job, folder, **{STARTED: repr(time.time())})
    result = read_json(folder / "result.json")
    return {**result, "peak_mib": run.peak_mib, "process_seconds": run.wall_seconds}


def summarise(name: str, sides: Mapping[str, tuple[str, Runs]], threshold: float | None) -> Row:
    """Results of one case: medians of each side's best mode, and the ratios of single rounds."""
    best = {side: modes[mode] for side, (mode, modes) in sides.items()}
    ratio = _rate(best["ours"]) / _rate(best["peer"])
    pairs = [
        own["tokens_per_second"] / theirs["tokens_per_second"]
        for own, theirs in zip(best["ours"], best["peer"], strict=True)
    ]
    ours_cpu, peer_cpu = (_median(best[side], "tokens_per_cpu_second") for side in ("ours", "peer"))
    row: Row = {
        "name": name,
        "ratio": ratio,
        "lowest": min(pairs),
        "highest": max(pairs),
        "cpu_ratio": ours_cpu / peer_cpu,
        "threshold": threshold,
        "passed": None if threshold is None else ratio >= threshold,
    }
    if "gathered" in best:
        row["gathered_ratio"] = _rate(best["ours"]) / _rate(best["gathered"])
    for side, results in best.items():
        row[side] = _rate(results)
        row[f"{side}_mode"] = sides[side][0]
        row[f"{side}_peak_fraction"] = f"{_median(results, 'peak_fraction'):.0%}"
        row[f"{side}_gflops"] = _median(results, "useful_flops_per_second") / 1e9
        row[f"{side}_mib"] = max(result["peak_mib"] for result in results)
    return row | {"runs": {side: modes for side, (_, modes) in sides.items()}}


def first_steps(sides: Mapping[str, tuple[str, Runs]]) -> list[Row]:
    """Duration of the first step in each mode of our system and of the peer."""
    rows = []
    for side, title in (("ours", "ours"), ("peer", "Hugging Face's")):
        for mode, results in sides[side][1].items():
            seconds = _median(results, "first_step_seconds")
            # The threshold applies to the default mode only.
            threshold = FIRST_STEP_THRESHOLD if mode == "plain" else None
            rows.append(
                {
                    "name": f"first step, {title}",
                    "mode": mode,
                    "seconds": seconds,
                    "since_start": _median(results, "first_step_since_start"),
                    "threshold": threshold,
                    "passed": None if threshold is None else seconds <= threshold,
                }
            )
    return rows
