"""The worker's side of a Dask cluster: runs tasks, if its code and versions are those of the stage.

No code is uploaded. A worker imports the project's code from a checkout, and its process may live
longer than one run. So what is compared is the code that it had when it started, not the code that
is on its disk now.
"""

import ctypes
import os
import pickle
import platform
import sys
import threading
import zlib
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from lib.run import fingerprint
from lib.run.attempts import MAX_ATTEMPTS, attempt
from lib.run.errors import UserError

_ROOT = Path(__file__).resolve().parents[2]
# Packages that the tasks of the data stages use.
_PACKAGES = (
    "distributed",
    "emoji",
    "google-crc32c",
    "h5py",
    "lxml",
    "markdown-it-py",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rensa",
    "sentencepiece",
)
# Parameters of mallopt(3), and the largest mmap threshold that glibc chooses by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MAX_MMAP_THRESHOLD = 32 << 20
# Held while a task runs: the working folder is the process's, and caches assume one at a time.
_task_lock = threading.Lock()


def _identity() -> dict[str, str]:
    """What results may depend on: the digest of the code, and versions."""
    files = [*_ROOT.glob("lib/**/*.py"), *_ROOT.glob("lib/**/*.json"), *_ROOT.glob("stages/*.py")]
    code = {path.relative_to(_ROOT).as_posix(): fingerprint.of_file(path) for path in files}
    return {
        "code": fingerprint.of_values(code),
        # Python's Unicode tables change with the minor version; compressed records depend on zlib.
        "Python": ".".join(map(str, sys.version_info[:2])),
        "zlib": zlib.ZLIB_RUNTIME_VERSION,
        **{name: metadata.version(name) for name in _PACKAGES},
    }


# Computed when the process starts. A module imported later comes from the same files, or the
# files have changed, and then the process that runs the stage has another identity.
IDENTITY = _identity()


@lru_cache(1)
def _reuse_freed_memory() -> None:
    """Sets malloc's thresholds to the values that they reach in ordinary processes.

    Dask starts workers with MALLOC_TRIM_THRESHOLD_=65536, so that they appear to use little memory.
    Then every larger array is returned to the kernel when it is freed, and the next one is paged in
    again: records took 1.7 times as long.
    """
    with suppress(AttributeError, OSError):  # Not glibc.
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _MAX_MMAP_THRESHOLD)
        library.mallopt(_TRIM_THRESHOLD, 2 * _MAX_MMAP_THRESHOLD)


def run_task(identity: dict[str, str], folder: str, attempts: str, serialized: bytes) -> bytes:
    """Runs a task.

    Args:
        identity: `IDENTITY` of the process that runs the stage.
        folder: its working folder.
        attempts: a file of the task in a folder of the run, with a byte for each attempt that has
            begun and not ended: while it runs, or because its worker died. (Dask's own count has
            the deaths of workers where the task was only queued, too.)
        serialized: the pickled function and its argument.

    Returns:
        The pickled outcome of `attempt`; of None, if its worker died in MAX_ATTEMPTS attempts.
    """
    for name, value in identity.items():
        if IDENTITY.get(name) != value:
            return _refuse(
                f"has {name} {IDENTITY.get(name)}, not {value}; start it again, in the same "
                "version of the project and the same environment"
            )
    _reuse_freed_memory()
    with _task_lock:
        try:
            os.chdir(folder)
            with Path(attempts).open("ab") as stream:
                if stream.tell() == MAX_ATTEMPTS:
                    return pickle.dumps(None)
                stream.write(b"x")
        except OSError as failure:
            return _refuse(
                f"cannot use {failure.filename} ({failure.strerror}); the project should be on a "
                "disk that all machines share, under the same path, where all may write"
            )
        function, task = pickle.loads(serialized)
        outcome = attempt(function, task)
        Path(attempts).unlink(missing_ok=True)
    return pickle.dumps(outcome)


def _refuse(why: str) -> bytes:
    """An outcome for a worker that must not run tasks."""
    worker = f"Dask worker {platform.node()} (process {os.getpid()})"
    return pickle.dumps((False, UserError(f"{worker} {why}")))
