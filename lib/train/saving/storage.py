"""Folders in remote storage: a bucket (gs://…) or any other file system of TensorFlow.

An object store cannot rename a folder in one step, so the last file written to a folder is a list
of all others with their sizes and digests, complete.json. A folder without it is incomplete and
does not count.
"""

import json
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from lib.run import fingerprint, tf
from lib.run.atomic import new_directory

_LIST = "complete.json"


class DamagedError(Exception):
    """A folder in storage does not agree with its list of files."""


def names(folder: str) -> list[str]:
    """Names of the entries of a folder; empty if it does not exist.

    Raises:
        tf.errors.OpError: storage cannot be reached.
    """
    # Not listdir, which reports a bucket that cannot be reached as a missing folder.
    return sorted(path.rpartition("/")[2] for path in tf.io.gfile.glob(f"{folder}/*"))


def read_object(path: str) -> dict[str, Any] | None:
    """Reads a JSON object; empty if the file is incomplete, None if there is no file."""
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            values = json.loads(stream.read())
    except tf.errors.NotFoundError:
        return None
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def write_object(path: str, values: dict[str, Any]) -> None:
    """Writes a small JSON file; until it is complete, it is none for `read_object`."""
    _make_parent(path)
    _remove_file(path)  # In TensorFlow's ram:// it would become longer.
    with tf.io.gfile.GFile(path, "wb") as stream:
        stream.write(json.dumps(values, indent=1).encode())


def put_folder(source: Path, target: str, info: dict[str, Any]) -> None:
    """Copies a local folder into storage.

    Args:
        info: for `read_info` to return, together with the list of files.

    Raises:
        tf.errors.OpError: it cannot be written; `target` is then incomplete.
    """
    if names(target):
        remove_folder(target)
    files = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source).as_posix()
        _make_parent(f"{target}/{name}")
        tf.io.gfile.copy(str(path), f"{target}/{name}", overwrite=True)
        files[name] = {"bytes": path.stat().st_size, "md5": fingerprint.of_file(path)}
    write_object(f"{target}/{_LIST}", {"files": files, **info})


def read_info(folder: str) -> dict[str, Any] | None:
    """The list of files of a folder in storage and the info given with it; None if incomplete."""
    return read_object(f"{folder}/{_LIST}") or None


def get_folder(source: str, target: Path) -> None:
    """Copies a folder from storage to this machine atomically.

    Raises:
        DamagedError: it is incomplete, or a file differs from what was written.
        tf.errors.OpError: storage cannot be reached.
    """
    info = read_info(source)
    if not info or not isinstance(info.get("files"), dict):
        raise DamagedError("without the list of its files")
    with new_directory(target) as temporary:
        for name, file in info["files"].items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise DamagedError(f"{name} would be outside the folder")
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                tf.io.gfile.copy(f"{source}/{name}", str(path))
            except tf.errors.NotFoundError:
                raise DamagedError(f"{name} is missing") from None
            if fingerprint.of_file(path) != file["md5"]:
                raise DamagedError(f"the content of {name} has changed")


def remove_folder(folder: str) -> None:
    """Removes a folder: its list first, so that what remains after a failure does not count."""
    _remove_file(f"{folder}/{_LIST}")
    with suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(folder)


def _remove_file(path: str) -> None:
    with suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(path)


def _make_parent(path: str) -> None:
    if not path.startswith("gs://"):  # An object store has no folders.
        tf.io.gfile.makedirs(path.rpartition("/")[0])
