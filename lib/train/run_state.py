"""Where a run stands beside its weights, and the checkpoints that hold both."""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.run import tf
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.train.saving import checkpoint
from lib.train.saving.remote_copies import Copies
from lib.train.saving.saved_models import KeptModels
from lib.train.step import Trainer
from lib.train.workers import Workers

# How the names of these arrays begin in a checkpoint.
_SUMS, _AT_START = "sums/", "start/"
_WORKERS = "workers"


class RunState:
    """What the next step depends on.

    Attributes:
        first: steps that were made before this process began.
        resumed: this process goes on from a checkpoint and its logs.
        sums: float32 scalars, of the steps since the last line of the log.
        at_start: dev metrics of the model that training started from, if there was one.
    """

    def __init__(
        self,
        trainer: Trainer,
        kept: KeptModels,
        workers: Workers,
        directory: Path,
        logs: Path,
        keep: int,
        copies: Copies | None,
    ) -> None:
        """Goes on from the newest checkpoint, if there is one; brings back the logs of its step.

        Args:
            directory: the checkpoints' folder, already locked; the chief alone reads and writes.
            keep: checkpoints that stay.
            copies: of the checkpoints in storage, if there are to be any.

        Raises:
            UserError: it is damaged, or of a run with another number of workers.
        """
        self._trainer, self._kept, self._workers = trainer, kept, workers
        self._directory, self._logs, self._keep = directory, logs, keep
        self._copies = copies
        self._chief = workers.number == 0
        self.sums: dict[str, tf.Tensor] = {}
        self.at_start: dict[str, float] = {}
        found = checkpoint.latest(directory) if self._chief else None
        self.resumed = found is not None
        remove(logs)
        step = np.array(found.step if found else 0, np.float64)
        self.first = int(workers.from_chief({"step": step})["step"])
        if self.first:
            arrays = trainer.state()
            if found:
                arrays = {name: found.arrays[name] for name in arrays}
            trainer.restore(workers.from_chief(arrays))
            print(f"pretrain: going on from step {self.first:,}", file=sys.stderr)
        if found:
            self._restore(found)

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        before = int(found.arrays[_WORKERS])
        if before != self._workers.count:
            raise UserError(
                f"{self._directory}: {before} workers trained this run so far, now there are "
                f"{self._workers.count}, who would read the data in another order; start {before} "
                "of them, or delete the folder to begin anew"
            )
        self._kept.restore(found.arrays)
        self.sums = {
            name: tf.constant(value) for name, value in _named(found.arrays, _SUMS).items()
        }
        self.at_start = {
            name: float(value) for name, value in _named(found.arrays, _AT_START).items()
        }
        if found.logs.is_dir():
            shutil.copytree(found.logs, self._logs)

    def add(self, results: Mapping[str, tf.Tensor]) -> None:
        """Adds what some steps gave; nothing waits for the device before it is logged."""
        for name, value in results.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def take(self) -> dict[str, float]:
        """The sums since the last call."""
        values = {name: float(value) for name, value in self.sums.items()}
        self.sums.clear()
        return values

    def save(self, step: int) -> None:
        """Writes a checkpoint of this step, if this is the chief."""
        if not self._chief:
            return
        arrays = {
            **self._trainer.state(),
            **self._kept.state(),
            _WORKERS: np.array(self._workers.count),
            **{_SUMS + name: value.numpy() for name, value in self.sums.items()},
            **{_AT_START + name: np.array(value) for name, value in self.at_start.items()},
        }
        checkpoint.save(self._directory, step, arrays, self._logs, self._keep)
        if self._copies:
            self._copies.save(step)


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }
