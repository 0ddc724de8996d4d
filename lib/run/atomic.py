"""Atomic files and folders: each appears complete or not at all.

Everything is written next to its target, on the same file system, and moved into place by one
rename. A file that DVC tracks is never opened for writing: it may be a hard link into DVC's cache.

Several processes may write the same file at the same time, also on different machines that share a
disk: each has a temporary name of its own, and the last rename wins.

Folders are atomic too, although DVC deletes the outputs of a stage before it runs the stage, and
runs one that was killed again. In a trial with DVC 3.67, a stage was killed after two of three
files: `dvc repro -s` of the next stage took the two for whole, and so did `dvc commit -f`. A stage
run by hand would as well: half of the shards look like all. Nothing else guards checkpoints.
"""

import errno
import glob
import hashlib
import itertools
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
    """Eight hex digits that identify the scope of process ids: this host, or container on it."""
    namespace = 0
    with suppress(OSError):
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    name = f"{platform.node()} {namespace}"
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


_MACHINE = _machine()
# Eight hex digits of this process, as opposed to earlier ones with the same id; and a counter.
_PROCESS, _COUNT = uuid.uuid4().hex[:8], itertools.count()
_TEMPORARY = re.compile(r"\..+\.tmp-([0-9a-f]{8})-([0-9]+)-([0-9a-f]{8})-[0-9]+", re.DOTALL)
_ABANDONED_SECONDS = 86_400


def _temporary_name(target: Path) -> Path:
    """A new temporary name next to `target`."""
    owner = f"{_MACHINE}-{os.getpid()}-{_PROCESS}"
    return target.with_name(f".{target.name}.tmp-{owner}-{next(_COUNT)}")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _is_abandoned(leftover: Path) -> bool:
    """Whether the process that wrote a temporary has ended."""
    match = _TEMPORARY.fullmatch(leftover.name)
    if match and match[1] == _MACHINE:
        process = int(match[2])
        return match[3] != _PROCESS if process == os.getpid() else not _is_alive(process)
    # Written on another machine, whose processes cannot be seen from here.
    try:
        newest = max(path.lstat().st_mtime for path in (leftover, *leftover.rglob("*")))
    except OSError:
        return False  # It is being written or moved into place.
    return time.time() - newest > _ABANDONED_SECONDS


def _new_temporary(target: Path) -> Path:
    """A new name next to `target`, after the temporaries of killed runs have been deleted."""
    enclosing = [path for path in target.parents if _TEMPORARY.fullmatch(path.name)]
    # A task that a cluster gave up may outlive its run: it must not recreate the run's folder.
    if enclosing and not enclosing[-1].exists():
        raise FileNotFoundError(errno.ENOENT, "the run that writes it has ended", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    if not enclosing:  # In a temporary folder, `new_directory` deletes them.
        for leftover in target.parent.glob(f".{glob.escape(target.name)}.tmp-*"):
            if _is_abandoned(leftover):
                remove(leftover)
    return _temporary_name(target)


def remove(path: Path) -> None:
    """Deletes a file, link or folder if it exists."""
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
    """Yields a temporary path to write; it becomes `target` on success, and is deleted on failure.

    Args:
        synchronise: wait until the file is on the disk; not needed for files that only one run
            uses.
    """
    temporary = _new_temporary(target)
    try:
        yield temporary
        if synchronise:
            _synchronise(temporary)
        os.replace(temporary, target)
    finally:
        remove(temporary)


@contextmanager
def new_directory(target: Path, replace: bool = True) -> Iterator[Path]:
    """Yields an empty temporary folder; on success it becomes `target`.

    Args:
        replace: replace an existing folder; if False, one that is not empty in the end is kept.

    Raises:
        UserError: `target` is a file, or an existing folder that must not be replaced.
    """
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: a file, but a folder is to be written there; name another")
    temporary = _new_temporary(target)
    temporary.mkdir()
    # After this rename nothing can be added, not even by a task that outlives its run.
    closed = _temporary_name(target)
    try:
        yield temporary
        os.replace(temporary, closed)
        _remove_leftovers(closed)
        for path in sorted(closed.rglob("*")):
            _synchronise(path)
        old = _temporary_name(target)
        if replace and (target.exists() or target.is_symlink()):
            os.replace(target, old)
        try:
            os.replace(closed, target)
        except OSError as failure:
            if failure.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise UserError(f"{target}: another process has written it meanwhile") from None
        remove(old)
    finally:
        if temporary.exists():
            os.replace(temporary, closed)
        shutil.rmtree(closed, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Deletes the temporaries of killed processes in a finished folder."""
    for path in list(folder.rglob(".*.tmp-*")):
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


def write_text(target: Path, text: str) -> None:
    """Writes a small text file (UTF-8, LF) atomically."""
    with new_file(target) as temporary:
        temporary.write_bytes(text.encode())
