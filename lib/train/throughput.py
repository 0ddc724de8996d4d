"""How fast training is and what it holds in memory: into a file of the run's costs.

Beside `results/cost/*.json` and not among the results, which are the same in every run.
"""

import resource
import sys
import time
from pathlib import Path

_COLUMNS = "step,steps_per_second,sequences_per_second,tokens_per_second,memory_mib\n"


class Throughput:
    """Rates between two lines of the log."""

    def __init__(self, path: Path, first_step: int, batch_size: int) -> None:
        """
        Args:
            path: the CSV file to write anew, or to go on with after `first_step`.
            batch_size: rows of a step.
        """
        self._path, self._step, self._batch_size = path, first_step, batch_size
        self._then = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not first_step or not path.exists():
            path.write_text(_COLUMNS, encoding="utf-8")

    def log(self, step: int, tokens_per_step: float) -> str:
        """Writes a line; gives the tokens a second (padding left out) for people."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._then, 1e-9)
        self._then, self._step = now, step
        tokens = rate * tokens_per_step
        # Kibibytes on Linux, bytes on macOS.
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
        with self._path.open("a", encoding="utf-8") as file:
            file.write(
                f"{step},{rate:.3f},{rate * self._batch_size:.1f},{tokens:.0f},{memory:.0f}\n"
            )
        return f"{tokens:,.0f} tokens/s"
