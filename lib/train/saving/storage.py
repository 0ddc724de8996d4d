"""Folders in a bucket (gs://…) or wherever else TensorFlow's file systems reach.

An object store renames no folder at once, so a folder there is whole when the last of its files is
there: a list of all others with their sizes and digests. Without that it does not count.
"""

import json
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from lib.run import fingerprint, tf
from lib.run.atomic import new_directory

_LIST = "complete.json"


class DamagedError(Exception):
    """A folder in storage is not what its list says."""


def names(folder: str) -> list[str]:
    """What a folder holds; nothing, if it is not there.

    Raises:
        tf.errors.OpError: storage does not answer.
    """
    # Not listdir: where a bucket cannot be reached, it finds no folder.
    return sorted(path.rpartition("/")[2] for path in tf.io.gfile.glob(f"{folder}/*"))


def read_object(path: str) -> dict[str, Any] | None:
    """The JSON object in a file; an empty one, if it is not whole; None, if there is no file."""
    try:
        with tf.io.gfile.GFile(path, "rb") as stream:
            values = json.loads(stream.read())
    except tf.errors.NotFoundError:
        return None
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def write_object(path: str, values: dict[str, Any]) -> None:
    """Writes a small JSON file, which appears whole."""
    text = json.dumps(values, indent=1).encode()
    temporary = path if _is_object(path) else f"{path}.tmp"
    _make_parent(path)
    with tf.io.gfile.GFile(temporary, "wb") as stream:
        stream.write(text)
    if temporary != path:
        tf.io.gfile.rename(temporary, path, overwrite=True)


def put_folder(source: Path, target: str, facts: dict[str, Any]) -> None:
    """Copies a folder of this machine into storage.

    Args:
        facts: what `facts_of` shall give, beside the list of files.

    Raises:
        tf.errors.OpError: storage does not take it; `target` does not count then.
    """
    if names(target):
        remove_folder(target)
    files = {}
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        name = path.relative_to(source).as_posix()
        _make_parent(f"{target}/{name}")
        tf.io.gfile.copy(str(path), f"{target}/{name}", overwrite=True)
        files[name] = {"bytes": path.stat().st_size, "md5": fingerprint.of_file(path)}
    write_object(f"{target}/{_LIST}", {"files": files, **facts})


def facts_of(folder: str) -> dict[str, Any] | None:
    """The list of a folder in storage and what was said with it; None if it is not whole."""
    return read_object(f"{folder}/{_LIST}") or None


def get_folder(source: str, target: Path) -> None:
    """Copies a folder from storage to this machine, where it appears whole or not at all.

    Raises:
        DamagedError: it is not whole, or not what was put there.
        tf.errors.OpError: storage does not answer.
    """
    facts = facts_of(source)
    if not facts or not isinstance(facts.get("files"), dict):
        raise DamagedError("no list of its files")
    with new_directory(target) as temporary:
        for name, file in facts["files"].items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise DamagedError(f"{name} would lie outside")
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                tf.io.gfile.copy(f"{source}/{name}", str(path))
            except tf.errors.NotFoundError:
                raise DamagedError(f"{name} is missing") from None
            if fingerprint.of_file(path) != file["md5"]:
                raise DamagedError(f"{name} has other content than was put there")


def remove_folder(folder: str) -> None:
    """Removes a folder and all in it, the list first, so that no half of it ever counts."""
    remove_file(f"{folder}/{_LIST}")
    with suppress(tf.errors.NotFoundError):
        tf.io.gfile.rmtree(folder)


def remove_file(path: str) -> None:
    """Removes a file, if it is there."""
    with suppress(tf.errors.NotFoundError):
        tf.io.gfile.remove(path)


def _is_object(path: str) -> bool:
    """An object store shows a file when it is closed, and needs no folder made for it."""
    return path.startswith("gs://")


def _make_parent(path: str) -> None:
    if not _is_object(path):
        tf.io.gfile.makedirs(path.rpartition("/")[0])
