"""Training runs with a budget of processor time.

The budget counts the processor time of the whole process (all threads) from building the model to
the last step: reading, compiling and training. It does not count imports, the tokenization of text
or the saving of models during the run. A learning-rate schedule needs the number of steps in
advance, and other load on the machine makes every step more expensive. So the number of steps that
fit is found once, by short calibration runs on an idle machine, and all runs of a system make that
number of steps.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.common.report import read_json, write_json

# The first steps contain one-off costs; at least this many more give the cost of a step.
FIRST_STEPS, _TIMED_STEPS = 3, 5
# More steps than any calibration makes, so that its learning rate stays in the warm-up.
ENDLESS = 1_000_000

Save = Callable[[Path], None]


class Meter:
    """Counts steps and processor time, saves models at equal intervals, ends the run."""

    def __init__(
        self,
        steps: int = ENDLESS,
        points: int = 0,
        folder: Path | None = None,
        clock: Callable[[], float] = time.process_time,
        free_steps: int = 0,
    ) -> None:
        """
        Args:
            steps: length of the run.
            points: number of models to save in `folder`, the last one after the last step.
            free_steps: time counts from the end of so many steps, instead of from now.
        """
        self._free_steps = free_steps
        self._steps, self._folder, self._clock = steps, folder, clock
        self._save_at = {math.ceil(steps * part / points) for part in range(1, points + 1)}
        self._start, self._excluded = clock(), 0.0
        self.steps, self.used = 0, 0.0
        self.saved: list[dict[str, Any]] = []

    def step(self, save: Save) -> bool:
        """Must be called after each optimizer step; returns True after the last one."""
        self.used = self._clock() - self._start - self._excluded
        self.steps += 1
        if self.steps == self._free_steps:
            self._start, self._excluded, self.used = self._clock(), 0.0, 0.0
        if self._folder and self.steps in self._save_at:
            target = self._folder / f"{len(self.saved):02d}"
            save(target)
            self.saved.append({"model": str(target), "step": self.steps, "cpu_seconds": self.used})
        self._excluded = self._clock() - self._start - self.used
        return self.steps >= self._steps


class Calibration(Meter):
    """Measures what a step costs."""

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.process_time,
        free_steps: int = 0,
    ) -> None:
        """
        Args:
            seconds: processor time for which steps are measured, after the first ones.
            free_steps: see `Meter`.
        """
        super().__init__(clock=clock, free_steps=free_steps)
        self._seconds, self.first = seconds, 0.0
        self._ends: list[float] = []

    def step(self, save: Save) -> bool:
        """Must be called after each optimizer step; returns True when enough are measured."""
        super().step(save)
        if self.steps == FIRST_STEPS:
            self.first = self.used
        if self.steps >= FIRST_STEPS:
            self._ends.append(self.used)
        return self.steps >= FIRST_STEPS + _TIMED_STEPS and self.used - self.first >= self._seconds

    @property
    def step_seconds(self) -> float:
        """Median duration of a step after the first ones; the median ignores disturbed steps."""
        return statistics.median(end - start for start, end in pairwise(self._ends))

    def steps_in(self, seconds: float) -> int:
        """Number of steps that fit into a budget."""
        return max(FIRST_STEPS + round((seconds - self.first) / self.step_seconds), FIRST_STEPS)


def run(
    path: Path,
    train: Callable[[dict[str, Any], int, Meter], None],
    score: Callable[[dict[str, Any], dict[str, Any]], None] | None = None,
) -> None:
    """Trains the job of a JSON file and finally writes run.json next to it.

    Args:
        path: job file with `steps`, `points` (number of models to save) and what `train` reads. If
            `steps` is null, this is a calibration: it measures steps for `calibration_seconds` and
            reports how many fit into `cpu_seconds`. With `compilation` false, the first steps, in
            which models are compiled, do not count.
        train: called with the job, the number of steps of the schedule and the meter; builds the
            model and trains it.
        score: called with the job and the result; adds scores to the result's `points`. Not called
            in a calibration.
    """
    job = read_json(path)
    free_steps = 0 if job.get("compilation", True) else FIRST_STEPS
    if job["steps"] is None:
        calibration = Calibration(job["calibration_seconds"], free_steps=free_steps)
        train(job, ENDLESS, calibration)
        result: dict[str, Any] = {
            "steps": calibration.steps_in(job["cpu_seconds"]),
            "first_seconds": calibration.first,
            "step_seconds": calibration.step_seconds,
        }
    else:
        meter = Meter(job["steps"], job["points"], path.parent / "models", free_steps=free_steps)
        train(job, job["steps"], meter)
        result = {"steps": meter.steps, "cpu_seconds": meter.used, "points": meter.saved}
        if score:
            score(job, result)
    write_json(path.with_name("run.json"), result)


def calibrated_steps(
    path: Path, settings: Any, calibrate: Callable[[], Mapping[str, Sequence[int]]]
) -> dict[str, int]:
    """Steps of each system that fit the budget, calibrated once and then read from a JSON file.

    Args:
        path: file of an earlier call; used if its `settings` are equal to these.
        settings: JSON value with everything that the number of steps depends on.
        calibrate: returns for each system the numbers of steps that fit; their median is used.
    """
    if path.exists():
        earlier = read_json(path)
        if earlier["settings"] == json.loads(json.dumps(settings)):
            return dict(earlier["steps"])
    found = calibrate()
    steps = {system: round(statistics.median(counts)) for system, counts in found.items()}
    write_json(path, {"settings": settings, "found": found, "steps": steps})
    return steps
