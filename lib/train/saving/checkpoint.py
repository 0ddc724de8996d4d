"""Checkpoints of a training run in its scratch folder: written atomically, verified when read.

A run's folder (`lib.train.saving.runs` has its name) holds

    step-1000/arrays.safetensors   weights, optimizer slots, sums since the last line of the log
    step-1000/logs/                DVCLive's folder at that step
    step-1000/digests.json         digests of these files, and of the saved models up to this step
    models/                        saved models (lib.train.saving.saved_models)
    cost.json                      cost of the run up to now (lib.run.cost)
    lock-0                         locked by the training process
"""

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lib.run.atomic import new_directory, remove
from lib.run.errors import UserError
from lib.train.saving import digests
from lib.train.saving.links import link

MODELS = "models"
"""Folder of the saved models, in a run's folder."""
ARRAYS, _DIGESTS = "arrays.safetensors", "digests.json"
# Of each saved model, the digest of each file.
ModelDigests = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: everything that the next step depends on.

    Attributes:
        models: digests of the models saved up to this step, by name and file.
    """

    step: int
    arrays: dict[str, np.ndarray]
    logs: Path
    models: ModelDigests


@contextmanager
def exclusive(directory: Path, worker: int = 0) -> Iterator[None]:
    """Locks the scratch folder of a training run, for one of its workers.

    Worker 0, which writes the checkpoints, first removes unfinished ones.

    Raises:
        UserError: another process trains there.
    """
    lock = _locked(directory / f"lock-{worker}")
    try:
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        if not worker:
            for unfinished in directory.glob(".step-*"):
                remove(unfinished)
        yield
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    """Locks a file; returns its descriptor, and the lock lasts until that is closed."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # Another run ended and removed the folder.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except FileNotFoundError:  # That run removed this file, too: lock the next one.
            pass
        except BlockingIOError:
            holder = os.read(lock, 32).decode() or "unknown"
            os.close(lock)
            raise UserError(
                f"{path.parent}: process {holder} is training this same run; wait for it or stop it"
            ) from None
        os.close(lock)


def steps(directory: Path) -> list[int]:
    """Steps of which there is a checkpoint, in order."""
    names = (re.fullmatch(r"step-(\d+)", path.name) for path in directory.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def drop(folder: Path) -> None:
    """Removes a folder atomically: a process killed meanwhile leaves no part under its name."""
    dropped = folder.with_name(f".{folder.name}.dropped")
    remove(dropped)
    os.replace(folder, dropped)
    # On some network file systems, files that are open elsewhere cannot be removed.
    shutil.rmtree(dropped, ignore_errors=True)


def save(
    directory: Path,
    step: int,
    arrays: Mapping[str, np.ndarray],
    logs: Path,
    keep: int,
    models: ModelDigests | None = None,
) -> None:
    """Writes `step-N/` (arrays, a copy of the folder `logs`), then removes all but the last `keep`.

    Saved models that none of these needs are removed, too.

    Args:
        models: digests of the saved models that belong to this step.

    Raises:
        UserError: it cannot be written; earlier checkpoints remain.
    """
    target = directory / f"step-{step}"
    try:
        with new_directory(target) as temporary:
            # TensorFlow returns NumPy scalars for scalars; safetensors takes arrays only.
            arrays = {name: np.asarray(array) for name, array in arrays.items()}
            save_file(arrays, temporary / ARRAYS)
            if logs.is_dir():
                shutil.copytree(logs, temporary / "logs")
            listed = {"files": digests.of_folder(temporary), "models": models or {}}
            text = json.dumps(listed, indent=1) + "\n"
            (temporary / _DIGESTS).write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as failure:
        # `copytree` raises a list of failures.
        reason = failure.args[0][0][-1] if isinstance(failure, shutil.Error) else failure
        raise UserError(
            f"{target}: this checkpoint cannot be written ({reason}); is the disk full? Run the "
            "same command again to resume from the one before"
        ) from None
    keep_newest(directory, keep)


def keep_newest(directory: Path, keep: int) -> None:
    """Removes all checkpoints but the newest, and the saved models that none of these needs."""
    for old in steps(directory)[:-keep]:
        drop(directory / f"step-{old}")
    needed = {name for kept in steps(directory) for name in models_of(directory, kept)}
    for folder in directory.glob(f"{MODELS}/[!.]*"):
        if folder.name not in needed:
            remove(folder)


def _listed(directory: Path, step: int) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """The digests of a checkpoint's files, and of its saved models; empty if not readable."""
    try:
        listed = json.loads((directory / f"step-{step}" / _DIGESTS).read_bytes())
        return dict(listed["files"]), {name: dict(of) for name, of in listed["models"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}, {}


def damage(directory: Path, step: int) -> str | None:
    """What is wrong with a checkpoint or a saved model that it needs; None if nothing is."""
    files, models = _listed(directory, step)
    if not files:
        return f"{_DIGESTS} is missing or unreadable"
    if found := digests.difference(directory / f"step-{step}", files, besides=_DIGESTS):
        return found
    for name, expected in models.items():
        if found := digests.difference(directory / MODELS / name, expected):
            return f"{MODELS}/{name}, which it needs: {found}"
    return None


def newest(directory: Path) -> int:
    """The step of the newest checkpoint that is as it was written; 0 if there is none.

    Damaged ones (for example by a power failure) are removed with a note: the one before, or step
    0, leads to the same result.
    """
    found = steps(directory)
    for step in reversed(found):
        reason = damage(directory, step)
        if reason is None:
            return step
        then = "" if step > found[0] else "; no checkpoint is left, so training starts at step 0"
        print(
            f"pretrain: {directory}/step-{step}: damaged checkpoint ({reason}), removed{then}",
            file=sys.stderr,
        )
        drop(directory / f"step-{step}")
    return 0


def latest(directory: Path) -> Checkpoint | None:
    """The checkpoint `newest`, or None if there is none."""
    step = newest(directory)
    return load(directory, step) if step else None


def copy(source: Path, target: Path, step: int) -> None:
    """Copies a checkpoint into the folder of another run, with the saved models that it needs."""
    for name in models_of(source, step):
        link(source / MODELS / name, target / MODELS / name)
    with new_directory(target / f"step-{step}") as temporary:
        link(source / f"step-{step}", temporary)


def load(directory: Path, step: int) -> Checkpoint:
    """Reads a checkpoint, without a comparison with its digests."""
    path = directory / f"step-{step}"
    return Checkpoint(step, load_file(path / ARRAYS), path / "logs", models_of(directory, step))


def models_of(directory: Path, step: int) -> ModelDigests:
    """The digests of the saved models that a checkpoint needs."""
    return _listed(directory, step)[1]
