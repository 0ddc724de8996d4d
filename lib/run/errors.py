"""The exception for mistakes of the user: reported as one line, without a traceback."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """One line: what is wrong, where (file and line, or key), and how to fix it.

    Apart from file system errors, any other exception is a bug of this project, and keeps its
    traceback.
    """


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Adds the file's name to an OSError, which lacks it when a write or a flush fails."""
    try:
        yield
    except OSError as failure:
        failure.filename = failure.filename or str(path)
        raise


def describe(error: UserError | OSError) -> str:
    """An expected error as one line; of a file system, with how to fix it if the disk is full."""
    if isinstance(error, UserError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    fix = ""
    if error.errno == errno.ENOSPC:
        fix = "; free some space and run the same command again"
    elif error.errno is None:  # NumPy's errors after short writes have none.
        fix = "; is the disk full? Free some space and run the same command again"
    return f"{where}{error.strerror or error}{fix}"
