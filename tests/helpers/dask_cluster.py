"""A Dask cluster of local processes, and tasks for its workers."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from distributed import Client

from lib.run.errors import UserError
from tests.conftest import ROOT

_TIMEOUT_SECONDS = 120


class Cluster:
    """A scheduler and workers, started like those in docs/cluster.md."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            ROOT, "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file
        )
        self._client = Client(scheduler_file=str(file), set_as_default=False)
        self.address: str = self._client.scheduler.address
        if workers:
            self.add(workers)

    def _start(self, folder: Path, command: str, *options: object) -> subprocess.Popen:
        words = [sys.executable, "-m", f"distributed.cli.{command}", *map(str, options)]
        environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "60"}
        with (self._folder / f"{command}.log").open("ab") as log:
            process = subprocess.Popen(
                [*words, "--no-dashboard"], cwd=folder, env=environment, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def add(self, count: int, folder: Path = ROOT, memory: str = "2GiB") -> subprocess.Popen:
        """Starts workers in a folder; returns when the scheduler has them."""
        expected = len(self.workers()) + count
        options = ("--nworkers", count, "--nthreads", 1, "--memory-limit", memory)
        local = ("--local-directory", self._folder, "--death-timeout", 60)
        process = self._start(folder, "dask_worker", self.address, *options, *local)
        self._client.wait_for_workers(expected, timeout=_TIMEOUT_SECONDS)
        return process

    def workers(self) -> dict[str, int]:
        """Process ids by address."""
        return dict(self._client.run(os.getpid, on_error="ignore"))

    def busy(self) -> list[int]:
        """Process ids of the workers that are running a task."""
        processing = self._client.processing()
        return [process for address, process in self.workers().items() if processing.get(address)]

    def tasks(self) -> int:
        """Number of tasks in the scheduler."""
        return int(self._client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

    def kill(self, process: subprocess.Popen) -> None:
        """Kills the processes started by `add`, or the scheduler."""
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> None:
        self._client.close()
        for process in self._processes:
            if process.poll() is None:
                self.kill(process)


def square(number: int) -> int:
    return number * number


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def path_and_cwd(path: Path) -> tuple[Path, Path]:
    return path, Path.cwd()


def die_once(path: Path) -> str:
    """Kills its own process the first time it is called for a path."""
    if path.name.startswith("mortal") and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def die(path: Path) -> str:
    """Kills its own process for the path `mortal`, and counts the calls in that file."""
    if path.name == "mortal":
        with path.open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return path.name


def fill_memory(path: Path) -> None:
    if path.name == "large":
        memory = []
        while True:
            memory.append(b"x" * (20 << 20))
            time.sleep(0.05)


def sleep_or_fail(seconds: float) -> None:
    time.sleep(seconds)
    if not seconds:
        raise UserError("no")


def refuse(task: str) -> None:
    raise UserError(f"{task}: not good")


def cannot_open(path: Path) -> None:
    path.open()


def divide_by_zero(task: str) -> None:
    raise ZeroDivisionError
