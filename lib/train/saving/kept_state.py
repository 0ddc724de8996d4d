"""The state in which a phase ended: `models/state/PHASE`, an output of the stage pretrain.

It is kept where the learning rate has not fallen (schedule `constant`), and has the form of a run's
folder (lib.train.saving.checkpoint) with one checkpoint:

    models/state/stable/run.json                     record of the run
    models/state/stable/step-2000/arrays.safetensors weights, optimizer slots, counts
    models/state/stable/step-2000/logs/              the log before the line of the last step
    models/state/stable/models/best-1500/            saved models that the checkpoint needs

The log, the evaluation and the saved models of the last step are still to be made: a longer run
need not have them at that step. So a run that goes on from here (lib.train.prolonging) ends
as if it had always been that long. A phase that starts from here (lib.train.initial_state) makes an
evaluation of its own.

Other phases have `no-state.txt` in the folder, as DVC wants each output to exist.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import safe_open

from lib.params import Pretrain
from lib.run.atomic import new_directory
from lib.train.saving import checkpoint, run_record
from lib.train.saving.links import link
from lib.train.saving.saved_models import STATE, SavedModels

_NOTHING = "no-state.txt"
_REASON = """\
No training state is kept of this phase: its learning rate has fallen, so that nothing can go on
from here as if it had always been longer. It would be kept with pretrain.schedule (or
phases.*.schedule) constant. See docs/training.md.
"""


def is_kept(settings: Pretrain) -> bool:
    """Whether a run keeps its last state."""
    return settings.schedule == "constant"


def is_state(folder: Path) -> bool:
    """Whether a folder is an output of this kind, with a state or without."""
    return any((folder / name).is_file() for name in (run_record.RECORD, _NOTHING))


def has_state(folder: Path) -> bool:
    """Whether there is a state in a folder of this kind."""
    return (folder / run_record.RECORD).is_file() and bool(checkpoint.steps(folder))


def write(
    folder: Path,
    run: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    logs: Path,
    models: checkpoint.ModelDigests,
) -> None:
    """Writes the last state of a run into an empty folder.

    Args:
        run: its folder, with its record and its saved models.
        arrays, logs, models: of a checkpoint of its last step, before the log of that step.
    """
    checkpoint.save(folder, step, arrays, logs, 1, models)
    for name in models:
        link(run / checkpoint.MODELS / name, folder / checkpoint.MODELS / name)
    run_record.write(folder, run_record.read(run))


def publish(saved: SavedModels, target: Path) -> None:
    """Makes `target` the folder of a finished run's state, or of the note that there is none."""
    if STATE not in saved.digests:
        write_nothing(target)
        return
    with new_directory(target) as temporary:
        saved.copy(STATE, temporary)


def write_nothing(target: Path) -> None:
    """Makes `target` the folder of a phase whose state is not kept."""
    with new_directory(target) as temporary:
        (temporary / _NOTHING).write_text(_REASON, encoding="utf-8")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays of the state in a folder."""
    (step,) = checkpoint.steps(folder)
    return checkpoint.load(folder, step).arrays


def number(folder: Path, name: str) -> float:
    """A scalar of the state in a folder, without reading the rest of it."""
    (step,) = checkpoint.steps(folder)
    with safe_open(folder / f"step-{step}" / checkpoint.ARRAYS, framework="numpy") as file:
        return float(file.get_tensor(name))
