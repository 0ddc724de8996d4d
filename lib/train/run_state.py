"""State of a training run besides its weights, and the checkpoints that hold both."""

import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lib.params import Pretrain
from lib.run import cost, tf
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.train.loss_checks import SkippedSteps
from lib.train.saving import checkpoint, kept_state, runs
from lib.train.saving.remote_copies import RemoteCopies
from lib.train.saving.saved_models import SavedModels
from lib.train.step import Trainer
from lib.train.workers import Workers

# Prefixes of the names of these arrays in a checkpoint.
_SUMS, _INITIAL, _FINAL = "sums/", "initial/", "final/"
_WORKERS, _PENDING, _DEV = "workers", "pending", "max_dev_sequences"


class RunState:
    """Everything that the next step and the next line of the log depend on.

    Attributes:
        first_step: number of steps made before this process began.
        skipped: ends the run after too many consecutive ones, or with values that are not finite.
        pending: training was stopped before the log, evaluation and saved models of that step.
        resumed: this process resumes a checkpoint and its logs.
        other_dev: earlier evaluations used another number of dev sequences.
        sums: float32 scalars, summed over the steps since the last line of the log.
        initial_metrics: dev metrics of the initial model, unless training began from scratch.
        final: the metrics of the last line of the log.
    """

    def __init__(
        self,
        trainer: Trainer,
        settings: Pretrain,
        saved: SavedModels,
        workers: Workers,
        directory: Path,
        logs: Path,
        copies: RemoteCopies | None,
    ) -> None:
        """Reads the newest checkpoint, if there is one; `restore` then sets the state to it.

        Args:
            directory: the folder of checkpoints, already locked; only the chief uses it.
            copies: of the checkpoints in remote storage, if there should be any.

        Raises:
            UserError: the checkpoint is of a run with another number of workers.
        """
        self._trainer, self._saved, self._workers = trainer, saved, workers
        self._directory, self._logs, self._copies = directory, logs, copies
        self._keep, self._dev = settings.keep_checkpoints, settings.max_dev_sequences or 0
        self.skipped = SkippedSteps(
            settings, lambda: max(checkpoint.steps(directory), default=None)
        )
        # The last step, and the number of consecutive skipped steps up to it.
        self._latest: tuple[int, tf.Tensor | float] = 0, 0.0
        self._chief = workers.index == 0
        self.sums: dict[str, tf.Tensor] = {}
        self.initial_metrics: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self._found = checkpoint.latest(directory) if self._chief else None
        self.resumed = self._found is not None
        facts = np.zeros(3, np.float64)
        if self._found:
            arrays = self._found.arrays
            if (before := int(arrays[_WORKERS])) != workers.count:
                raise UserError(
                    f"{directory}: {before} workers trained this run so far, now there are "
                    f"{workers.count}, which would read the data in another order; start "
                    f"{before} workers, or delete the folder to begin again"
                )
            facts[:] = self._found.step, arrays[_PENDING], arrays[_DEV] != self._dev
        facts = workers.broadcast({"facts": facts})["facts"]
        self.first_step = int(facts[0])
        self.pending, self.other_dev = bool(facts[1]), bool(facts[2])

    def restore(self) -> None:
        """Sets model, optimizer and this state to the checkpoint, and restores its logs."""
        remove(self._logs)
        if not self.first_step:
            return
        arrays = self._trainer.state()
        if self._found:
            arrays = {name: self._found.arrays[name] for name in arrays}
        self._trainer.restore(self._workers.broadcast(arrays))
        print(f"pretrain: resuming from step {self.first_step:,}", file=sys.stderr)
        if self._found:
            self._restore(self._found)
        self._found = None  # Its arrays are as large as the model and the optimizer.

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        self._saved.restore(found.arrays, found.models)
        self.sums = {name: tf.constant(value) for name, value in _with_prefix(found.arrays, _SUMS)}
        self.initial_metrics, self.final = (
            {name[3:]: float(value) for name, value in sorted(_with_prefix(found.arrays, prefix))}
            for prefix in (_INITIAL, _FINAL)
        )
        if self.other_dev:
            self._saved.best_loss = math.inf  # Later ones cannot be compared with it.
        if found.logs.is_dir():
            shutil.copytree(found.logs, self._logs)

    def add(self, step: int, results: Mapping[str, tf.Tensor]) -> None:
        """Adds the results of the steps up to `step`; does not wait for the device to make them.

        Raises:
            UserError: before these steps, too many were skipped.
        """
        self._check_skipped()
        for name, value in results.items():
            if name == "consecutive_skips":
                self._latest = step, value
            else:
                self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _check_skipped(self) -> None:
        step, consecutive = self._latest
        self.skipped.check(step, int(consecutive))

    def sums_since_log(self) -> dict[str, float]:
        """The sums since the last line of the log; raises a UserError as `add`."""
        self._check_skipped()
        return {name: float(value) for name, value in self.sums.items()}

    def logged(self, metrics: Mapping[str, float]) -> None:
        """Begins new sums after a line of the log."""
        self.sums.clear()
        self.final = {k: v for k, v in self.final.items() if k not in metrics} | dict(metrics)

    def save(self, step: int, pending: bool = False) -> None:
        """Writes a checkpoint of this step, if this worker is the chief.

        Args:
            pending: log, evaluation and saved models of this step are still to be made.

        Raises:
            UserError: too many steps were skipped, or something to be saved is not finite.
        """
        self._check_skipped()
        if not self._chief:
            return
        arrays = self._arrays(step, pending)
        checkpoint.save(self._directory, step, arrays, self._logs, self._keep, self._saved.digests)
        # From now on this run is the one to continue.
        runs.drop_finished(self._directory.parent)
        self.save_cost()
        if self._copies:
            self._copies.save(step)

    def keep(self, step: int) -> None:
        """Writes the state of the last step, before its log and evaluation, as an output."""
        self._check_skipped()
        if not self._chief:
            return
        arrays = self._arrays(step, pending=True)

        def write(folder: Path, models: checkpoint.ModelDigests) -> None:
            kept_state.write(folder, self._directory, step, arrays, self._logs, models)

        self._saved.save_state(write)

    def _arrays(self, step: int, pending: bool) -> dict[str, np.ndarray]:
        """What a checkpoint of this step contains; see `save`."""
        floats = {  # numbered, as their order is part of the results
            f"{prefix}{number:02}/{name}": np.array(value)
            for prefix, values in ((_INITIAL, self.initial_metrics), (_FINAL, self.final))
            for number, (name, value) in enumerate(values.items())
        }
        sums = {_SUMS + name: value.numpy() for name, value in self.sums.items()}
        trained = {**self._trainer.state(), **sums, **floats}
        self.skipped.check_finite(step, trained)
        return {
            **trained,
            **self._saved.state(),
            _WORKERS: np.array(self._workers.count),
            _PENDING: np.array(pending),
            _DEV: np.array(self._dev),
        }

    def save_cost(self) -> None:
        """Saves the cost of the run up to now, to which a process that resumes it adds its own.

        Not in the checkpoint itself, which is a function of the step alone.
        """
        if self._chief:
            cost.THIS_STAGE.write(self._directory / cost.FILE)


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays whose names begin with a prefix, and the rest of these names."""
    for name, value in arrays.items():
        if name.startswith(prefix):
            yield name.removeprefix(prefix), value
