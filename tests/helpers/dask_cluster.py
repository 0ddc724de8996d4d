"""A Dask cluster of local processes."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import psutil
from distributed import Client

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
