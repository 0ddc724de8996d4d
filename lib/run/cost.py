"""Cost of a stage: wall time, CPU time and peak memory, written to results/cost.

A stage that resumes a killed run adds the cost of the earlier processes, each of which saved its
own together with its work.
"""

import resource
import time
from contextlib import suppress
from pathlib import Path

from lib.run.metrics import read_metrics, write_metrics

FILE = "cost.json"
"""Name of the file in a run's scratch folder."""


class Cost:
    """The cost of a run so far: of this process, and of the earlier ones that it resumes."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._earlier = {"wall_seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mib": 0.0}

    def values(self) -> dict[str, float]:
        """Seconds, summed over the processes, and the peak memory of the largest one."""
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        peak = max(own.ru_maxrss, children.ru_maxrss) / 1024
        earlier = self._earlier
        return {
            "wall_seconds": round(time.monotonic() - self._started + earlier["wall_seconds"], 3),
            "cpu_seconds": round(cpu_seconds + earlier["cpu_seconds"], 3),
            "peak_memory_mib": round(max(peak, earlier["peak_memory_mib"]), 1),
        }

    def write(self, path: Path) -> None:
        write_metrics(path, self.values())

    def resume(self, path: Path) -> None:
        """Adds the cost that the previous process wrote; does nothing without such a file."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = read_metrics(path)
            self._earlier = {name: float(str(found[name])) for name in self._earlier}


THIS_STAGE = Cost()
"""The cost of the stage that this process runs."""
