"""Whole processes: how long one takes and how much memory it and its children hold at most."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lib.run.errors import UserError

_LAUNCH = Path(__file__).with_name("launch.py")
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Measured:
    """One process from its start to its end.

    Attributes:
        wall_seconds: from before the start to after the end.
        cpu_seconds: of the process and its children. Other work on the machine hardly touches it,
            but it does not count the waiting for files.
        peak_mib: the largest resident set of the process or one of its children.
        peaks_mib: by process id, when asked for: the own peak of each process of the tree, the
            first one first.
    """

    wall_seconds: float
    cpu_seconds: float
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
    words = [str(word) for word in command]
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", _LAUNCH, log, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    peaks: dict[int, float] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
    if each:
        watcher.start()
    try:
        report, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        done.set()
        if each:
            watcher.join()
    if process.returncode:
        raise UserError(f"{words[0]}: cannot be started in {folder}; is it there?")
    code, wall, cpu, peak = report.split()
    if code != "0":
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        raise UserError(f"{' '.join(words)}: failed ({code}): " + " / ".join(tail))
    return Measured(float(wall), float(cpu), float(peak), peaks)


def _watch(root: int, peaks: dict[int, float], done: threading.Event) -> None:
    """Keeps the high-water mark of each process below `root`.

    The last look counts: the mark only rises, except where a new process becomes another program.
    """
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
            if found and number != root:
                peaks[number] = int(after.split()[0]) / 1024
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
