"""Saved models of a run: at fixed steps, at the lowest dev loss so far, and the initial one.

They are written alongside the checkpoints, where a resumed run finds them, and become an output of
the stage when it ends:

    scratch: models/step-2000    models/best-1500    models/initial
    output:  step-2000           best                initial

The last state of a run that keeps it (lib.train.saving.kept_state) is one of them in scratch, and
an output of its own.

A checkpoint records the best step so far and the digests of the models saved up to its step, so
that a resumed run makes the same decisions as an uninterrupted one and publishes the same models.
An earlier best model stays as long as a checkpoint needs it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lib.run.atomic import new_directory, remove
from lib.run.errors import UserError
from lib.train.saving import digests
from lib.train.saving.checkpoint import MODELS, ModelDigests
from lib.train.saving.links import link

_BEST, _INITIAL = "best", "initial"
STATE = "state"
"""Name of the last state, among the saved models in scratch."""


def best_model(step: int) -> str:
    """The name of the best model's folder in scratch, if the best step is `step`."""
    return f"{_BEST}-{step}"


class SavedModels:
    """The saved models of one run, in its scratch folder.

    Attributes:
        digests: of each model, except for the initial one, the digests of its files.
    """

    def __init__(self, scratch: Path, every: int | None, write: Callable[[Path], None]) -> None:
        """
        Args:
            every: steps between saved models; None saves only the best.
            write: writes the current model into an empty folder.
        """
        self._folder, self.every, self._write = scratch / MODELS, every, write
        self.best_step, self.best_loss = 0, math.inf
        self.digests: dict[str, Mapping[str, str]] = {}

    def after_step(self, step: int, dev_loss: float | None) -> None:
        """Saves the model if it is due at this step, or if its dev loss is the lowest so far."""
        if self.every and step % self.every == 0:
            self._save(f"step-{step}")
        if dev_loss is not None and dev_loss < self.best_loss:
            self._save(best_model(step))
            self.digests.pop(best_model(self.best_step), None)
            self.best_step, self.best_loss = step, dev_loss

    def _save(self, name: str) -> None:
        with new_directory(self._folder / name) as temporary:
            self._write(temporary)
            self.digests[name] = digests.of_folder(temporary)

    def save_state(self, write: Callable[[Path, ModelDigests], None]) -> None:
        """Saves the last state of the run.

        Args:
            write: writes it into an empty folder; its second argument has the digests of the saved
                models that belong to it.
        """
        self.digests.pop(STATE, None)
        with new_directory(self._folder / STATE) as temporary:
            write(temporary, self.digests)
            digests_of_files = digests.of_folder(temporary)
        self.digests[STATE] = digests_of_files

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to store in a checkpoint."""
        return {"best/step": np.array(self.best_step), "best/loss": np.array(self.best_loss)}

    def restore(self, state: Mapping[str, np.ndarray], models: ModelDigests) -> None:
        """Sets the state to what `state` and `digests` were; later models are removed."""
        self.best_step, self.best_loss = int(state["best/step"]), float(state["best/loss"])
        self.digests = dict(models)
        for folder in self._folder.glob("[!.]*"):
            if folder.name not in models:
                remove(folder)

    def save_initial(self, write: Callable[[Path], None]) -> None:
        """Saves the initial model for comparison, with its embeddings for new tokens and the like.

        Args:
            write: writes it into an empty folder.
        """
        with new_directory(self._folder / _INITIAL) as temporary:
            write(temporary)

    def publish(self, target: Path) -> None:
        """Makes `target` a folder of all saved models.

        Raises:
            UserError: one is damaged.
        """
        self._folder.mkdir(exist_ok=True)
        with new_directory(target) as temporary:
            for name in self.digests.keys() - {STATE}:
                self.copy(name, temporary / (_BEST if name.startswith(f"{_BEST}-") else name))
            if (self._folder / _INITIAL).is_dir():
                link(self._folder / _INITIAL, temporary / _INITIAL)

    def copy(self, name: str, target: Path) -> None:
        """Copies one of the saved models, or the last state.

        Raises:
            UserError: it is damaged.
        """
        if found := digests.difference(self._folder / name, self.digests[name]):
            raise UserError(
                f"{self._folder / name}: damaged ({found}); run the same command again to resume "
                "from a checkpoint that does not need it"
            )
        link(self._folder / name, target)
