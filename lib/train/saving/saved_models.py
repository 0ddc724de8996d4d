"""Saved models of a run: at fixed steps, at the lowest dev loss so far, and the initial one.

They are written alongside the checkpoints, where a resumed run finds them, and become an output of
the stage when it ends. A checkpoint records the best step so far, so that a resumed run makes the
same decisions as an uninterrupted one and writes the same models.
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


class SavedModels:
    """The saved models of one run, in its scratch folder."""

    def __init__(self, scratch: Path, every: int | None, write: Callable[[Path], None]) -> None:
        """
        Args:
            every: steps between saved models; None saves only the best.
            write: writes the current model into an empty folder.
        """
        self._folder, self.every, self._write = scratch / FOLDER, every, write
        self.best_step, self.best_loss = 0, math.inf

    def after_step(self, step: int, dev_loss: float | None) -> None:
        """Saves the model if it is due at this step, or if its dev loss is the lowest so far."""
        if self.every and step % self.every == 0:
            self._save(f"step-{step}")
        if dev_loss is not None and dev_loss < self.best_loss:
            self._save(_BEST)
            self.best_step, self.best_loss = step, dev_loss

    def _save(self, name: str) -> None:
        with new_directory(self._folder / name) as temporary:
            self._write(temporary)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to store in a checkpoint."""
        return {"best/step": np.array(self.best_step), "best/loss": np.array(self.best_loss)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Sets the state to what `state` returned."""
        self.best_step, self.best_loss = int(state["best/step"]), float(state["best/loss"])

    def save_initial(self, write: Callable[[Path], None]) -> None:
        """Saves the initial model for comparison, with its embeddings for new tokens and the like.

        Args:
            write: writes it into an empty folder.
        """
        with new_directory(self._folder / _INITIAL) as temporary:
            write(temporary)

    def publish(self, target: Path) -> None:
        """Makes `target` a folder of all saved models."""
        self._folder.mkdir(exist_ok=True)
        with new_directory(target) as temporary:
            shutil.copytree(
                self._folder, temporary, copy_function=_link_or_copy, dirs_exist_ok=True
            )


def _link_or_copy(source: str, target: str) -> None:
    """Makes a second name for the file: models are large, and the first is about to be removed."""
    try:
        os.link(source, target)
    except OSError:  # Scratch may be on another file system.
        shutil.copyfile(source, target)
