"""Training runs as single-threaded processes, several at a time."""

import os
import queue
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from bench.common import cli
from bench.common.processes import Measured, measure, python_environment
from bench.common.report import read_json, write_json

Result = TypeVar("Result")

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def start(
    module: str, job: dict[str, Any], folder: Path, *arguments: object, **environment: str
) -> Measured:
    """Runs `python -m MODULE FOLDER/job.json ARGUMENTS...` with the job in that file."""
    path = folder / "job.json"
    write_json(path, job)
    command = [sys.executable, "-m", module, path, *arguments]
    return measure(command, folder, python_environment(**environment))


def train(job: dict[str, Any], module: str) -> dict[str, Any]:
    """Runs a job in its own process, unless an earlier call has; returns its run.json.

    Args:
        job: JSON values; `folder` is where the job and its outputs are written.
        module: called with the path of the job file; writes run.json next to it.
    """
    folder = Path(job["folder"])
    result = folder / "run.json"
    if not (result.exists() and read_json(folder / "job.json") == job):
        shutil.rmtree(folder, ignore_errors=True)
        start(module, job, folder, **ONE_THREAD)
    return read_json(result)


def run_folder(work: Path, *parts: object) -> str:
    """Where a run of these parts is saved, such as architecture, name, rate and seed."""
    name = "-".join(str(part) for part in parts if part != "")
    return str(work / "runs" / name.replace(",", "").replace(" ", "-"))


def count_steps(
    tried: Mapping[str, dict[str, Any]],
    attempts: int,
    train: Callable[[dict[str, Any]], dict[str, Any]],
    folder: Callable[..., str],
    workers: int,
) -> dict[str, list[int]]:
    """Numbers of steps that fit the budget of each of some jobs, from several short runs.

    Args:
        folder: where a run is saved: called with `calibration`, the name of the job and a seed.
    """
    counts: dict[str, list[int]] = {name: [] for name in tried}
    for seed in range(1, 1 + attempts):
        jobs = [
            job | {"seed": seed, "steps": None, "folder": folder("calibration", name, seed)}
            for name, job in tried.items()
        ]
        for name, result in zip(tried, run_parallel(train, jobs, workers), strict=True):
            counts[name].append(result["steps"])
        cli.progress(f"steps that fit so far: {counts}")
    return counts


def run_parallel(
    work: Callable[[dict[str, Any]], Result], jobs: Sequence[dict[str, Any]], workers: int
) -> list[Result]:
    """Runs up to `workers` jobs at a time, each on its own core while there are enough cores."""
    cores = sorted(os.sched_getaffinity(0))
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(workers):
        free.put(cores[number % len(cores)])

    def pin_to_core() -> None:
        # Applies to this thread only; the processes that it starts inherit it.
        os.sched_setaffinity(0, {free.get()})

    with ThreadPoolExecutor(workers, initializer=pin_to_core) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
