"""Whole processes: how long one takes and how much memory it and its children hold at most."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.run.errors import UserError

_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Measured:
    """One process from its start to its end.

    Attributes:
        wall_seconds: from before the start to after the end.
        peak_mib: the largest resident set of the process or one of its children. By the kernel's
            accounting it is at least what this process held when it started that one.
        peaks_mib: by process id, when asked for: the own peak of each process of the tree, the
            first one first.
    """

    wall_seconds: float
    peak_mib: float
    peaks_mib: dict[int, float] = field(default_factory=dict)


def measure(
    command: Sequence[str | Path],
    folder: Path,
    environment: dict[str, str] | None = None,
    each: bool = False,
) -> Measured:
    """Runs a command in `folder`, its output into the file output.log there.

    Args:
        environment: replaces this process's own.
        each: watch each process of the tree (costs a look at /proc every 20 ms).

    Raises:
        UserError: it failed; the end of its output is shown.
    """
    log = folder / "output.log"
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        peaks: dict[int, float] = {}
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
        if each:
            watcher.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
        except BaseException:
            process.kill()
            raise
        finally:
            done.set()
            if each:
                watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        words = " ".join(map(str, command))
        raise UserError(f"{words}: failed with {process.returncode}: " + " / ".join(tail))
    return Measured(wall, usage.ru_maxrss / 1024, peaks)


def _watch(root: int, peaks: dict[int, float], done: threading.Event) -> None:
    """Keeps the high-water mark of each process of the tree. It only rises, so that the last look
    before a process ends misses what it did after that look and nothing else."""
    while not done.wait(_SAMPLE_SECONDS):
        waiting = [root]
        while waiting:
            number = waiting.pop()
            try:
                status = Path(f"/proc/{number}/status").read_text()
                threads = list(Path(f"/proc/{number}/task").iterdir())
                children = [(thread / "children").read_text().split() for thread in threads]
            except OSError:
                continue  # It has ended.
            _, found, after = status.partition("VmHWM:")
            if found:
                peaks[number] = max(peaks.get(number, 0.0), int(after.split()[0]) / 1024)
            waiting += [int(child) for group in children for child in group]


def alternate(
    first: Callable[[], Measured], second: Callable[[], Measured], repeats: int
) -> tuple[list[Measured], list[Measured]]:
    """Both in turn (first, second, first, second…): what else the machine does hits both."""
    runs: tuple[list[Measured], list[Measured]] = ([], [])
    for _ in range(repeats):
        runs[0].append(first())
        runs[1].append(second())
    return runs
