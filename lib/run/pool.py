"""Shard map: one function over many named tasks, in this process, in several or on a cluster.

`concurrent.futures` gives up when a worker is killed (by the out-of-memory killer, say); here the
task that died with it is handed to a new worker.
"""

import multiprocessing
import os
import re
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeVar

from lib.run.errors import UserError
from lib.run.progress import Progress
from lib.run.stage import exit_with_parent

T = TypeVar("T")
R = TypeVar("R")

TRIES = 3

# How tasks are done: by so many processes here, or by the workers of the Dask scheduler there.
Workers = int | str


def worker_count(wanted: int | Literal["auto"]) -> int:
    """The number asked for, or one per core that this process may use."""
    if wanted != "auto":
        return wanted
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def scheduler_address(value: str) -> str:
    """The address of a Dask scheduler as it is.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"(tcp|tls)://[^\s/]+:[0-9]+", value):
        raise ValueError("should be the address of a Dask scheduler, such as tcp://host:8786")
    return value


def choose_workers(count: int | Literal["auto"], scheduler: str | None) -> Workers:
    """The scheduler, or that of the environment variable DASK_SCHEDULER_ADDRESS, or processes here.

    Raises:
        UserError: the variable holds no address.
    """
    if scheduler is None and (scheduler := os.environ.get("DASK_SCHEDULER_ADDRESS") or None):
        try:
            scheduler_address(scheduler)
        except ValueError as failure:
            raise UserError(f"DASK_SCHEDULER_ADDRESS: {failure}. Received: {scheduler!r}") from None
    return scheduler or worker_count(count)


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    task: int


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    """A worker's life: take a task, give (True, result) or (False, what went wrong)."""
    exit_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent stops its workers itself.
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(function, task))


def attempt(function: Callable[[T], R], task: T) -> tuple[bool, Any]:
    """(True, result) or (False, what went wrong)."""
    try:
        return True, function(task)
    except UserError as error:
        return False, error
    except OSError as error:
        error.filename = error.filename or str(task)
        return False, error
    except Exception:
        return False, RuntimeError(f"{task}: {traceback.format_exc()}")


def shard_map(
    function: Callable[[T], R],
    tasks: Sequence[T],
    workers: Workers,
    label: str,
    unit: str = "files",
) -> list[R]:
    """Results of `function` for each task, in the order of the tasks.

    Args:
        function: importable by name; takes one task, gives back small metadata.
        tasks: what to do; `str(task)` names it in errors.
        workers: with 1 (or one task) everything runs in this process; the address of a Dask
            scheduler: on the workers there.
        label: what the progress line is called.
        unit: what a task is, in the plural, for the progress line.

    Raises:
        UserError: a task killed its worker three times; it is named. Or the cluster is at fault.
    """
    if isinstance(workers, str):
        # Here, because Dask takes a second to import and most work without it.
        from lib.run.dask_pool import on_cluster

        with Progress(label, len(tasks), unit) as progress:
            return on_cluster(function, tasks, workers, label, progress)
    workers = min(workers, len(tasks))
    with Progress(label, len(tasks), unit) as progress:
        if workers <= 1:
            results = []
            for task in tasks:
                results.append(function(task))
                progress.advance()
            return results
        return _in_processes(function, tasks, workers, progress)


def _in_processes(
    function: Callable[[T], R], tasks: Sequence[T], workers: int, progress: Progress
) -> list[R]:
    # Spawned, not forked: a fork copies locks that another thread may hold.
    context = multiprocessing.get_context("spawn")
    results: dict[int, R] = {}
    tries = [0] * len(tasks)
    waiting = list(reversed(range(len(tasks))))
    crew: list[_Worker] = []

    def give(worker: _Worker) -> None:
        worker.task = waiting.pop()
        tries[worker.task] += 1
        # A dead worker is noticed by the next wait, which takes the task back.
        with suppress(OSError):
            worker.pipe.send(tasks[worker.task])

    def hire() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        process.start()
        theirs.close()  # So that the worker's death closes the pipe.
        crew.append(_Worker(process, ours, -1))
        give(crew[-1])

    try:
        for _ in range(workers):
            hire()
        while len(results) < len(tasks):
            ready = wait([worker.pipe for worker in crew])
            for worker in [worker for worker in crew if worker.pipe in ready]:
                try:
                    good, answer = worker.pipe.recv()
                except (EOFError, OSError):
                    crew.remove(worker)
                    worker.process.join()
                    if tries[worker.task] == TRIES:
                        raise UserError(
                            f"{tasks[worker.task]}: its worker died {TRIES} times (last exit code "
                            f"{worker.process.exitcode}); if memory ran out, lower "
                            "cluster.workers in params.yaml"
                        ) from None
                    waiting.append(worker.task)
                    hire()
                    continue
                if not good:
                    raise answer
                results[worker.task] = answer
                progress.advance()
                if waiting:
                    give(worker)
        return [results[index] for index in range(len(tasks))]
    finally:
        for worker in crew:
            worker.process.kill()
            worker.process.join()
