"""Wall time, processor time and peak memory of whole processes."""

import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import ROOT
from lib.run.errors import UserError

_LAUNCH = Path(__file__).with_name("launch.py")
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Measured:
    """Resources used by one process from start to end.

    Attributes:
        wall_seconds: from before the start to after the end.
        cpu_seconds: user and system time of the process and its children. Nearly independent of
            other load on the machine, but does not include waiting for files.
        peak_mib: largest resident set of the process or any of its children.
        peaks_mib: process id -> peak of that process, the first process first; empty unless
            requested.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    peaks_mib: dict[int, float] = field(default_factory=dict)


def median(runs: Sequence[Measured]) -> Measured:
    """Medians of wall time, processor time and peak memory."""
    walls, cpus, peaks = zip(
        *((run.wall_seconds, run.cpu_seconds, run.peak_mib) for run in runs), strict=True
    )
    return Measured(statistics.median(walls), statistics.median(cpus), statistics.median(peaks))


def python_environment(**variables: str) -> dict[str, str]:
    """Environment of a Python process that can import the project and stays offline."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **variables}


def measure(
    command: Sequence[object],
    folder: Path,
    environment: dict[str, str] | None = None,
    each: bool = False,
) -> Measured:
    """Runs a command in `folder` and writes its output to output.log there.

    Args:
        environment: replaces this process's own.
        each: record the peak of every process of the tree (reads /proc every 20 ms).

    Raises:
        UserError: the command failed; the message ends with its last lines of output.
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
    watcher = threading.Thread(target=_record_peaks, args=(process.pid, peaks, done))
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
        raise UserError(f"{words[0]}: cannot be started in {folder}; check that it is installed")
    code, wall, cpu, peak = report.split()
    if code != "0":
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        raise UserError(f"{' '.join(words)}: failed with exit code {code}: " + " / ".join(tail))
    return Measured(float(wall), float(cpu), float(peak), peaks)


def _record_peaks(root: int, peaks: dict[int, float], done: threading.Event) -> None:
    """Records the high-water mark (VmHWM) of each process below `root`.

    The last sample counts: the mark only rises, except when a new process executes another program.
    """
    while not done.wait(_SAMPLE_SECONDS):
        queue = [root]
        while queue:
            pid = queue.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                threads = list(Path(f"/proc/{pid}/task").iterdir())
                children = [(thread / "children").read_text().split() for thread in threads]
            except OSError:
                continue  # The process has ended.
            _, found, after = status.partition("VmHWM:")
            if found and pid != root:
                peaks[pid] = int(after.split()[0]) / 1024
            queue += [int(child) for group in children for child in group]


def alternate(
    first: Callable[[], Measured], second: Callable[[], Measured], repeats: int
) -> tuple[list[Measured], list[Measured]]:
    """Runs both alternately (first, second, first, second, ...), so that other load hits both."""
    runs: tuple[list[Measured], list[Measured]] = ([], [])
    for _ in range(repeats):
        runs[0].append(first())
        runs[1].append(second())
    return runs
