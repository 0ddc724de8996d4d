"""Git LFS pointers: what a clone made without `git lfs` has in place of large files."""

from pathlib import Path

from lib.run.errors import UserError

_BEGINNING = b"version https://git-lfs"


def refuse_lfs_pointer(path: Path) -> None:
    """Checks that a file is the file itself.

    Raises:
        UserError: it is a Git LFS pointer.
    """
    with path.open("rb") as file:
        beginning = file.read(len(_BEGINNING))
    if beginning == _BEGINNING:
        raise UserError(
            f"{path}: a Git LFS pointer, not the file itself; run `git lfs pull` in that clone"
        )
