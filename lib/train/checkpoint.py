"""Checkpoints of training in scratch: whole or absent, found again by what is being trained."""

import fcntl
import os
import shutil
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

    Raises:
        UserError: another process trains there.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = os.open(directory / f"lock-{worker}", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(lock, 32).decode() or "unknown"
            raise UserError(
                f"{directory}: process {owner} is training this very run; wait for it or stop it"
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        yield
    finally:
        os.close(lock)


def _steps(directory: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in directory.glob("step-*"))


def save(
    directory: Path, step: int, arrays: Mapping[str, np.ndarray], logs: Path, kept: int
) -> None:
    """Writes `step-N/` (arrays, a copy of the folder `logs`), then drops all but `kept`."""
    with new_directory(directory / f"step-{step}") as temporary:
        # TensorFlow gives scalars as NumPy's scalars, which are no arrays.
        whole = {name: np.asarray(array) for name, array in arrays.items()}
        save_file(whole, temporary / "arrays.safetensors")
        if logs.is_dir():
            shutil.copytree(logs, temporary / "logs")
    for old in _steps(directory)[:-kept]:
        remove(directory / f"step-{old}")


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint, or None.

    Raises:
        UserError: it cannot be read; it is named.
    """
    steps = _steps(directory)
    if not steps:
        return None
    path = directory / f"step-{steps[-1]}"
    try:
        arrays = load_file(path / "arrays.safetensors")
    except (OSError, SafetensorError) as failure:
        raise UserError(
            f"{path}: damaged checkpoint ({failure}); delete it to go on from the one before"
        ) from None
    return Checkpoint(steps[-1], arrays, path / "logs")
