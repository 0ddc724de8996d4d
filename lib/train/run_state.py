"""State of a training run besides its weights, and the checkpoints that hold both."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.run import cost, tf
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.train.saving import checkpoint
from lib.train.saving.remote_copies import RemoteCopies
from lib.train.saving.saved_models import SavedModels
from lib.train.step import Trainer
from lib.train.workers import Workers

# Prefixes of the names of these arrays in a checkpoint.
_SUMS, _INITIAL = "sums/", "initial/"
_WORKERS = "workers"


class RunState:
    """Everything that the next step and the next line of the log depend on.

    Attributes:
        first_step: number of steps made before this process began.
        resumed: this process resumed a checkpoint and its logs.
        sums: float32 scalars, summed over the steps since the last line of the log.
        initial_metrics: dev metrics of the initial model, unless training began from scratch.
    """

    def __init__(
        self,
        trainer: Trainer,
        saved: SavedModels,
        workers: Workers,
        directory: Path,
        logs: Path,
        keep: int,
        copies: RemoteCopies | None,
    ) -> None:
        """Resumes the newest checkpoint, if there is one, and restores the logs of its step.

        Args:
            directory: the folder of checkpoints, already locked; only the chief uses it.
            keep: number of checkpoints to keep.
            copies: of the checkpoints in remote storage, if there should be any.

        Raises:
            UserError: the checkpoint is damaged, or of a run with another number of workers.
        """
        self._trainer, self._saved, self._workers = trainer, saved, workers
        self._directory, self._logs, self._keep = directory, logs, keep
        self._copies = copies
        self._chief = workers.index == 0
        self.sums: dict[str, tf.Tensor] = {}
        self.initial_metrics: dict[str, float] = {}
        found = checkpoint.latest(directory) if self._chief else None
        self.resumed = found is not None
        remove(logs)
        step = np.array(found.step if found else 0, np.float64)
        self.first_step = int(workers.broadcast({"step": step})["step"])
        if self.first_step:
            arrays = trainer.state()
            if found:
                arrays = {name: found.arrays[name] for name in arrays}
            trainer.restore(workers.broadcast(arrays))
            print(f"pretrain: resuming from step {self.first_step:,}", file=sys.stderr)
        if found:
            self._restore(found)

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        before = int(found.arrays[_WORKERS])
        if before != self._workers.count:
            raise UserError(
                f"{self._directory}: {before} workers trained this run so far, now there are "
                f"{self._workers.count}, which would read the data in another order; start "
                f"{before} workers, or delete the folder to begin again"
            )
        self._saved.restore(found.arrays)
        self.sums = {
            name: tf.constant(value) for name, value in _with_prefix(found.arrays, _SUMS).items()
        }
        self.initial_metrics = {
            name: float(value) for name, value in _with_prefix(found.arrays, _INITIAL).items()
        }
        if found.logs.is_dir():
            shutil.copytree(found.logs, self._logs)

    def add(self, results: Mapping[str, tf.Tensor]) -> None:
        """Adds the results of some steps; does not wait for the device."""
        for name, value in results.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def take_sums(self) -> dict[str, float]:
        """The sums since the last call."""
        values = {name: float(value) for name, value in self.sums.items()}
        self.sums.clear()
        return values

    def save(self, step: int) -> None:
        """Writes a checkpoint of this step, if this worker is the chief."""
        if not self._chief:
            return
        arrays = {
            **self._trainer.state(),
            **self._saved.state(),
            _WORKERS: np.array(self._workers.count),
            **{_SUMS + name: value.numpy() for name, value in self.sums.items()},
            **{_INITIAL + name: np.array(value) for name, value in self.initial_metrics.items()},
        }
        checkpoint.save(self._directory, step, arrays, self._logs, self._keep)
        self.save_cost()
        if self._copies:
            self._copies.save(step)

    def save_cost(self) -> None:
        """Saves the cost of the run up to now, to which a process that resumes it adds its own.

        Not in the checkpoint itself, which is a function of the step alone.
        """
        if self._chief:
            cost.THIS_STAGE.write(self._directory / cost.FILE)


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
