"""Seals: the digests of files that are kept for later runs, so that damaged ones are made again.

A seal is a small JSON file, written last: without an intact seal, or with other files than it says,
there is nothing to use. A CRC is enough, as it is for records: this guards against damage (a full
disk, a machine that stopped, a flipped bit), not against forgery. Files that are sealed need not
wait for the disk when they are written.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c

from lib.run.atomic import new_file

_BLOCK_BYTES = 1 << 20
_DAY = 86_400
_KEPT_DAYS = 30


def _checksum(path: Path) -> list[int]:
    """Size and CRC-32C of a file."""
    size = checksum = 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
            size += len(block)
    return [size, checksum]


def write_seal(seal: Path, files: Sequence[Path], values: Any = None) -> None:
    """Seals files that have been written, and JSON values, which the seal contains."""
    content = json.dumps(
        {"files": [_checksum(path) for path in files], "values": values}, ensure_ascii=True
    ).encode()
    with new_file(seal, synchronise=False) as temporary:
        temporary.write_bytes(_digest(content) + b"\n" + content)


def read_seal(seal: Path) -> dict[str, Any] | None:
    """The `files` and `values` of an intact seal; None: it is missing or damaged."""
    try:
        digest, _, content = seal.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if digest != _digest(content):
        return None
    return dict(json.loads(content))


def is_intact(seal: Path, files: Sequence[Path]) -> bool:
    """Whether a seal and the files that it was written for are as they were written.

    The seal of files that are used gets a new date, once per day, for `prune`.
    """
    found = read_seal(seal)
    try:
        if found is None or found["files"] != [_checksum(path) for path in files]:
            return False
        if time.time() - seal.stat().st_mtime > _DAY:
            os.utime(seal)
    except FileNotFoundError:
        return False
    return True


def prune(folder: Path, current: str) -> None:
    """Deletes what is not used any more from a folder with a subfolder per version of the code.

    Everything that was not used within 30 days goes, and what other code made within one: another
    run may be using it.

    Args:
        current: the subfolder of the present code.
    """
    now = time.time()
    for path in folder.iterdir():
        if path.name == current:
            continue
        with suppress(OSError):
            newest = max(each.lstat().st_mtime for each in (path, *path.glob("*")))
            if now - newest > _DAY:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    groups: dict[str, list[Path]] = {}
    for path in (folder / current).iterdir():
        groups.setdefault(path.name.partition(".")[0], []).append(path)
    for paths in groups.values():
        with suppress(OSError):
            if now - max(path.stat().st_mtime for path in paths) > _KEPT_DAYS * _DAY:
                for path in paths:
                    path.unlink()


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).hexdigest().encode()
