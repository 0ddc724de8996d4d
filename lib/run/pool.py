"""Parallel map over tasks: in this process, in worker processes or on a Dask cluster.

Wherever they run, results come in the order of the tasks, the task of a worker that was killed (by
the out-of-memory killer, for example) is retried, and one that kills its workers is named.

Worker processes of this machine are started here. `concurrent.futures` fails all tasks in progress
and in its queue when a worker is killed (6 of 8 in a trial), without a hint at which one killed it.
A `LocalCluster` of Dask would do, but takes 4.2 to 5.1 s for four small tasks in two processes, of
which 2.4 s are processor time; this takes 0.6 to 0.7 s and 0.3 s (2 logical CPUs, machine in use).
"""

import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, TypeVar

from lib.run.attempts import MAX_ATTEMPTS, attempt
from lib.run.errors import UserError
from lib.run.progress import Progress
from lib.run.stage import exit_with_parent

T = TypeVar("T")
R = TypeVar("R")

# Where tasks run: the number of processes on this machine, or the address of a Dask scheduler.
Workers = int | str


def worker_count(requested: int | Literal["auto"]) -> int:
    """Number of worker processes; `auto`: one per core that this process may use."""
    if requested != "auto":
        return requested
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def scheduler_address(value: str) -> str:
    """The address of a Dask scheduler, unchanged.

    Raises:
        ValueError: it is not an address.
    """
    if not re.fullmatch(r"(tcp|tls)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", value):
        raise ValueError("should be the address of a Dask scheduler, such as tcp://host:8786")
    return value


def choose_workers(count: int | Literal["auto"], scheduler: str | None) -> Workers:
    """Where tasks run: on a cluster if there is a scheduler, otherwise in `count` processes.

    Args:
        count: cluster.workers of params.yaml.
        scheduler: cluster.scheduler of params.yaml; None: the environment variable
            DASK_SCHEDULER_ADDRESS, if it is set.

    Raises:
        UserError: the variable is not an address.
    """
    if scheduler is None and (scheduler := os.environ.get("DASK_SCHEDULER_ADDRESS") or None):
        try:
            scheduler_address(scheduler)
        except ValueError as failure:
            raise UserError(f"DASK_SCHEDULER_ADDRESS: {failure}. Received: {scheduler!r}") from None
    return scheduler or worker_count(count)


def _serve(function: Callable[[Any], Any], pipe: Connection) -> None:
    """Main loop of a worker: receives tasks and sends their outcomes (see `attempt`)."""
    exit_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent stops its workers itself.
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(function, task))


def shard_map(
    function: Callable[[T], R],
    tasks: Sequence[T],
    workers: Workers,
    label: str,
    unit: str = "files",
) -> list[R]:
    """Results of `function` for all tasks, in the order of the tasks.

    Args:
        function: importable by name; takes a task and returns small metadata.
        tasks: the function's arguments; `str(task)` names a task in errors.
        workers: the number of worker processes (with 1, or a single task, everything runs in this
            process), or the address of the Dask scheduler whose workers run the tasks.
        label: label of the progress line.
        unit: what a task is, in the plural, for the progress line.

    Raises:
        UserError: a task killed its worker in MAX_ATTEMPTS attempts, and is named; or the cluster
            failed.
    """
    with Progress(label, len(tasks), unit) as progress:
        if isinstance(workers, str) and tasks:
            # Imported here because Dask takes a second to import, and few use it.
            from lib.run.dask_pool import connect

            return connect(workers).map(function, tasks, label, progress)
        if isinstance(workers, int) and min(workers, len(tasks)) > 1:
            return _map_in_processes(function, tasks, min(workers, len(tasks)), progress)
        results = []
        for task in tasks:
            results.append(function(task))
            progress.advance()
        return results


def _map_in_processes(
    function: Callable[[T], R], tasks: Sequence[T], count: int, progress: Progress
) -> list[R]:
    # Spawned, not forked: a fork copies locks that another thread may hold.
    context = multiprocessing.get_context("spawn")
    results: dict[int, R] = {}
    attempts = [0] * len(tasks)
    pending = list(reversed(range(len(tasks))))
    processes: list[BaseProcess] = []
    # By the pipe to each worker that has a task: its process, and the task's index.
    running: dict[Connection, tuple[BaseProcess, int]] = {}

    def assign_task(pipe: Connection, process: BaseProcess) -> None:
        index = pending.pop()
        attempts[index] += 1
        running[pipe] = process, index
        # If the worker is dead, the next `wait` reports it, and the task becomes pending again.
        with suppress(OSError):
            pipe.send(tasks[index])

    def start_worker() -> None:
        our_end, worker_end = context.Pipe()
        process = context.Process(target=_serve, args=(function, worker_end), daemon=True)
        process.start()
        processes.append(process)
        worker_end.close()  # So that the pipe closes when the worker dies.
        assign_task(our_end, process)

    try:
        for _ in range(count):
            start_worker()
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                process, index = running.pop(pipe)
                try:
                    succeeded, outcome = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    if attempts[index] == MAX_ATTEMPTS:
                        raise UserError(
                            f"{tasks[index]}: its worker died {MAX_ATTEMPTS} times (last exit code "
                            f"{process.exitcode}); if memory ran out, lower cluster.workers in "
                            "params.yaml"
                        ) from None
                    pending.append(index)
                    start_worker()
                    continue
                if not succeeded:
                    raise outcome
                results[index] = outcome
                progress.advance()
                if pending:
                    assign_task(pipe, process)
        return [results[index] for index in range(len(tasks))]
    finally:
        for process in processes:
            process.kill()
            process.join()
