"""MD5 of all raw text, as DVC computes it for a folder, so that anyone can compare it."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.run import fingerprint
from lib.text.reading.raw_files import relative_name


def input_md5(
    folder: Path, files: list[Path], workers: int, known: Mapping[Path, str] | None = None
) -> str:
    """The digest that dvc.lock or data/raw.dvc has for a folder of exactly these files.

    It is the MD5 of a JSON list of relative paths and MD5s, with the suffix `.dir` (DVC 3). It does
    not depend on dates or on the path of the folder.

    Args:
        folder: contains all the files, in subfolders or not.
        workers: files to read at a time.
        known: MD5s of files that are known already.
    """
    # Threads suffice: Python releases its lock while it digests bytes.
    with ThreadPoolExecutor(workers) as threads:
        digests = dict(known or {})
        unknown = [file for file in files if file not in digests]
        digests |= zip(unknown, threads.map(fingerprint.of_file, unknown), strict=True)
    entries = [
        {"md5": digests[file], "relpath": name}
        for name, file in sorted((relative_name(file, folder), file) for file in files)
    ]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
