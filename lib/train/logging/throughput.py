"""Throughput of training: speed, utilisation of the device, and memory, as a CSV file.

The file is in results/cost, not among the results, which are the same in every run.
"""

import resource
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
    "fraction_of_peak",
    "memory_mib",
    "device_memory_mib",
)


class Throughput:
    """Log of rates, each over the time since the last line."""

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
            path: the CSV file; it is continued if `first_step` is not 0.
            batch_size: sequences per step.
            flops_per_step: floating-point operations of the model per step.
            peak: measures the peak FLOP/s of all devices together.
        """
        self._path, self._step, self._batch_size = path, first_step, batch_size
        self._flops, self._measure, self._peak = flops_per_step, peak, 0.0
        self._then = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not first_step or not path.exists():
            path.write_text(",".join(("step", *_COLUMNS)) + "\n", encoding="utf-8")

    def log(self, step: int, tokens_per_step: float) -> str:
        """Writes a line; returns tokens per second and utilisation as text for the progress line.

        Args:
            tokens_per_step: without padding.
        """
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._then, 1e-9)
        if not self._peak:
            self._peak = self._measure()
        flops = rate * self._flops
        self._step, self._then = step, now
        # Peaks: of this process, and of its fullest GPU.
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10)
        names = [f"GPU:{number}" for number in range(len(tf.config.list_physical_devices("GPU")))]
        peaks = [tf.config.experimental.get_memory_info(name)["peak"] for name in names]
        line = {
            "steps_per_second": round(rate, 3),
            "sequences_per_second": round(rate * self._batch_size, 1),
            "tokens_per_second": round(rate * tokens_per_step),
            "flops_per_second": round(flops),
            "fraction_of_peak": round(flops / self._peak, 4),
            "memory_mib": round(memory),
            "device_memory_mib": round(max(peaks, default=0) / (1 << 20)),
        }
        with about(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(",".join(map(str, (step, *line.values()))) + "\n")
        return f"{line['tokens_per_second']:,} tokens/s ({line['fraction_of_peak']:.0%} of peak)"

    def resume(self) -> None:
        """Restarts the clock after something that is not training: evaluation, writing a model."""
        self._then = time.monotonic()
