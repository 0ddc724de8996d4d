"""Training runs as single-threaded processes, several at a time."""

import json
import os
import queue
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.common.processes import measure, python_environment
from bench.common.report import write_json


def environment() -> dict[str, str]:
    """Environment of a run: one thread per process, the project importable, offline."""
    return python_environment(
        OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"
    )


def train(job: dict[str, Any], module: str) -> dict[str, Any]:
    """Runs a job in its own process, unless an earlier call has; returns its run.json.

    Args:
        job: JSON values; `folder` is where the job and its outputs are written.
        module: called with the path of the job file; writes run.json next to it.
    """
    folder = Path(job["folder"])
    path, result = folder / "job.json", folder / "run.json"
    if not (result.exists() and json.loads(path.read_text(encoding="utf-8")) == job):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(path, job)
        measure([sys.executable, "-m", module, path], folder, environment())
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def run_parallel(
    work: Callable[[dict[str, Any]], dict[str, Any]], jobs: Sequence[dict[str, Any]], workers: int
) -> list[dict[str, Any]]:
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
