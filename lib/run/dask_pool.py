"""The shard map on the workers of a Dask cluster: the same contract as with processes here.

Tasks and results are small; the files are on a disk that all machines share. Workers with other
code, other versions or another disk are refused. A lost worker takes nothing with it: files appear
whole or not at all, and Dask gives its task to another. When this process ends, in whatever way,
the scheduler drops what it had asked for.
"""

import atexit
import pickle
import queue
import shutil
import signal
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import dask.config

# Before Dask sets up its logging: its lines would stand between ours.
_LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application")
dask.config.set({"logging": dict.fromkeys(_LOGGERS, "critical")})

from distributed import Client, Future, KilledWorker  # noqa: E402

from lib.run.dask_task import DIED, DONE, FAILED, pack, tries, write_ticket  # noqa: E402
from lib.run.errors import UserError  # noqa: E402
from lib.run.pool import TRIES  # noqa: E402
from lib.run.progress import Progress  # noqa: E402
from lib.run.stage import exit_with_dvc, scratch  # noqa: E402

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 15
_LOOK_SECONDS = 2.0
# Without a worker that takes tasks for so long there is nothing to wait for.
_PATIENCE_SECONDS = 60.0
_SHARED_SECONDS = 10.0  # that a file may take to be seen on another machine


def on_cluster(
    function: Callable[[T], R],
    tasks: Sequence[T],
    address: str,
    label: str,
    progress: Progress,
) -> list[R]:
    """`lib.run.pool.shard_map` on the workers of the scheduler at `address`.

    Raises:
        UserError: the scheduler or all workers are gone, a worker is refused, or a task killed its
            workers; it is named.
    """
    if not tasks:
        return []
    return _connect(address).map(function, tasks, label, progress)


@lru_cache(1)
def _connect(address: str) -> "_Cluster":
    """One connection for all passes of a stage."""
    return _Cluster(address)


class _Cluster:
    def __init__(self, address: str) -> None:
        self._address = address
        # The scheduler notices by the connection that this process has ended.
        exit_with_dvc(signal.SIGTERM)
        # Dask compares versions, too, and warns of some that do not matter.
        warnings.filterwarnings("ignore", module="distributed")
        try:
            self._client = Client(
                address, timeout=_CONNECT_SECONDS, name="domain-bert", set_as_default=False
            )
        except (OSError, ImportError, ValueError) as failure:
            raise UserError(
                f"{address}: no Dask scheduler answers there ({failure}); start it, or leave out "
                "cluster.scheduler and DASK_SCHEDULER_ADDRESS"
            ) from None
        atexit.register(self._client.close)
        folder = (scratch() / "cluster" / uuid.uuid4().hex).absolute()
        folder.mkdir(parents=True)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._ticket = folder / "ticket.json"
        write_ticket(self._ticket)
        self._taken_at = time.monotonic()
        while not self._look():
            time.sleep(0.2)
        self._check_workers()

    def _look(self) -> int:
        """Workers that take tasks.

        Raises:
            UserError: the scheduler is gone, or there have been no such workers for a minute.
        """
        if self._client.status != "running":
            raise self._gone()
        states = [worker["status"] for worker in self._client.scheduler_info()["workers"].values()]
        taking = states.count("running")
        now = time.monotonic()
        if taking:
            self._taken_at = now
        elif now - self._taken_at > _PATIENCE_SECONDS:
            paused = states.count("paused")
            raise UserError(
                f"{self._address}: "
                + (
                    f"its {paused} workers take no tasks, because their memory is nearly full; "
                    "start them with a larger --memory-limit"
                    if paused
                    else "no workers there; start some"
                )
                + ", and run the same command again"
            )
        return taking

    def _gone(self) -> UserError:
        return UserError(
            f"{self._address}: the Dask scheduler does not answer any more; start it and its "
            "workers, and run the same command again"
        )

    def _check_workers(self) -> None:
        """Has every worker show that it is like us; one that comes later does at its first task."""

        # Dask sends the code of a function that is defined in another: workers that lack ours can
        # run it.
        def probe(ticket: str) -> tuple[bool, str]:
            from pathlib import Path

            try:
                from lib.run import dask_task
            except ImportError as failure:
                return False, (
                    f"cannot import the project's code ({failure}); start it in the project's "
                    "folder by `python -m distributed.cli.dask_worker`"
                )
            try:
                return True, dask_task.show(Path(ticket)).name
            except dask_task.WorkerRefusedError as error:
                return False, str(error)

        answers = self._client.run(probe, str(self._ticket), on_error="return")
        for worker, answer in answers.items():
            if isinstance(answer, OSError):
                continue  # It has ended meanwhile.
            if isinstance(answer, Exception):
                raise self._refused(
                    worker, f"has other code in memory ({answer!r}); start it again"
                )
            good, said = answer
            if not good:
                raise self._refused(worker, said)
            self._wait_for(worker, self._ticket.with_name(said))
        threads = max(
            (each["nthreads"] for each in self._client.scheduler_info()["workers"].values()),
            default=1,
        )
        if threads > 1:
            print(
                f"{self._address}: note: workers there have up to {threads} threads, and do one "
                "task at a time; start them with --nworkers N --nthreads 1",
                file=sys.stderr,
            )

    def _refused(self, worker: str, why: str) -> UserError:
        return UserError(f"{self._address}: worker {worker} {why}")

    def _wait_for(self, worker: str, answer: Path) -> None:
        deadline = time.monotonic() + _SHARED_SECONDS
        while not answer.exists():
            if time.monotonic() > deadline:
                raise self._refused(
                    worker,
                    f"wrote {answer}, and it is not there; the project should be on a disk that "
                    "all machines share, under the same path",
                )
            time.sleep(0.1)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], label: str, progress: Progress
    ) -> list[R]:
        # Code sent as it is, again; the scheduler, which unpacks it, needs none of ours.
        def remote(ticket: str, key: str, packed: bytes) -> bytes:
            from lib.run.dask_task import perform

            return perform(ticket, key, packed)

        run = f"{label.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        keys = [f"{run}-{number}" for number in range(len(tasks))]
        packed = [pack(function, task) for task in tasks]
        done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        pending: dict[int, Future] = {}
        given_up = dict.fromkeys(range(len(tasks)), 0)
        number_of: dict[str, int] = {}

        def give(numbers: Sequence[int]) -> None:
            # A key stands for its result; a second request needs another.
            names = [f"{keys[number]}-{given_up[number]}" for number in numbers]
            futures = self._client.map(
                remote,
                [str(self._ticket)] * len(numbers),
                [keys[number] for number in numbers],
                [packed[number] for number in numbers],
                key=names,
                pure=False,
            )
            for name, number, future in zip(names, numbers, futures, strict=True):
                number_of[name] = number
                pending[number] = future
                future.add_done_callback(done.put)

        results: dict[int, R] = {}
        try:
            give(range(len(tasks)))
            while pending:
                try:
                    future = done.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    self._look()
                    continue
                number = number_of[str(future.key)]
                task = tasks[number]
                answer = self._take(future, task)
                if answer is None:
                    given_up[number] += 1
                    begun = len(tries(self._ticket, keys[number]))
                    if TRIES in (begun, given_up[number]):
                        raise self._died(task, keys[number])
                    give([number])
                    continue
                kind, value = answer
                if kind == DIED:
                    raise self._died(task, keys[number])
                if kind == FAILED:
                    raise value
                if kind != DONE:
                    raise UserError(f"{self._address}: a worker that came later, {value}")
                results[number] = value
                del pending[number]
                progress.advance()
        finally:
            if pending and self._client.status == "running":
                self._client.cancel(list(pending.values()), force=True)
        return [results[number] for number in range(len(tasks))]

    def _take(self, future: Future, task: object) -> tuple[str, Any] | None:
        """The answer of a task; None: too many workers died that had it, by Dask's count."""
        while True:
            try:
                return pickle.loads(future.result(timeout=_LOOK_SECONDS))
            except KilledWorker:
                return None
            except (CancelledError, OSError) as failure:
                if not isinstance(failure, TimeoutError):
                    raise self._gone() from None
                self._look()  # The worker that had the result died: it is being made again.
            except Exception as failure:
                raise UserError(
                    f"{task}: a worker that came later cannot run the project's code "
                    f"({failure!r}); start it again, in the project's folder"
                ) from None

    def _died(self, task: object, key: str) -> UserError:
        try:
            logs = self._client.get_worker_logs(nanny=True)
        except Exception:  # Whatever it is, that the task failed is the news.
            logs = {}
        lines = [line for log in logs.values() for _, line in log if "memory" in line]
        processes = [mark.read_text() for mark in tries(self._ticket, key)]
        if any(f"(pid={process})" in line for process in processes for line in lines):
            return UserError(
                f"{task}: its worker was ended {TRIES} times because its memory was full; start "
                "workers with a larger --memory-limit"
            )
        return UserError(
            f"{task}: its worker died {TRIES} times; if memory ran out, start fewer workers on a "
            "machine"
        )
