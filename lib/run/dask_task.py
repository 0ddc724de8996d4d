"""What happens on a worker of a Dask cluster: it shows that it is like us, then takes tasks.

Nothing is uploaded. A worker runs the project's code from a checkout, in processes that live longer
than one run; so it is asked what code it has in memory, not only what is on its disk.

A run's ticket is a file on the shared disk that says what a worker must be like. Who cannot read
it does not share the disk.
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

from lib.run.pool import TRIES, attempt

_ROOT = Path(__file__).parents[2]
# What the tasks of the data stages use.
_PACKAGES = (
    "distributed",
    "emoji",
    "google-crc32c",
    "h5py",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rensa",
    "sentencepiece",
)
DONE, FAILED, DIED, REFUSED = "done", "failed", "died", "refused"
# glibc's numbers for mallopt(3), and what it comes to by itself where nobody has set anything.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST_BYTES = 32 << 20
# The caches of the tasks (of the tokenizer, say) are made for one task at a time.
_at_work = threading.Lock()


class WorkerRefusedError(Exception):
    """What is wrong with a worker, and the mend."""


def _identity() -> dict[str, dict[str, str]]:
    """MD5 of each file of code, and the versions that results may depend on."""
    files = [*_ROOT.glob("lib/**/*.py"), *_ROOT.glob("lib/**/*.json"), *_ROOT.glob("stages/*.py")]
    code = {
        path.relative_to(_ROOT).as_posix(): hashlib.md5(
            path.read_bytes(), usedforsecurity=False
        ).hexdigest()
        for path in sorted(files)
    }
    versions = {name: metadata.version(name) for name in _PACKAGES}
    # Of Python the minor version counts, by its Unicode tables; compressed records are zlib's.
    versions["Python"] = ".".join(map(str, sys.version_info[:2]))
    versions["zlib"] = zlib.ZLIB_RUNTIME_VERSION
    return {"code": code, "versions": versions}


# As it was when this process began: what it imports later, it imports by the same files or is found
# out by the files that have changed.
_IDENTITY = _identity()


def write_ticket(ticket: Path) -> None:
    """Says what workers must be like: as this process is."""
    ticket.write_text(json.dumps(_IDENTITY), encoding="utf-8")


@lru_cache(maxsize=16)
def show(ticket: Path) -> Path:
    """Compares this process with a ticket, and leaves a file beside it.

    Returns:
        The file. It holds its own name.

    Raises:
        WorkerRefusedError: this process is another, or does not share the disk.
    """
    try:
        wanted = json.loads(ticket.read_text(encoding="utf-8"))
    except OSError as failure:
        raise WorkerRefusedError(
            f"cannot read {ticket} ({failure.strerror}); the project should be on a disk that all "
            "machines share, under the same path"
        ) from None
    code, versions = _IDENTITY["code"], _IDENTITY["versions"]
    differing = sorted(
        name
        for name in code.keys() | wanted["code"].keys()
        if code.get(name) != wanted["code"].get(name)
    )
    if differing:
        more = f" and {len(differing) - 1} more files" if len(differing) > 1 else ""
        raise WorkerRefusedError(
            f"has other code in memory ({differing[0]}{more}); start it again, in the same "
            "version of the project"
        )
    for name, version in wanted["versions"].items():
        if versions.get(name) != version:
            raise WorkerRefusedError(
                f"has {name} {versions.get(name)}, not {version}; start it in the same environment"
            )
    answer = ticket.with_name(f"{platform.node()}-{os.getpid()}")
    try:
        answer.write_text(answer.name, encoding="utf-8")
    except OSError as failure:
        raise WorkerRefusedError(
            f"cannot write {answer} ({failure.strerror}); start it as a user who may"
        ) from None
    return answer


class _Pickler(pickle.Pickler):
    """Makes relative paths absolute: workers have working directories of their own."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, Path) and not obj.is_absolute():
            return Path, (str(obj.absolute()),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    """Finds under its name what is `__main__` to the process that pickled it: a stage."""

    def __init__(self, stream: io.BytesIO, main: str) -> None:
        super().__init__(stream)
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(self._main if module == "__main__" else module, name)


def pack(function: object, task: object) -> bytes:
    """A task by the names of its function and classes, to be imported where it is done."""
    stream = io.BytesIO()
    main = sys.modules["__main__"].__spec__
    pickle.dump(main.name if main else "__main__", stream)
    _Pickler(stream).dump((function, task))
    return stream.getvalue()


@lru_cache(1)
def _keep_memory() -> None:
    """Has freed memory used again, as in any other process.

    Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, to be seen to need little. Then each
    larger array goes back to the kernel and the next one is paged in anew: records took 1.7 times
    as long.
    """
    with suppress(AttributeError, OSError):  # Not glibc.
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, _MOST_BYTES)
        library.mallopt(_TRIM_THRESHOLD, 2 * _MOST_BYTES)


def perform(ticket: str, key: str, packed: bytes) -> bytes:
    """Does what `pack` packed.

    A try leaves a file beside the ticket while it lasts. So a task that was running whenever its
    worker died is told from those that were only waiting there.

    Args:
        key: of the task, unique in the run.

    Returns:
        Pickled: DONE and the result, FAILED and the error, REFUSED and what is wrong with which
        worker, DIED and None: its worker died whenever it was tried.
    """
    try:
        show(Path(ticket))
    except WorkerRefusedError as error:
        return pickle.dumps((REFUSED, f"{platform.node()} (process {os.getpid()}) {error}"))
    _keep_memory()
    stream = io.BytesIO(packed)
    main = pickle.load(stream)
    function, task = _Unpickler(stream, main).load()
    with _at_work:
        mark = _begin(Path(ticket), key)
        if not mark:
            return pickle.dumps((DIED, None))
        good, answer = attempt(function, task)
        mark.unlink(missing_ok=True)
    return pickle.dumps((DONE if good else FAILED, answer))


def tries(ticket: Path, key: str) -> list[Path]:
    """Files of the tries of a task that have begun and not ended; each holds a process id."""
    return [mark for mark in _marks(ticket, key) if mark.exists()]


def _marks(ticket: Path, key: str) -> list[Path]:
    return [ticket.with_name(f"{key}.try-{number}") for number in range(TRIES)]


def _begin(ticket: Path, key: str) -> Path | None:
    for mark in _marks(ticket, key):
        with suppress(FileExistsError), mark.open("x", encoding="utf-8") as stream:
            stream.write(str(os.getpid()))
            return mark
    return None
