"""One trainer at a time for a folder in storage, as far as that can be had there.

Storage has no locks, so whoever trains says so in an object, again and again. Who finds another's
watches it for a while: if it changes, the other is alive; no clocks are compared. Two that start in
the same second may both get by; then the one that wrote last stays, and the other stops at its next
checkpoint. Until then both write the same bytes, as training repeats itself to the bit.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.run import tf
from lib.run.errors import UserError
from lib.train.saving.storage import read_object, remove_file, write_object

# Seconds between two signs of life, and without one until its owner counts as dead.
_EVERY, _PATIENCE = 20.0, 70.0
_FILE = "owner.json"


@contextmanager
def owned(
    folder: str, every: float = _EVERY, patience: float = _PATIENCE
) -> Iterator[Callable[[], None]]:
    """Holds a folder in storage, and gives a function that raises UserError when it is lost.

    Raises:
        UserError: another process trains there.
        tf.errors.OpError: storage does not answer.
    """
    path = f"{folder}/{_FILE}"
    own: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.time_ns(),
    }
    _wait_for_silence(path, own["host"], patience, every / 4)
    write_object(path, _sign(own, 0))
    stop = threading.Event()

    def give_signs() -> None:
        signs = 0
        while not stop.wait(every):
            signs += 1
            try:
                if not _is(read_object(path), own):
                    return
                write_object(path, _sign(own, signs))
            except tf.errors.OpError:
                continue  # The next one may get through.

    def check() -> None:
        found = read_object(path)
        if not _is(found, own):
            other = f"{_name(found)} has" if found else "somebody has removed its owner.json and"
            raise UserError(f"{folder}: {other} taken this run over; it goes on there, not here")

    thread = threading.Thread(target=give_signs, daemon=True, name="owner of the checkpoints")
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
        try:
            if _is(read_object(path), own):
                remove_file(path)
        except tf.errors.OpError:
            pass  # It falls silent, and that is enough.


def _wait_for_silence(path: str, host: str, patience: float, pause: float) -> None:
    """Returns when nobody holds the folder."""
    first = read_object(path)
    if first is None or (
        first.get("host") == host and not Path(f"/proc/{first.get('pid')}").exists()
    ):
        return
    print(
        f"pretrain: {_name(first)} trained this run; looking for {patience:.0f} s whether it still "
        "does"
    )
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(pause)
        found = read_object(path)
        if found is None:
            return
        if found != first:
            raise UserError(
                f"{path}: {_name(found)} is training this very run; wait for it or stop it"
            )


def _sign(own: dict[str, Any], number: int) -> dict[str, Any]:
    """Always as long: who reads while another writes may get the new text in the old length."""
    return {**own, "signs": f"{number:012}"}


def _is(found: dict[str, Any] | None, own: dict[str, Any]) -> bool:
    return found is not None and all(found.get(key) == value for key, value in own.items())


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner.get('pid')} of {owner.get('host')}"
