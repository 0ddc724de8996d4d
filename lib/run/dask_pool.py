"""Parallel map over tasks on the workers of a Dask cluster, with the contract of `lib.run.pool`.

Tasks and results are small; the files are on a disk that all machines share. A worker with other
code, other versions or another disk is refused. Nothing is lost with a worker: files appear
complete or not at all, and Dask runs its tasks on another worker. When this process ends, for any
reason, the connection closes, and the scheduler drops its tasks.
"""

import atexit
import pickle
import queue
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
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
from lib.run.dask_task import IDENTITY  # noqa: E402
from lib.run.errors import UserError  # noqa: E402
from lib.run.progress import Progress  # noqa: E402
from lib.run.stage import scratch  # noqa: E402

T = TypeVar("T")
R = TypeVar("R")

_CONNECT_SECONDS = 15
_POLL_SECONDS = 2.0
# The run fails if for this long no worker accepts tasks.
_NO_WORKER_SECONDS = 60.0


@lru_cache(1)
def connect(address: str) -> "Cluster":
    """The connection to a scheduler, made once per process.

    Raises:
        UserError: there is none at the address.
    """
    return Cluster(address)


class Cluster:
    """A connection to a scheduler, and a folder on the shared disk for the attempts at tasks."""

    def __init__(self, address: str) -> None:
        self._address = address
        # Dask also compares versions, and warns about some that do not matter.
        warnings.filterwarnings("ignore", module="distributed")
        try:
            self.client = Client(
                address, timeout=_CONNECT_SECONDS, name="domain-bert", set_as_default=False
            )
        except (OSError, ImportError, ValueError) as failure:
            raise UserError(
                f"{address}: no Dask scheduler there ({failure}); start it, or remove "
                "cluster.scheduler and DASK_SCHEDULER_ADDRESS"
            ) from None
        atexit.register(self.client.close)
        self._folder = (scratch() / "cluster" / uuid.uuid4().hex).absolute()
        self._folder.mkdir(parents=True)
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._last_running = time.monotonic()
        threads = max(self.client.nthreads().values(), default=1)
        if threads > 1:
            print(
                f"{address}: note: workers there have up to {threads} threads, but run one task at "
                "a time; start them with --nworkers N --nthreads 1",
                file=sys.stderr,
            )

    def _check(self) -> None:
        """Checks that the scheduler is there, and workers that accept tasks."""
        if self.client.status != "running":
            raise self._gone()
        workers = self.client.scheduler_info()["workers"].values()
        states = {worker["status"] for worker in workers}
        if "running" in states:
            self._last_running = time.monotonic()
        elif time.monotonic() - self._last_running > _NO_WORKER_SECONDS:
            problem = "no workers there; start some"
            if "paused" in states:
                problem = (
                    "its workers are paused because their memory is nearly full; start them with a "
                    "larger --memory-limit"
                )
            raise UserError(f"{self._address}: {problem}, and run the same command again")

    def _gone(self) -> UserError:
        return UserError(
            f"{self._address}: the Dask scheduler no longer responds; start it and its workers, "
            "and run the same command again"
        )

    def map(
        self, function: Callable[[T], R], tasks: Sequence[T], label: str, progress: Progress
    ) -> list[R]:
        """`lib.run.pool.shard_map` on the workers of this cluster.

        Raises:
            UserError: the scheduler or all workers are gone, a worker is refused, or a task killed
                its workers, and is named.
        """

        # Nested, so that Dask sends its code: the scheduler unpickles it without having ours.
        def remote(*arguments: Any) -> bytes:
            from lib.run.dask_task import run_task

            return run_task(*arguments)

        run = f"{label.replace(' ', '-')}-{uuid.uuid4().hex[:8]}"
        finished: queue.SimpleQueue[tuple[int, Future]] = queue.SimpleQueue()
        pending: dict[int, Future] = {}
        # How often Dask has given up a task because workers that had it died.
        given_up = [0] * len(tasks)

        def submit(indices: Iterable[int]) -> None:
            indices = list(indices)
            futures = self.client.map(
                remote,
                [IDENTITY] * len(indices),
                [str(Path.cwd())] * len(indices),
                [str(self._folder / f"{run}-{index}") for index in indices],
                [pickle.dumps((function, tasks[index])) for index in indices],
                # To Dask, equal keys mean equal results: submitted again, a task needs a new one.
                key=[f"{run}-{index}-{given_up[index]}" for index in indices],
                pure=False,
            )
            for index, future in zip(indices, futures, strict=True):
                pending[index] = future
                future.add_done_callback(lambda done, index=index: finished.put((index, done)))

        results: dict[int, R] = {}
        self._last_running = time.monotonic()
        try:
            submit(range(len(tasks)))
            while pending:
                try:
                    index, future = finished.get(timeout=_POLL_SECONDS)
                    outcome = pickle.loads(future.result(timeout=_POLL_SECONDS))
                except queue.Empty:
                    self._check()
                    continue
                except TimeoutError:
                    # The worker that had the result died, and the task is running again.
                    finished.put((index, future))
                    self._check()
                    continue
                except KilledWorker:
                    given_up[index] += 1
                    if given_up[index] < MAX_ATTEMPTS:
                        submit([index])
                        continue
                    outcome = None
                except (CancelledError, OSError):
                    raise self._gone() from None
                except Exception as failure:
                    raise UserError(
                        f"{self._address}: a worker there cannot run the project's code "
                        f"({failure!r}); start it again, in the project's folder"
                    ) from None
                if outcome is None:
                    raise UserError(
                        f"{tasks[index]}: its worker died {MAX_ATTEMPTS} times; if its memory was "
                        "full, start workers with a larger --memory-limit, or fewer per machine"
                    )
                succeeded, value = outcome
                if not succeeded:
                    raise value
                results[index] = value
                del pending[index]
                progress.advance()
        finally:
            if pending and self.client.status == "running":
                self.client.cancel(list(pending.values()), force=True)
        return [results[index] for index in range(len(tasks))]
