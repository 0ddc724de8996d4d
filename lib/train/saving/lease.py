"""Lease on a folder in remote storage: one trainer at a time, as far as storage allows it.

Storage has no locks, so a trainer writes heartbeats to an object in the folder. A process that
finds such an object watches it for a while: if it changes, its owner is alive; clocks are not
compared. Two processes that begin in the same second may both pass; then the one that wrote last
keeps the lease, and the other stops at its next checkpoint. Until then both write the same bytes,
as training is bit-for-bit reproducible.
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

# Seconds between two heartbeats, and without one until the holder counts as dead.
_INTERVAL, _PATIENCE = 20.0, 70.0
_FILE = "lease.json"


@contextmanager
def acquire_lease(
    folder: str, interval: float = _INTERVAL, patience: float = _PATIENCE
) -> Iterator[Callable[[], None]]:
    """Holds the lease on a folder; yields a function that raises UserError once it is lost.

    Args:
        interval: seconds between two heartbeats.
        patience: seconds without one until another holder counts as dead.

    Raises:
        UserError: another process trains there.
        tf.errors.OpError: storage cannot be reached.
    """
    path = f"{folder}/{_FILE}"
    own: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.time_ns(),
    }
    _wait_until_free(path, own["host"], patience, interval / 4)
    write_object(path, _heartbeat(own, 0))
    stop = threading.Event()

    def send_heartbeats() -> None:
        count = 0
        while not stop.wait(interval):
            count += 1
            try:
                if not _is_held_by(own, read_object(path)):
                    return
                write_object(path, _heartbeat(own, count))
            except tf.errors.OpError:
                continue  # The next one may get through.

    def check() -> None:
        found = read_object(path)
        if not _is_held_by(own, found):
            other = f"{_name(found)} has" if found else f"its {_FILE} was removed and someone has"
            raise UserError(f"{folder}: {other} taken over this run; it continues there, not here")

    thread = threading.Thread(target=send_heartbeats, daemon=True, name="lease on checkpoints")
    thread.start()
    try:
        yield check
    finally:
        stop.set()
        thread.join()
        try:
            if _is_held_by(own, read_object(path)):
                remove_file(path)
        except tf.errors.OpError:
            pass  # The heartbeats end, which is enough.


def _wait_until_free(path: str, host: str, patience: float, pause: float) -> None:
    """Returns when no living process holds the lease."""
    first = read_object(path)
    if first is None or (
        first.get("host") == host and not Path(f"/proc/{first.get('pid')}").exists()
    ):
        return
    print(
        f"pretrain: {_name(first)} trained this run; waiting up to {patience:.0f} s to see whether "
        "it still does"
    )
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        time.sleep(pause)
        found = read_object(path)
        if found is None:
            return
        if found != first:
            raise UserError(
                f"{path}: {_name(found)} is training this same run; wait for it or stop it"
            )


def _heartbeat(own: dict[str, Any], number: int) -> dict[str, Any]:
    """Of constant length: a reader may see new content in the length of the old one."""
    return {**own, "heartbeat": f"{number:012}"}


def _is_held_by(own: dict[str, Any], found: dict[str, Any] | None) -> bool:
    return found is not None and all(found.get(key) == value for key, value in own.items())


def _name(holder: dict[str, Any]) -> str:
    return f"process {holder.get('pid')} of {holder.get('host')}"
