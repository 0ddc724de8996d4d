"""The worker's side of a Dask cluster: checks that it is compatible with the run, and runs tasks.

No code is uploaded. A worker imports the project's code from a checkout, and its process may live
longer than one run. So the check covers the code that the worker had when it started, not the code
that is on its disk now.

A run's handshake file, on the shared disk, has the code and versions that a worker must have. A
worker that cannot read it does not share the disk.
"""

import ctypes
import hashlib
import io
import json
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
from typing import Any

from lib.run.attempts import MAX_ATTEMPTS, attempt

_ROOT = Path(__file__).parents[2]
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
# Outcomes of a task.
DONE, FAILED, DIED, INCOMPATIBLE = "done", "failed", "died", "incompatible"
# Parameters of mallopt(3), and the largest mmap threshold that glibc chooses by itself.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MAX_MMAP_THRESHOLD = 32 << 20
# Held while a task runs: the tasks' caches (the tokenizer's, for example) assume one at a time.
_task_lock = threading.Lock()


class WorkerIncompatibleError(Exception):
    """What is wrong with a worker, and how to fix it."""


def _identity() -> dict[str, dict[str, str]]:
    """MD5s of the code files, and the versions that results may depend on."""
    files = [*_ROOT.glob("lib/**/*.py"), *_ROOT.glob("lib/**/*.json"), *_ROOT.glob("stages/*.py")]
    code = {
        path.relative_to(_ROOT).as_posix(): hashlib.md5(
            path.read_bytes(), usedforsecurity=False
        ).hexdigest()
        for path in sorted(files)
    }
    versions = {name: metadata.version(name) for name in _PACKAGES}
    # Python's Unicode tables change with the minor version; compressed records depend on zlib.
    versions["Python"] = ".".join(map(str, sys.version_info[:2]))
    versions["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    return {"code": code, "versions": versions}


# Computed when the process starts. A module imported later comes from the same files, or the
# files have changed, and then the process that runs the stage has another identity.
_IDENTITY = _identity()


def write_handshake(handshake: Path) -> None:
    """Writes the handshake file: workers must have the code and the versions of this process."""
    handshake.write_text(json.dumps(_IDENTITY), encoding="utf-8")


@lru_cache(maxsize=16)
def check_compatible(handshake: Path) -> Path:
    """Compares this process with a handshake file, and writes a reply next to it.

    Returns:
        The reply: a file that contains its own name.

    Raises:
        WorkerIncompatibleError: code or versions differ, or the disk is not shared.
    """
    try:
        expected = json.loads(handshake.read_text(encoding="utf-8"))
    except OSError as failure:
        raise WorkerIncompatibleError(
            f"cannot read {handshake} ({failure.strerror}); the project should be on a disk that "
            "all machines share, under the same path"
        ) from None
    code, versions = _IDENTITY["code"], _IDENTITY["versions"]
    differing = sorted(
        name
        for name in code.keys() | expected["code"].keys()
        if code.get(name) != expected["code"].get(name)
    )
    if differing:
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise WorkerIncompatibleError(
            f"has different code in memory ({differing[0]}{more}); start it again, in the same "
            "version of the project"
        )
    for name, version in expected["versions"].items():
        if versions.get(name) != version:
            raise WorkerIncompatibleError(
                f"has {name} {versions.get(name)}, not {version}; start it in the same environment"
            )
    reply = handshake.with_name(f"{platform.node()}-{os.getpid()}")
    try:
        reply.write_text(reply.name, encoding="utf-8")
    except OSError as failure:
        raise WorkerIncompatibleError(
            f"cannot write {reply} ({failure.strerror}); start it as a user with write permission"
        ) from None
    return reply


class _Pickler(pickle.Pickler):
    """Makes relative paths absolute: workers have working directories of their own."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, Path) and not obj.is_absolute():
            return Path, (str(obj.absolute()),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Imports the stage, which is `__main__` in the process that pickled it, by its real name."""

    def __init__(self, stream: io.BytesIO, main: str) -> None:
        super().__init__(stream)
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main if module == "__main__" else module, name)


def serialize_task(function: object, task: object) -> bytes:
    """Pickles a function and its argument; the worker imports both by name."""
    stream = io.BytesIO()
    main = sys.modules["__main__"].__spec__
    pickle.dump(main.name if main else "__main__", stream)
    _Pickler(stream).dump((function, task))
    return stream.getvalue()


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


def run_task(handshake: str, key: str, serialized: bytes) -> bytes:
    """Runs a task from `serialize_task`.

    During an attempt there is a file next to the handshake file. It shows which tasks were running
    when a worker died, as opposed to those that were only queued there.

    Args:
        handshake: path of the handshake file.
        key: the task's name, unique in the run.

    Returns:
        A pickled pair: DONE and the result; FAILED and the error; INCOMPATIBLE and the name of
        this worker with what is wrong with it; DIED and None, if its worker died in MAX_ATTEMPTS
        attempts.
    """
    try:
        check_compatible(Path(handshake))
    except WorkerIncompatibleError as error:
        return pickle.dumps((INCOMPATIBLE, f"{platform.node()} (process {os.getpid()}) {error}"))
    _reuse_freed_memory()
    stream = io.BytesIO(serialized)
    main = pickle.load(stream)
    function, task = _Unpickler(stream, main).load()
    with _task_lock:
        attempt_file = _start_attempt(Path(handshake), key)
        if not attempt_file:
            return pickle.dumps((DIED, None))
        succeeded, outcome = attempt(function, task)
        attempt_file.unlink(missing_ok=True)
    return pickle.dumps((DONE if succeeded else FAILED, outcome))


def unfinished_attempts(handshake: Path, key: str) -> list[Path]:
    """Files of the attempts at a task that have started and not ended; each has a process id."""
    return [path for path in _attempt_files(handshake, key) if path.exists()]


def _attempt_files(handshake: Path, key: str) -> list[Path]:
    return [handshake.with_name(f"{key}.attempt-{number}") for number in range(MAX_ATTEMPTS)]


def _start_attempt(handshake: Path, key: str) -> Path | None:
    """Creates the file of the next attempt; None: all attempts are used up."""
    for path in _attempt_files(handshake, key):
        with suppress(FileExistsError), path.open("x", encoding="utf-8") as stream:
            stream.write(str(os.getpid()))
            return path
    return None
