"""Copies of a run's checkpoints in a bucket, for machines that may vanish with their disks.

A run reads and writes its checkpoints on its own disk; each is copied when it is written. A run
that finds a newer one in the bucket than on its disk fetches that first. With a checkpoint go the
models that were kept up to its step, each under a name of its own content.
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lib.run import fingerprint, tf
from lib.run.errors import UserError
from lib.train.saving import checkpoint, storage
from lib.train.saving.lease import owned
from lib.train.saving.saved_models import FOLDER as MODELS

_FAILURES = (tf.errors.OpError, OSError)


class Copies:
    """The copies of one run, which this process holds."""

    def __init__(self, run: Path, folder: str, kept: int, check: Callable[[], None]) -> None:
        """
        Args:
            run: the scratch folder of the run on this machine, already locked.
            folder: that of its copies in storage.
            kept: copies that stay.
            check: raises UserError if another process has taken over.
        """
        self._run, self._folder, self._kept, self._check = run, folder, kept, check
        self._names: dict[tuple[int, int], str] = {}

    def fetch(self) -> None:
        """Brings the newest whole checkpoint here, with its models, unless one here is as new."""
        here = max(checkpoint.steps(self._run), default=0)
        for step, facts in reversed(self._whole().items()):
            if step <= here:
                return
            try:
                for name, copy in facts["models"].items():
                    if self._name(self._run / MODELS / name) != copy:
                        storage.get_folder(
                            f"{self._folder}/{MODELS}/{copy}", self._run / MODELS / name
                        )
                storage.get_folder(self._path(step), self._run / f"step-{step}")
            except storage.DamagedError as failure:
                print(
                    f"pretrain: {self._path(step)}: damaged checkpoint ({failure}), passed over",
                    file=sys.stderr,
                )
                continue
            print(f"pretrain: {self._path(step)}: fetched", file=sys.stderr)
            return

    def save(self, step: int) -> None:
        """Copies the checkpoint of this step; a failure is told, and training goes on.

        Raises:
            UserError: another process has taken over.
        """
        try:
            self._check()
            models = {}
            for folder in sorted((self._run / MODELS).glob("[!.]*")):
                name = models[folder.name] = self._name(folder)
                target = f"{self._folder}/{MODELS}/{name}"
                if storage.facts_of(target) is None:
                    storage.put_folder(folder, target, {})
            storage.put_folder(self._run / f"step-{step}", self._path(step), {"models": models})
            self._tidy()
        except _FAILURES as failure:
            print(
                f"pretrain: {self._path(step)}: could not be copied there ({reason(failure)}); "
                "training goes on with the checkpoint on this disk, and copies the next one",
                file=sys.stderr,
            )

    def discard(self) -> None:
        """Removes all copies of the run, which is finished."""
        try:
            storage.remove_folder(self._folder)
        except _FAILURES as failure:
            print(
                f"pretrain: {self._folder}: could not be removed ({reason(failure)}); nothing "
                "needs it any more",
                file=sys.stderr,
            )

    def _path(self, step: int) -> str:
        return f"{self._folder}/step-{step}"

    def _name(self, folder: Path) -> str:
        """The name of a kept model's copy: with a digest, taken once for each folder written."""
        if not folder.is_dir():
            return ""
        status = folder.stat()
        key = status.st_ino, status.st_mtime_ns
        if key not in self._names:
            self._names[key] = f"{folder.name}-{fingerprint.of_path(folder)}"
        return self._names[key]

    def _whole(self) -> dict[int, dict[str, Any]]:
        """The steps with a whole copy, in order, and what was said with each."""
        found = {}
        for name in storage.names(self._folder):
            if re.fullmatch(r"step-\d+", name):
                facts = storage.facts_of(f"{self._folder}/{name}")
                if facts:
                    found[int(name.removeprefix("step-"))] = facts
        return dict(sorted(found.items()))

    def _tidy(self) -> None:
        """Removes all checkpoints but the last ones, and the models that none of these needs."""
        stay = dict(list(self._whole().items())[-self._kept :])
        for name in storage.names(self._folder):
            if name.startswith("step-") and name not in {f"step-{step}" for step in stay}:
                storage.remove_folder(f"{self._folder}/{name}")
        needed = {name for facts in stay.values() for name in facts["models"].values()}
        for name in storage.names(f"{self._folder}/{MODELS}"):
            if name not in needed:
                storage.remove_folder(f"{self._folder}/{MODELS}/{name}")


def reason(failure: Exception) -> str:
    """One line of TensorFlow's long ones."""
    text = getattr(failure, "message", None) or str(failure)
    return text.strip().splitlines()[0][:300] if text.strip() else type(failure).__name__


@contextmanager
def copies(run: Path, place: str | None, kept: int) -> Iterator[Copies | None]:
    """The copies of a run in the folder `place` of storage, once what is newer there was fetched.

    Args:
        run: the run's scratch folder; its name, a digest, says which run it is.
        place: None where there are to be no copies.

    Raises:
        UserError: storage does not answer, or another process trains this run.
    """
    if place is None:
        yield None
        return
    folder = f"{place}/{run.name}"
    if Path(folder).resolve() == run.resolve():
        raise UserError(
            f"pretrain.checkpoint_dir: {place}: the checkpoints are there already; name another "
            "place, or null"
        )
    with ExitStack() as held:
        try:
            found = Copies(run, folder, kept, held.enter_context(owned(folder)))
            found.fetch()
        except tf.errors.OpError as failure:
            raise UserError(
                f"pretrain.checkpoint_dir: {folder}: cannot be used ({reason(failure)}); is the "
                "place there, and may this machine write to it?"
            ) from None
        yield found
