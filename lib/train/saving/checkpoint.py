"""Checkpoints of training in scratch: whole or absent, found again by what is being trained."""

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
    """Everything that the next step depends on."""

    step: int
    arrays: dict[str, np.ndarray]
    logs: Path


@contextmanager
def exclusive(directory: Path, worker: int = 0) -> Iterator[None]:
    """Holds the scratch folder of one training run, for one of its workers.

    Worker 0, which writes the checkpoints, clears away those that it left unfinished.

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
    """A descriptor of the lock file; the lock lasts until it is closed."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:  # A run that ended removed the folder again.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except FileNotFoundError:  # That run removed this very file: lock the next one.
            pass
        except BlockingIOError:
            owner = os.read(lock, 32).decode() or "unknown"
            os.close(lock)
            raise UserError(
                f"{path.parent}: process {owner} is training this very run; wait for it or stop it"
            ) from None
        os.close(lock)


def steps(directory: Path) -> list[int]:
    """The optimizer steps that have a checkpoint, in order."""
    names = (re.fullmatch(r"step-(\d+)", path.name) for path in directory.glob("step-*"))
    return sorted(int(name[1]) for name in names if name)


def _drop(directory: Path, step: int) -> None:
    """Removes a checkpoint; whoever is killed meanwhile leaves no part of it under its name."""
    dropped = directory / f".step-{step}.dropped"
    remove(dropped)
    os.replace(directory / f"step-{step}", dropped)
    remove(dropped)


def save(
    directory: Path, step: int, arrays: Mapping[str, np.ndarray], logs: Path, kept: int
) -> None:
    """Writes `step-N/` (arrays, a copy of the folder `logs`), then drops all but `kept`.

    Raises:
        UserError: it cannot be written; those before it are still there.
    """
    target = directory / f"step-{step}"
    try:
        with new_directory(target) as temporary:
            # TensorFlow gives scalars as NumPy's scalars, which are no arrays.
            whole = {name: np.asarray(array) for name, array in arrays.items()}
            save_file(whole, temporary / "arrays.safetensors")
            if logs.is_dir():
                shutil.copytree(logs, temporary / "logs")
    except (OSError, SafetensorError) as failure:
        # `copytree` gives a list of what went wrong.
        reason = failure.args[0][0][-1] if isinstance(failure, shutil.Error) else failure
        raise UserError(
            f"{target}: this checkpoint cannot be written ({reason}); is the disk "
            "full? Run the same command again, it goes on from the checkpoint before"
        ) from None
    for old in steps(directory)[:-kept]:
        _drop(directory, old)


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None if there are none.

    A damaged one (by a disk that lost power, say) is passed over and removed, with a note: the
    one before leads to the same result.

    Raises:
        UserError: all are damaged; they are named.
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
            f"{directory}: damaged checkpoints only ({names}: {next(iter(damaged.values()))}); "
            "delete the folder to begin anew"
        )
    return None


def discard(directory: Path) -> None:
    """Removes the scratch folder of a run that is finished; to be called while it is held."""
    for step in steps(directory):
        _drop(directory, step)
    # What other workers still hold open cannot go on some network file systems.
    shutil.rmtree(directory, ignore_errors=True)
