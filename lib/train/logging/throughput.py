"""How fast training is, how much of the machine that is, and what it holds in memory.

Into a file of the run's costs, beside `results/cost/*.json` and not among the results, which are
the same in every run.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lib.run import tf
from lib.run.errors import about

_COLUMNS = (
    "steps_per_second",
    "sequences_per_second",
    "tokens_per_second",
    "flops_per_second",
    "share_of_peak",
    "memory_mib",
    "device_memory_mib",
)


class Throughput:
    """Rates between two lines of the log."""

    def __init__(
        self,
        path: Path,
        first_step: int,
        batch_size: int,
        flops_per_step: float,
        peak: Callable[[], float],
    ) -> None:
        """
        Args:
            path: the CSV file to write anew, or to go on with after `first_step`.
            batch_size: rows of a step.
            flops_per_step: floating-point operations of the model in a step.
            peak: measures how many a second all devices together could do at best.
        """
        self._path, self._step, self._batch_size = path, first_step, batch_size
        self._flops, self._measure, self._peak = flops_per_step, peak, 0.0
        self._then = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not first_step or not path.exists():
            path.write_text(",".join(("step", *_COLUMNS)) + "\n", encoding="utf-8")

    def log(self, step: int, tokens_per_step: float) -> str:
        """Writes a line; gives tokens a second (without padding) and share of the peak, to show."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._then, 1e-9)
        if not self._peak:
            self._peak = self._measure()
        flops = rate * self._flops
        self._step, self._then = step, now
        line = {
            "steps_per_second": round(rate, 3),
            "sequences_per_second": round(rate * self._batch_size, 1),
            "tokens_per_second": round(rate * tokens_per_step),
            "flops_per_second": round(flops),
            "share_of_peak": round(flops / self._peak, 4),
            "memory_mib": round(_memory_mib()),
            "device_memory_mib": round(_device_memory_mib()),
        }
        with about(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(",".join(map(str, (step, *line.values()))) + "\n")
        return f"{line['tokens_per_second']:,} tokens/s ({line['share_of_peak']:.0%} of peak)"

    def start(self) -> None:
        """Goes on after a pause that is not the training's: an evaluation, a model written."""
        self._then = time.monotonic()


def _memory_mib() -> float:
    """The most that this process held so far."""
    # Kibibytes on Linux, bytes on macOS.
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _device_memory_mib() -> float:
    """The most that the fullest of this process's GPUs held so far; 0 where there is none."""
    names = [f"GPU:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))]
    peaks = [tf.config.experimental.get_memory_info(name)["peak"] for name in names]
    return max(peaks, default=0) / (1 << 20)
