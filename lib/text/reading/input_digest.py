"""MD5 of all raw text, as DVC computes it for a folder, so that anyone can compare it.

It is not taken from dvc.lock: preprocess also has it in its metrics when it is run by hand, and the
report compares folders with the lock while a stage runs, when DVC refuses to work.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lib.run import fingerprint


def input_md5(
    files: Mapping[str, Path], workers: int, known: Mapping[str, str] | None = None
) -> str:
    """The digest that dvc.lock or data/raw.dvc has for a folder of exactly these files.

    It is the MD5 of a JSON list of relative paths and MD5s, with the suffix `.dir` (DVC 3).

    Args:
        files: by their paths relative to the folder.
        workers: files to read at a time.
        known: MD5s of files that are known already.
    """
    digests = dict(known or {})
    unknown = [name for name in files if name not in digests]
    # Threads suffice: Python releases its lock while it digests bytes.
    with ThreadPoolExecutor(workers) as threads:
        found = threads.map(fingerprint.of_file, (files[name] for name in unknown))
        digests |= zip(unknown, found, strict=True)
    entries = [{"md5": digests[name], "relpath": name} for name in sorted(files)]
    listing = json.dumps(entries, sort_keys=True).encode()
    return hashlib.md5(listing, usedforsecurity=False).hexdigest() + ".dir"
