"""A run of training that is as long as so many seconds of processor time allow.

What counts is the time of the whole process (all of its threads) from the making of the model to
the last step: reading, compiling and training. Imports, the tokenization of text and the writing
of models on the way do not. The learning rate's schedule needs a number of steps beforehand, and
what else a machine does makes every step dearer. So the steps are found once, by short runs on a
quiet machine, and all runs of a system make that many.
"""

import json
import math
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from lib.run.atomic import write_text

# What happens once happens in these steps; so many others at least tell what a step costs.
_FIRST_STEPS, _COUNTED_STEPS = 3, 5
# More steps than any calibration makes, so that its rate stays in the warm-up.
ENDLESS = 1_000_000

Save = Callable[[Path], None]


class Meter:
    """Is told of each step, keeps models at equal distances, and says when to stop."""

    def __init__(
        self,
        steps: int = ENDLESS,
        points: int = 0,
        folder: Path | None = None,
        clock: Callable[[], float] = time.process_time,
    ) -> None:
        """
        Args:
            steps: of the run.
            points: models to keep in `folder`, the last one at the end.
        """
        self._steps, self._folder, self._clock = steps, folder, clock
        self._keep_at = {math.ceil(steps * part / points) for part in range(1, points + 1)}
        self._start, self._aside = clock(), 0.0
        self.steps, self.used = 0, 0.0
        self.kept: list[dict[str, Any]] = []

    def step(self, save: Save) -> bool:
        """To be called after each optimizer step. True: it was the last one."""
        self.used = self._clock() - self._start - self._aside
        self.steps += 1
        if self._folder and self.steps in self._keep_at:
            target = self._folder / f"{len(self.kept):02d}"
            save(target)
            self.kept.append({"model": str(target), "step": self.steps, "cpu_seconds": self.used})
        self._aside = self._clock() - self._start - self.used
        return self.steps >= self._steps


class Calibration(Meter):
    """Finds out what a step costs."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.process_time) -> None:
        """
        Args:
            seconds: of processor time to watch steps for, after the first ones.
        """
        super().__init__(clock=clock)
        self._seconds, self.first = seconds, 0.0
        self._ends: list[float] = []

    def step(self, save: Save) -> bool:
        """To be called after each optimizer step. True: that will do."""
        super().step(save)
        if self.steps == _FIRST_STEPS:
            self.first = self.used
        if self.steps >= _FIRST_STEPS:
            self._ends.append(self.used)
        return (
            self.steps >= _FIRST_STEPS + _COUNTED_STEPS and self.used - self.first >= self._seconds
        )

    @property
    def each(self) -> float:
        """Seconds of a step, once the first ones are made: the median, as some are disturbed."""
        return statistics.median(end - start for start, end in pairwise(self._ends))

    def steps_in(self, limit: float) -> int:
        """How many steps so many seconds are enough for."""
        return max(_FIRST_STEPS + round((limit - self.first) / self.each), _FIRST_STEPS)


def run(
    path: Path,
    train: Callable[[dict[str, Any], int, Meter], None],
    score: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> None:
    """Trains the job of a JSON file and writes run.json beside it, when all is done.

    Args:
        path: a file with `steps` and `points` (models to keep on the way), and what `train` needs.
            Where `steps` is null, the run only finds out how many `cpu_seconds` are enough for; it
            watches them for `calibration_seconds`.
        train: (job, steps of the schedule, meter): makes the model anew and trains it.
        score: (job, what was made): adds to the latter's `points`; not called to find out.
    """
    job = json.loads(path.read_text(encoding="utf-8"))
    if job["steps"] is None:
        calibration = Calibration(job["calibration_seconds"])
        train(job, ENDLESS, calibration)
        result: dict[str, Any] = {
            "steps": calibration.steps_in(job["cpu_seconds"]),
            "first_seconds": calibration.first,
            "step_seconds": calibration.each,
        }
    else:
        meter = Meter(job["steps"], job["points"], path.parent / "models")
        train(job, job["steps"], meter)
        result = {"steps": meter.steps, "cpu_seconds": meter.used, "points": meter.kept}
        if score:
            score(job, result)
    write_text(path.with_name("run.json"), json.dumps(result))
