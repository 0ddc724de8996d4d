"""Digests of files, folders and values, by which a result is matched to its inputs."""

import hashlib
import json
from pathlib import Path


def of_file(path: Path) -> str:
    """MD5 of a file's bytes as 32 hex digits, as in dvc.lock."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def of_path(path: Path) -> str:
    """Digest of a file, or of a folder's relative names and contents in sorted order."""
    if not path.is_dir():
        return of_file(path)
    names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
    return of_values({name: of_file(path / name) for name in names})


def of_values(values: object) -> str:
    """Digest of plain values (dicts, lists, numbers, text); the order of dict keys is ignored."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
