"""The one exception that stands for a mistake of the user's: shown as one line, no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """What is wrong, where (file and line, or key), and what to do, in one line.

    Anything else that escapes a stage is a defect of ours and keeps its traceback.
    """


@contextmanager
def about(path: Path) -> Iterator[None]:
    """Gives failures of the file system the name that they lack when a write or a flush fails."""
    try:
        yield
    except OSError as failure:
        failure.filename = failure.filename or str(path)
        raise
