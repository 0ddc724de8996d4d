"""Copies of a run's checkpoints in remote storage, for machines that may vanish with their disks.

A run reads and writes its checkpoints on its own disk; each is copied when it is written. A run
that finds a newer one in storage than on its disk fetches that first. With a checkpoint go the
models saved up to its step, each under a name with a digest of its content.

Storage has no locks, and needs none: the folder's name is a digest of all that decides the weights,
a second trainer of the same run writes the same bytes, and a copy that two machines with other bits
have mixed does not agree with its list and is skipped. What two trainers waste is time. So each
writes its name into the folder when it starts, and the earlier one stops after its next checkpoint.
"""

import os
import re
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lib.run import cost, fingerprint, tf
from lib.run.errors import UserError
from lib.run.metrics import read_metrics, write_metrics
from lib.train.saving import accepted_code, checkpoint, identity, run_record, storage
from lib.train.saving.checkpoint import MODELS

_FAILURES = (tf.errors.OpError, OSError)
_TRAINER = "trainer.json"


class RemoteCopies:
    """The remote copies of one run."""

    def __init__(self, run: Path, folder: str, keep: int) -> None:
        """
        Args:
            run: the scratch folder of the run on this machine, already locked.
            folder: the folder of its copies in storage.
            keep: number of copies to keep.
        """
        self._run, self._folder, self._keep = run, folder, keep
        self._trainer = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time_ns()}
        self._names: dict[tuple[int, int], str] = {}
        self._superseded: str | None = None

    def take_over(self) -> None:
        """Has another process that trains this run stop after its next checkpoint."""
        storage.write_object(f"{self._folder}/{_TRAINER}", self._trainer)

    def fetch(self) -> bool:
        """Fetches the newest complete checkpoint with its models, if it is newer than the local.

        Returns:
            Whether there is a checkpoint to resume now, fetched or local.
        """
        local = checkpoint.newest(self._run)
        for step, info in reversed(self._complete().items()):
            if step <= local:
                return True
            try:
                for name, copy in info["models"].items():
                    if self._name(self._run / MODELS / name) != copy:
                        storage.get_folder(
                            f"{self._folder}/{MODELS}/{copy}", self._run / MODELS / name
                        )
                storage.get_folder(self._path(step), self._run / f"step-{step}")
            except storage.DamagedError as failure:
                print(
                    f"pretrain: {self._path(step)}: damaged checkpoint ({failure}), skipped",
                    file=sys.stderr,
                )
                continue
            write_metrics(self._run / cost.FILE, info.get("cost", {}))
            if record := info.get("record"):
                run_record.write(self._run, record)
            print(f"pretrain: {self._path(step)}: fetched", file=sys.stderr)
            return True
        return local > 0

    def fetch_by_other_code(self) -> None:
        """Fetches the same run as trained by other, accepted code, or says that there is one.

        The copies of that run are removed when there is the first copy of this one. A run of code
        that is not accepted gets a folder on this machine, where `make accept` finds it.
        """
        location, _, name = self._folder.rpartition("/")
        inputs, _, _ = name.partition("-")
        for other in storage.names(location):
            if other == name or not other.startswith(f"{inputs}-"):
                continue
            copies = RemoteCopies(self._run, f"{location}/{other}", self._keep)
            complete = copies._complete()
            if not complete:
                continue
            step, info = list(complete.items())[-1]
            record = info.get("record") or {}
            if accepted_code.is_accepted(str(record.get("code")), identity.training_code()):
                if copies.fetch():
                    self._superseded = copies._folder
                    return
            else:
                run_record.write(self._run.with_name(other), record)
                print(
                    f"pretrain: {copies._path(step)}: by other training code, so that this run "
                    "starts at step 0 (to resume that one instead, stop, run `make accept`, and "
                    "repeat the command)",
                    file=sys.stderr,
                )

    def clear(self) -> None:
        """Removes all checkpoints: the run starts at step 0."""
        for name in storage.names(self._folder):
            if name == MODELS or name.startswith("step-"):
                storage.remove_folder(f"{self._folder}/{name}")

    def save(self, step: int) -> None:
        """Copies the checkpoint of this step; a failure is reported, and training continues.

        Raises:
            UserError: another process has taken over.
        """
        try:
            models = {}
            for folder in sorted((self._run / MODELS).glob("[!.]*")):
                name = models[folder.name] = self._name(folder)
                target = f"{self._folder}/{MODELS}/{name}"
                if storage.read_info(target) is None:
                    storage.put_folder(folder, target, {})
            info = {"models": models, "cost": self._cost(), "record": run_record.read(self._run)}
            storage.put_folder(self._run / f"step-{step}", self._path(step), info)
            self._remove_old()
            if self._superseded:
                storage.remove_folder(self._superseded)
                self._superseded = None
            other = storage.read_object(f"{self._folder}/{_TRAINER}")
        except _FAILURES as failure:
            print(
                f"pretrain: {self._path(step)}: could not be copied there ({reason(failure)}); "
                "training continues with the checkpoint on this disk, and copies the next one",
                file=sys.stderr,
            )
            return
        if other and other != self._trainer:
            raise UserError(
                f"{self._folder}: process {other.get('pid')} of {other.get('host')} has taken over "
                "this run; it continues there, not here"
            )

    def discard(self) -> None:
        """Removes all copies of the run."""
        try:
            storage.remove_folder(self._folder)
        except _FAILURES as failure:
            print(
                f"pretrain: {self._folder}: could not be removed ({reason(failure)}); it is not "
                "needed any more",
                file=sys.stderr,
            )

    def _path(self, step: int) -> str:
        return f"{self._folder}/step-{step}"

    def _name(self, folder: Path) -> str:
        """Name of the copy of a saved model: with a digest, computed once per folder written."""
        if not folder.is_dir():
            return ""
        status = folder.stat()
        key = status.st_ino, status.st_mtime_ns
        if key not in self._names:
            self._names[key] = f"{folder.name}-{fingerprint.of_path(folder)}"
        return self._names[key]

    def _cost(self) -> dict[str, object]:
        with suppress(OSError, ValueError):
            return read_metrics(self._run / cost.FILE)
        return {}

    def _complete(self) -> dict[int, dict[str, Any]]:
        """The steps with a complete copy, in order, and the info stored with each."""
        found = {}
        for name in storage.names(self._folder):
            if re.fullmatch(r"step-\d+", name):
                info = storage.read_info(f"{self._folder}/{name}")
                if info:
                    found[int(name.removeprefix("step-"))] = info
        return dict(sorted(found.items()))

    def _remove_old(self) -> None:
        """Removes all checkpoints but the newest, and models that none of these needs."""
        kept = dict(list(self._complete().items())[-self._keep :])
        for name in storage.names(self._folder):
            if name.startswith("step-") and name not in {f"step-{step}" for step in kept}:
                storage.remove_folder(f"{self._folder}/{name}")
        needed = {name for info in kept.values() for name in info["models"].values()}
        for name in storage.names(f"{self._folder}/{MODELS}"):
            if name not in needed:
                storage.remove_folder(f"{self._folder}/{MODELS}/{name}")


def reason(failure: Exception) -> str:
    """First line of TensorFlow's long error messages."""
    text = getattr(failure, "message", None) or str(failure)
    return text.strip().splitlines()[0][:300] if text.strip() else type(failure).__name__


def remote_copies(
    run: Path, location: str | None, keep: int, from_start: bool = False
) -> RemoteCopies | None:
    """The copies of a run below a location in storage; a newer checkpoint there is fetched.

    Args:
        run: the run's scratch folder; its name, a digest, identifies the run.
        location: None if there should be no copies.
        keep: number of copies to keep.
        from_start: remove the copies instead of fetching any.

    Raises:
        UserError: storage cannot be used.
    """
    if location is None:
        return None
    folder = f"{location}/{run.name}"
    if Path(folder).resolve() == run.resolve():
        raise UserError(
            f"pretrain.checkpoint_dir: {location}: the checkpoints are there already; set another "
            "folder, or null"
        )
    copies = RemoteCopies(run, folder, keep)
    try:
        copies.take_over()
        if from_start:
            copies.clear()
        elif not copies.fetch():
            copies.fetch_by_other_code()
    except tf.errors.OpError as failure:
        raise UserError(
            f"pretrain.checkpoint_dir: {folder}: cannot be used ({reason(failure)}); check that it "
            "exists and that this machine may write to it"
        ) from None
    return copies
