"""Checkpoints of a training run in its scratch folder, written atomically.

The folder is named by a fingerprint of everything that is trained, so that the same command finds
it again:

    .scratch/pretrain/<fingerprint>/
      step-1000/arrays.safetensors   weights, optimizer slots, sums since the last line of the log
      step-1000/logs/                DVCLive's folder at that step
      models/                        saved models (lib.train.saving.saved_models)
      cost.json                      cost of the run up to now (lib.run.cost)
      lock-0                         locked by the training process
"""

import fcntl
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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: everything that the next step depends on."""

    step: int
    arrays: dict[str, np.ndarray]
    logs: Path


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


def _drop(directory: Path, step: int) -> None:
    """Removes a checkpoint atomically: a process killed meanwhile leaves no part under its name."""
    dropped = directory / f".step-{step}.dropped"
    remove(dropped)
    os.replace(directory / f"step-{step}", dropped)
    remove(dropped)


def save(
    directory: Path, step: int, arrays: Mapping[str, np.ndarray], logs: Path, keep: int
) -> None:
    """Writes `step-N/` (arrays, a copy of the folder `logs`), then removes all but the last `keep`.

    Raises:
        UserError: it cannot be written; earlier checkpoints remain.
    """
    target = directory / f"step-{step}"
    try:
        with new_directory(target) as temporary:
            # TensorFlow returns NumPy scalars for scalars; safetensors takes arrays only.
            arrays = {name: np.asarray(array) for name, array in arrays.items()}
            save_file(arrays, temporary / "arrays.safetensors")
            if logs.is_dir():
                shutil.copytree(logs, temporary / "logs")
    except (OSError, SafetensorError) as failure:
        # `copytree` raises a list of failures.
        reason = failure.args[0][0][-1] if isinstance(failure, shutil.Error) else failure
        raise UserError(
            f"{target}: this checkpoint cannot be written ({reason}); is the disk full? Run the "
            "same command again to resume from the one before"
        ) from None
    for old in steps(directory)[:-keep]:
        _drop(directory, old)


def latest(directory: Path) -> Checkpoint | None:
    """The newest readable checkpoint, or None if there are none.

    Damaged ones (for example by a power failure) are removed with a note: the one before leads to
    the same result.

    Raises:
        UserError: all are damaged.
    """
    damaged: dict[int, str] = {}
    for step in reversed(steps(directory)):
        path = directory / f"step-{step}"
        try:
            arrays = load_file(path / "arrays.safetensors")
        except (FileNotFoundError, SafetensorError) as failure:
            damaged[step] = str(failure)
            continue
        for other, reason in damaged.items():
            print(
                f"pretrain: {directory}/step-{other}: damaged checkpoint ({reason}), removed",
                file=sys.stderr,
            )
            _drop(directory, other)
        return Checkpoint(step, arrays, path / "logs")
    if damaged:
        names = ", ".join(f"step-{step}" for step in damaged)
        raise UserError(
            f"{directory}: all checkpoints are damaged ({names}: {next(iter(damaged.values()))}); "
            "delete the folder to begin again"
        )
    return None


def discard(directory: Path) -> None:
    """Removes the scratch folder of a finished run, while it is locked."""
    for step in steps(directory):
        _drop(directory, step)
    # On some network file systems, files that other workers still have open cannot be removed.
    shutil.rmtree(directory, ignore_errors=True)
