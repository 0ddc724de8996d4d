"""Attempts at a task: the limit on their number, and the outcome of one as a value."""

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from lib.run.errors import UserError

T = TypeVar("T")

# A task whose worker has died this many times fails the run.
MAX_ATTEMPTS = 3


def attempt(function: Callable[[T], Any], task: T) -> tuple[bool, Any]:
    """Runs a task, and returns (True, result) or (False, error).

    A UserError is returned unchanged. An OSError without a file name gets the task's. Any other
    error becomes a RuntimeError that names the task and has the traceback, because tracebacks are
    lost on the way to another process.
    """
    try:
        return True, function(task)
    except UserError as error:
        return False, error
    except OSError as error:
        error.filename = error.filename or str(task)
        return False, error
    except Exception:
        return False, RuntimeError(f"{task}: {traceback.format_exc()}")
