"""A run of training that may use so many seconds of processor time.

What counts is the time of the whole process (all of its threads) from the making of the model to
the last step: reading, compiling and training. Imports, the tokenization of text and the writing
of models on the way do not. The learning rate's schedule needs a number of steps beforehand; it
comes from a short run of the same thing in the same process.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What happens once happens in these steps; so many others at least tell what a step costs.
_FIRST_STEPS, _COUNTED_STEPS = 3, 5
# More steps than any calibration makes, so that its rate stays in the warm-up.
ENDLESS = 1_000_000

Save = Callable[[Path], None]


class Meter:
    """Is told of each step, keeps models at equal distances, and says when to stop."""

    def __init__(
        self,
        limit: float,
        steps: int = ENDLESS,
        points: int = 0,
        folder: Path | None = None,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        """
        Args:
            limit: seconds of processor time.
            steps: those that the schedule is made for: it ends after them too.
            points: models to keep in `folder`, the last one at the end.
        """
        self._limit, self._planned, self._points, self._folder = limit, steps, points, folder
        self._clock = clock
        self._start, self._aside = clock(), 0.0
        self.steps, self.used = 0, 0.0
        self.kept: list[dict[str, Any]] = []

    def step(self, save: Save) -> bool:
        """To be called after each optimizer step. True: it was the last one."""
        self.used = self._clock() - self._start - self._aside
        self.steps += 1
        last = self.used >= self._limit or self.steps >= self._planned
        if self._folder and self._points:
            reached = math.floor(self.used / self._limit * self._points)
            if last or min(reached, self._points - 1) > len(self.kept):
                target = self._folder / f"{len(self.kept):02d}"
                save(target)
                self.kept.append(
                    {"model": str(target), "step": self.steps, "cpu_seconds": self.used}
                )
        self._aside = self._clock() - self._start - self.used
        return last


class Calibration(Meter):
    """Finds out what a step costs."""

    def step(self, save: Save) -> bool:
        """To be called after each optimizer step. True: that will do."""
        super().step(save)
        if self.steps == _FIRST_STEPS:
            self._first = self.used
        return (
            self.steps >= _FIRST_STEPS + _COUNTED_STEPS and self.used - self._first >= self._limit
        )

    def steps_in(self, limit: float) -> int:
        """How many steps so many seconds are enough for."""
        each = (self.used - self._first) / (self.steps - _FIRST_STEPS)
        return max(_FIRST_STEPS + round((limit - self._first) / each), _FIRST_STEPS)


def run(path: Path, train: Callable[[dict[str, Any], int, Meter], None]) -> None:
    """Trains the job of a JSON file, once shortly and once in earnest, and writes run.json.

    Args:
        path: a file with `calibration_seconds`, `cpu_seconds`, `points` and what `train` needs.
        train: (job, steps of the schedule, meter): makes the model anew and trains it.
    """
    job = json.loads(path.read_text(encoding="utf-8"))
    calibration = Calibration(job["calibration_seconds"])
    train(job, ENDLESS, calibration)
    steps = calibration.steps_in(job["cpu_seconds"])
    meter = Meter(job["cpu_seconds"], steps, job["points"], path.parent / "models")
    train(job, steps, meter)
    result = {
        "planned_steps": steps,
        "steps": meter.steps,
        "cpu_seconds": meter.used,
        "points": meter.kept,
    }
    path.with_name("run.json").write_text(json.dumps(result), encoding="utf-8")
