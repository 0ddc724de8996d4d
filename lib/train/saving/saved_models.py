"""Models of chosen steps: every so many, the one of the lowest dev loss so far, the first.

They are written beside the checkpoints, where a killed run finds them again, and become an
output of the stage when it ends. A checkpoint says which was the best at its step, so a resumed
run decides as the uninterrupted one would and writes the same again.
"""

import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lib.run.atomic import new_directory

# In the scratch folder of a run.
FOLDER = "models"
_BEST, _INITIAL = "best", "initial"


class KeptModels:
    """The kept models of one run, in its scratch folder."""

    def __init__(self, scratch: Path, every: int | None, write: Callable[[Path], None]) -> None:
        """
        Args:
            every: steps; None keeps only the best.
            write: writes the model as it is now into an empty folder.
        """
        self._folder, self.every, self._write = scratch / FOLDER, every, write
        self.best_step, self.best_loss = 0, math.inf

    def after_step(self, step: int, dev_loss: float | None) -> None:
        """Keeps the model of this step if its time has come, or its dev loss is the lowest."""
        if self.every and step % self.every == 0:
            self._put(f"step-{step}")
        if dev_loss is not None and dev_loss < self.best_loss:
            self._put(_BEST)
            self.best_step, self.best_loss = step, dev_loss

    def _put(self, name: str) -> None:
        with new_directory(self._folder / name) as temporary:
            self._write(temporary)

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint has to hold of it."""
        return {"best/step": np.array(self.best_step), "best/loss": np.array(self.best_loss)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes what `state` gave."""
        self.best_step, self.best_loss = int(state["best/step"]), float(state["best/loss"])

    def keep_start(self, write: Callable[[Path], None]) -> None:
        """Keeps the model that training started from, to be compared with: as it was then, with
        rows for new words and the like."""
        with new_directory(self._folder / _INITIAL) as temporary:
            write(temporary)

    def publish(self, target: Path) -> None:
        """Makes `target` the folder of all kept models."""
        self._folder.mkdir(exist_ok=True)
        with new_directory(target) as temporary:
            shutil.copytree(
                self._folder, temporary, copy_function=_link_or_copy, dirs_exist_ok=True
            )


def _link_or_copy(source: str, target: str) -> None:
    """A second name for the file: models are large, and the first is about to be removed."""
    try:
        os.link(source, target)
    except OSError:  # Scratch may be on another file system.
        shutil.copyfile(source, target)
