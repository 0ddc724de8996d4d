"""Files and folders that appear whole or not at all.

Everything is written beside its target, on the same file system, and moved into place by one
rename. A DVC-tracked file is never opened for writing: it may be a hard link into DVC's cache.

Several processes may write the same file at once, on several machines that share a disk: each has
a temporary name of its own, and the last rename wins.
"""

import errno
import glob
import hashlib
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lib.run.errors import UserError


def _machine() -> str:
    """Eight hex digits for where process ids mean the same: this host, or this container of it."""
    space = 0
    with suppress(OSError):
        space = Path("/proc/self/ns/pid").stat().st_ino
    name = f"{platform.node()} {space}"
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


_MACHINE = _machine()
# What was written, machine, process, and a word that tells apart what one process writes.
_TEMPORARY = re.compile(r"\..+\.tmp-([0-9a-f]{8})-([0-9]+)-[0-9a-f]{8}", re.DOTALL)
_ABANDONED_SECONDS = 86_400
# Names that this process is writing under.
_own: set[str] = set()


def _name(target: Path) -> Path:
    """A fresh name beside `target`."""
    return target.with_name(f".{target.name}.tmp-{_MACHINE}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_abandoned(leftover: Path) -> bool:
    """Whether nobody writes this any more: its process has ended."""
    match = _TEMPORARY.fullmatch(leftover.name)
    if match and match[1] == _MACHINE:
        process = int(match[2])
        return leftover.name not in _own if process == os.getpid() else not _is_alive(process)
    # Of another machine: its processes cannot be seen from here.
    try:
        newest = max(path.lstat().st_mtime for path in (leftover, *leftover.rglob("*")))
    except OSError:
        return False  # It is being written, or moved into place.
    return time.time() - newest > _ABANDONED_SECONDS


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A fresh name beside `target`; leftovers of runs that were killed are removed first."""
    inside = [path for path in target.parents if _TEMPORARY.fullmatch(path.name)]
    # A task that a cluster gave up may outlive its run: it must not bring the run's folder back.
    if inside and not inside[-1].exists():
        raise FileNotFoundError(errno.ENOENT, "the run that it is for has ended", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not inside:  # There, `new_directory` clears up.
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.tmp-*"):
            if _is_abandoned(leftover):
                remove(leftover)
    temporary = _name(target)
    _own.add(temporary.name)
    try:
        yield temporary
    finally:
        _own.discard(temporary.name)


def remove(path: Path) -> None:
    """Deletes a file, link or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_file(target: Path, synchronise: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write; on success it becomes `target`, on failure it is gone.

    Args:
        synchronise: wait until it is on the disk; not needed for what dies with its run.
    """
    with _temporary(target) as temporary:
        try:
            yield temporary
            if synchronise:
                _synchronise(temporary)
            os.replace(temporary, target)
        finally:
            remove(temporary)


@contextmanager
def new_directory(target: Path, replace: bool = True) -> Iterator[Path]:
    """Gives an empty temporary folder; on success it becomes `target`.

    Args:
        replace: an old one; otherwise one that is not empty by then stays, and is an error.
    """
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: a file, where a folder is to be written; name another")
    with _temporary(target) as temporary:
        temporary.mkdir()
        # Under this name nobody can add to it any more, not even a task that outlives its run.
        closed = _name(target)
        try:
            yield temporary
            os.replace(temporary, closed)
            _remove_leftovers(closed)
            for path in sorted(closed.rglob("*")):
                _synchronise(path)
            old = _name(target)
            if replace and (target.exists() or target.is_symlink()):
                os.replace(target, old)
            try:
                os.replace(closed, target)
            except OSError as failure:
                if failure.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                raise UserError(f"{target}: was written by another process meanwhile") from None
            remove(old)
        finally:
            if temporary.exists():
                os.replace(temporary, closed)
            shutil.rmtree(closed, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Removes what processes that were killed left in a folder that is finished."""
    for path in list(folder.rglob(".*.tmp-*")):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def write_text(target: Path, text: str) -> None:
    """Writes a small text file (UTF-8, LF) atomically."""
    with new_file(target) as temporary:
        temporary.write_bytes(text.encode())
