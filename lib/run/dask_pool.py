"""Parallel map over tasks on the workers of a Dask cluster, with the contract of `lib.run.pool`.

Tasks and results are small; the files are on a disk that all machines share. A worker with other
code, other versions or another disk is refused. Nothing is lost with a worker: files appear
complete or not at all, and Dask runs its tasks on another worker. When this process ends, for any
reason, the scheduler drops its tasks.
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

# Set before Dask configures its logging, whose lines would be mixed with ours.
_LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application")
dask.config.set({"logging": dict.fromkeys(_LOGGERS, "critical")})

from distributed import Client, Future, KilledWorker  # noqa: E402

from lib.run.attempts import MAX_ATTEMPTS  # noqa: E402
from lib.run.dask_task import (  # noqa: E402
    DIED,
    DONE,
    FAILED,
    serialize_task,
    unfinished_attempts,
    write_handshake,
)
from lib.run.errors import UserError  # noqa: E402
from lib.run.progress import Progress  # noqa: E402
from lib.run.stage import exit_with_dvc, scratch  # noqa: E402

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 15
_POLL_SECONDS = 2.0
# The run fails if for this long no worker accepts tasks.
_NO_WORKER_SECONDS = 60.0
# Time that a new file may take to appear on another machine.
_FILE_VISIBLE_SECONDS = 10.0


def map_on_cluster(
    function: Callable[[T], R],
    tasks: Sequence[T],
    address: str,
    label: str,
    progress: Progress,
) -> list[R]:
    """`lib.run.pool.shard_map` on the workers of the scheduler at `address`.

    Raises:
        UserError: the scheduler or all workers are gone, a worker is refused, or a task killed its
            workers, and is named.
    """
    if not tasks:
        return []
    return _connect(address).map(function, tasks, label, progress)


@lru_cache(1)
def _connect(address: str) -> "_Cluster":
    """The connection to a scheduler, made once per process."""
    return _Cluster(address)


class _Cluster:
    """A connection to a scheduler whose workers have been checked."""

    def __init__(self, address: str) -> None:
        self._address = address
        # When this process ends, the connection closes, and the scheduler drops its tasks.
        exit_with_dvc(signal.SIGTERM)
        # Dask also compares versions, and warns about some that do not matter.
        warnings.filterwarnings("ignore", module="distributed")
        try:
            self._client = Client(
                address, timeout=_CONNECT_SECONDS, name="domain-bert", set_as_default=False
            )
        except (OSError, ImportError, ValueError) as failure:
            raise UserError(
                f"{address}: no Dask scheduler there ({failure}); start it, or remove "
                "cluster.scheduler and DASK_SCHEDULER_ADDRESS"
            ) from None
        atexit.register(self._client.close)
        folder = (scratch() / "cluster" / uuid.uuid4().hex).absolute()
        folder.mkdir(parents=True)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self._handshake = folder / "handshake.json"
        write_handshake(self._handshake)
        self._last_running = time.monotonic()
        while not self._running_workers():
            time.sleep(0.2)
        self._check_workers()

    def _running_workers(self) -> int:
        """Number of workers that accept tasks.

        Raises:
            UserError: the scheduler is gone, or there have been no such workers for a minute.
        """
        if self._client.status != "running":
            raise self._gone()
        states = [worker["status"] for worker in self._client.scheduler_info()["workers"].values()]
        running = states.count("running")
        now = time.monotonic()
        if running:
            self._last_running = now
        elif now - self._last_running > _NO_WORKER_SECONDS:
            paused = states.count("paused")
            raise UserError(
                f"{self._address}: "
                + (
                    f"its {paused} workers are paused because their memory is nearly full; "
                    "start them with a larger --memory-limit"
                    if paused
                    else "no workers there; start some"
                )
                + ", and run the same command again"
            )
        return running

    def _gone(self) -> UserError:
        return UserError(
            f"{self._address}: the Dask scheduler no longer responds; start it and its workers, "
            "and run the same command again"
        )

    def _check_workers(self) -> None:
        """Checks that every worker is compatible; later ones are checked at their first task."""

        # Dask sends the code of a nested function, so that workers without our code can run it.
        def probe(handshake: str) -> tuple[bool, str]:
            from pathlib import Path

            try:
                from lib.run import dask_task
            except ImportError as failure:
                return False, (
                    f"cannot import the project's code ({failure}); start it in the project's "
                    "folder by `python -m distributed.cli.dask_worker`"
                )
            try:
                return True, dask_task.check_compatible(Path(handshake)).name
            except dask_task.WorkerIncompatibleError as error:
                return False, str(error)

        outcomes = self._client.run(probe, str(self._handshake), on_error="return")
        for worker, outcome in outcomes.items():
            if isinstance(outcome, OSError):
                continue  # It has ended in the meantime.
            if isinstance(outcome, Exception):
                raise self._refused(
                    worker, f"has different code in memory ({outcome!r}); start it again"
                )
            compatible, text = outcome
            if not compatible:
                raise self._refused(worker, text)
            self._wait_for_reply(worker, self._handshake.with_name(text))
        threads = max(
            (each["nthreads"] for each in self._client.scheduler_info()["workers"].values()),
            default=1,
        )
        if threads > 1:
            print(
                f"{self._address}: note: workers there have up to {threads} threads, but run one "
                "task at a time; start them with --nworkers N --nthreads 1",
                file=sys.stderr,
            )

    def _refused(self, worker: str, why: str) -> UserError:
        return UserError(f"{self._address}: worker {worker} {why}")

    def _wait_for_reply(self, worker: str, reply: Path) -> None:
        deadline = time.monotonic() + _FILE_VISIBLE_SECONDS
        while not reply.exists():
            if time.monotonic() > deadline:
                raise self._refused(
                    worker,
                    f"wrote {reply}, which does not exist here; the project should be on a disk "
                    "that all machines share, under the same path",
                )
            time.sleep(0.1)

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], label: str, progress: Progress
    ) -> list[R]:
        # Nested, so that Dask sends its code: the scheduler unpickles it without having ours.
        def remote(handshake: str, key: str, serialized: bytes) -> bytes:
            from lib.run.dask_task import run_task

            return run_task(handshake, key, serialized)

        run = f"{label.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        keys = [f"{run}-{index}" for index in range(len(tasks))]
        serialized = [serialize_task(function, task) for task in tasks]
        finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        pending: dict[int, Future] = {}
        # How often Dask has given up a task because its workers died.
        given_up = [0] * len(tasks)
        index_of: dict[str, int] = {}

        def submit(indices: Sequence[int]) -> None:
            # To Dask, equal keys mean equal results: submitted again, a task needs a new one.
            names = [f"{keys[index]}-{given_up[index]}" for index in indices]
            futures = self._client.map(
                remote,
                [str(self._handshake)] * len(indices),
                [keys[index] for index in indices],
                [serialized[index] for index in indices],
                key=names,
                pure=False,
            )
            for name, index, future in zip(names, indices, futures, strict=True):
                index_of[name] = index
                pending[index] = future
                future.add_done_callback(finished.put)

        results: dict[int, R] = {}
        try:
            submit(range(len(tasks)))
            while pending:
                try:
                    future = finished.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    self._running_workers()
                    continue
                index = index_of[str(future.key)]
                task, key = tasks[index], keys[index]
                outcome = self._outcome(future, task)
                if outcome is None:
                    given_up[index] += 1
                    attempts = len(unfinished_attempts(self._handshake, key))
                    if MAX_ATTEMPTS in (attempts, given_up[index]):
                        raise self._died(task, key)
                    submit([index])
                    continue
                kind, value = outcome
                if kind == DIED:
                    raise self._died(task, key)
                if kind == FAILED:
                    raise value
                if kind != DONE:
                    raise UserError(f"{self._address}: a worker that joined later, {value}")
                results[index] = value
                del pending[index]
                progress.advance()
        finally:
            if pending and self._client.status == "running":
                self._client.cancel(list(pending.values()), force=True)
        return [results[index] for index in range(len(tasks))]

    def _outcome(self, future: Future, task: object) -> tuple[str, Any] | None:
        """What `run_task` returned; None: Dask gave the task up, because too many workers died."""
        while True:
            try:
                return pickle.loads(future.result(timeout=_POLL_SECONDS))
            except KilledWorker:
                return None
            except (CancelledError, OSError) as failure:
                if not isinstance(failure, TimeoutError):
                    raise self._gone() from None
                # The worker that had the result died, and the task is running again.
                self._running_workers()
            except Exception as failure:
                raise UserError(
                    f"{task}: a worker that joined later cannot run the project's code "
                    f"({failure!r}); start it again, in the project's folder"
                ) from None

    def _died(self, task: object, key: str) -> UserError:
        try:
            logs = self._client.get_worker_logs(nanny=True)
        except Exception:  # Without logs the failed task is still worth reporting.
            logs = {}
        lines = [line for log in logs.values() for _, line in log if "memory" in line]
        processes = [path.read_text() for path in unfinished_attempts(self._handshake, key)]
        if any(f"(pid={process})" in line for process in processes for line in lines):
            return UserError(
                f"{task}: its worker was killed {MAX_ATTEMPTS} times because its memory was full; "
                "start workers with a larger --memory-limit"
            )
        return UserError(
            f"{task}: its worker died {MAX_ATTEMPTS} times; if memory ran out, start fewer workers "
            "per machine"
        )
