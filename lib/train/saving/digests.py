"""Digests of the files of a folder: whether it still holds what was written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path


def of_file(path: Path) -> str:
    """BLAKE2b of a file's bytes, 128 bits as 32 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def of_folder(folder: Path) -> dict[str, str]:
    """Relative name -> digest of each file of a folder, in sorted order."""
    return {name: of_file(folder / name) for name in _names(folder)}


def difference(folder: Path, expected: Mapping[str, str], besides: str = "") -> str | None:
    """What differs in a folder from its digests, in words; None if nothing does.

    Args:
        expected: what `of_folder` returned.
        besides: name of a file that is not among them.
    """
    names = set(_names(folder)) - {besides}
    if missing := sorted(expected.keys() - names):
        return f"{missing[0]} is missing"
    if added := sorted(names - expected.keys()):
        return f"{added[0]} does not belong there"
    changed = (name for name, digest in expected.items() if of_file(folder / name) != digest)
    name = next(changed, None)
    return None if name is None else f"the content of {name} has changed"


def _names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
