"""Runs of training as processes of one thread, so many at a time."""

import json
import os
import queue
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.common.processes import measure
from bench.common.project import ROOT
from bench.common.report import write_json

_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def environment() -> dict[str, str]:
    """Of a run's processes: one thread each, the project to import from, no network."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | _ENVIRONMENT | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": path}


def train(job: dict[str, Any], module: str) -> dict[str, Any]:
    """Runs a job in a process of its own, unless it has been; returns what it wrote of itself.

    Args:
        job: with its `folder`.
        module: takes the path of the job's JSON file; it writes run.json beside it.
    """
    folder = Path(job["folder"])
    path, made = folder / "job.json", folder / "run.json"
    if not (made.exists() and json.loads(path.read_text(encoding="utf-8")) == job):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(path, job)
        measure([sys.executable, "-m", module, path], folder, environment())
    found: dict[str, Any] = json.loads(made.read_text(encoding="utf-8"))
    return found


def in_pool(
    work: Callable[[dict[str, Any]], dict[str, Any]], todo: Sequence[dict[str, Any]], at_once: int
) -> list[dict[str, Any]]:
    """So many jobs at a time, each on a core of its own as far as there are enough."""
    cores = sorted(os.sched_getaffinity(0))
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(at_once):
        free.put(cores[number % len(cores)])

    def on_one_core() -> None:
        # Of this thread only; the processes that it starts inherit it.
        os.sched_setaffinity(0, {free.get()})

    with ThreadPoolExecutor(at_once, initializer=on_one_core) as pool:
        waiting = [pool.submit(work, job) for job in todo]
        try:
            return [done.result() for done in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
