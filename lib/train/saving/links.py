"""Second names of files that are written once: copies that take no room."""

import os
import shutil
from pathlib import Path


def link(source: Path, target: Path) -> None:
    """Copies a file or folder whose content is never written again; a folder may exist already."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)
    else:
        _link_or_copy(str(source), str(target))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # Scratch may be on another file system.
        shutil.copyfile(source, target)
