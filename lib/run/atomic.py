"""Files and folders that appear whole or not at all.

Everything is written beside its target, on the same file system, and moved into place by one
rename. A DVC-tracked file is never opened for writing: it may be a hard link into DVC's cache.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib.run.errors import UserError


def _temporary(target: Path) -> Path:
    """A fresh name beside `target`; leftovers of runs that were killed are removed first."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.tmp-*"):
        owner = leftover.name.rpartition("-")[2]
        if owner == str(os.getpid()) or not Path(f"/proc/{owner}").exists():
            remove(leftover)
    return target.with_name(f".{target.name}.tmp-{os.getpid()}")


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
def new_file(target: Path) -> Iterator[Path]:
    """Gives a temporary path to write; on success it becomes `target`, on failure it is gone."""
    temporary = _temporary(target)
    try:
        yield temporary
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
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            _synchronise(path)
        old = target.with_name(f".{target.name}.tmp-old-{os.getpid()}")
        if replace and (target.exists() or target.is_symlink()):
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except OSError as failure:
            if failure.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise UserError(f"{target}: was written by another process meanwhile") from None
        remove(old)
    finally:
        remove(temporary)


def write_text(target: Path, text: str) -> None:
    """Writes a small text file (UTF-8, LF) atomically."""
    with new_file(target) as temporary:
        temporary.write_bytes(text.encode())
