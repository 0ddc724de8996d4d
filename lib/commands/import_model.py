"""Fetches a pinned model of the Hugging Face hub, whole or not at all, and gives it to DVC.

python -m lib.commands.import_model bert-base-uncased 86b5e0934494bd15c9632b12f734a8a67f723594

The hub is the one that HF_ENDPOINT names. What a killed run has fetched stays in .scratch/downloads
and is gone on from, in the middle of a file too.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.utils import logging, validate_repo_id

from lib.checkpoints.hub import (
    MEGABYTE,
    Meter,
    bytes_here,
    download_file,
    listing,
    plain_errors,
    sha256,
    wanted_files,
)
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.progress import Progress
from lib.run.stage import scratch

# What says where a fetched model is from.
_SOURCE = "source.json"


def commit_of(hub: HfApi, model: str, branch: str) -> str:
    """The full hash of the commit that a branch or tag is at now.

    Raises:
        UserError: see `fetch`.
    """
    with plain_errors(hub, model, branch):
        return str(listing(hub, model, branch).sha)


def fetch(hub: HfApi, model: str, revision: str, target: Path) -> None:
    """Makes `target` the folder of a model: what a BERT needs, and `source.json`.

    Every file is compared with the digest that the hub lists for it. `source.json` holds the
    model's full name, its revision, and the SHA-256 of each file.

    Args:
        hub: where to ask.
        model: NAME or OWNER/NAME.
        revision: full hash of a commit.
        target: a new folder, or one that holds this revision already: then nothing is fetched.

    Raises:
        UserError: there is no such model, revision, network, permission or space; it is no BERT;
            `target` holds something else.
    """
    if _is_there(target, revision):
        print(f"import: {target} holds {model} at {revision} already")
        return
    downloads = scratch() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder = downloads / revision
    with _alone(downloads), plain_errors(hub, model, revision):
        info = listing(hub, model, revision)
        if info.sha != revision:
            raise UserError(f"{model}: {revision} is a name for {info.sha}; give that")
        files = wanted_files(model, info.siblings or [])
        folder.mkdir(exist_ok=True)
        here = sum(bytes_here(folder, file) for file in files)
        size = sum(file.size or 0 for file in files)
        print(
            f"import: {info.id} at {revision}: {len(files)} files, {size / MEGABYTE:,.1f} MB",
            flush=True,
        )
        _check_space(downloads, size - here)
        digests = {}
        with Progress("import", -(-size // MEGABYTE), "MB") as progress:
            meter = Meter(progress, here)
            for file in files:
                url = hf_hub_url(info.id, file.rfilename, revision=revision, endpoint=hub.endpoint)
                digests[file.rfilename] = download_file(url, folder, file, meter)
                if file.rfilename == "config.json":
                    _check_kind(model, folder / file.rfilename)
        source = {"model": info.id, "revision": revision, "files": digests}
        with new_directory(target) as temporary:
            for file in files:
                shutil.move(folder / file.rfilename, temporary / file.rfilename)
            write_text(temporary / _SOURCE, json.dumps(source, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(folder)


def _is_there(target: Path, revision: str) -> bool:
    """Whether `target` holds this very revision; raises a UserError if it holds something else."""
    pointer = target.with_name(f"{target.name}.dvc")
    if not target.exists():
        if pointer.exists():
            raise UserError(
                f"{pointer}: DVC knows {target}, but it is not here; get it with `dvc pull "
                f"{target}` (or remove {pointer})"
            )
        return False
    another = "name another folder: make import ... TO=models/base/OTHER"
    if not (target / _SOURCE).exists():
        raise UserError(f"{target}: is there, and was not made by this command; {another}")
    source = read_object(target / _SOURCE)
    if source.get("revision") != revision:
        raise UserError(
            f"{target}: holds {source.get('model')} at {source.get('revision')}; {another}"
        )
    for name, digest in source["files"].items():
        path = target / name
        if not path.exists() or sha256(path) != digest:
            raise UserError(
                f"{path}: is not as it was fetched; remove {target} and run the same command again"
            )
    return True


@contextmanager
def _alone(downloads: Path) -> Iterator[None]:
    descriptor = os.open(downloads, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{downloads}: another model is being fetched; wait for it") from None
        yield
    finally:
        os.close(descriptor)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / MEGABYTE:,.0f} MB are needed, {free / MEGABYTE:,.0f} MB are "
            "free; free some space and run the same command again"
        )


def _check_kind(model: str, path: Path) -> None:
    kind = read_object(path).get("model_type", "bert")
    if kind != "bert":
        raise UserError(f"{model}: its config.json says model_type {kind!r}; only bert works here")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.import_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="NAME or OWNER/NAME")
    parser.add_argument(
        "revision", nargs="?", default="", help="full hash of a commit; without it, it is looked up"
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: models/base/NAME")
    arguments = parser.parse_args()
    model, revision, hub = arguments.model, arguments.revision, HfApi()
    logging.set_verbosity_error()
    try:
        with plain_errors(hub, model, revision):
            validate_repo_id(model)
        if not re.fullmatch("[0-9a-f]{40}", revision):
            branch = revision or "main"
            commit = commit_of(hub, model, branch)
            raise UserError(
                f"a model is fetched by the full hash of its commit; {branch} of {model} is now at "
                f"{commit}: make import MODEL={model} REVISION={commit}"
            )
        target = arguments.to or Path("models/base") / model.rpartition("/")[2]
        fetch(hub, model, revision, target)
        # Its own output tells what to give to git.
        if subprocess.run([sys.executable, "-m", "dvc", "add", str(target)]).returncode:
            raise UserError(
                f"{target}: is there, but `dvc add {target}` failed: see above, then run the same "
                "command again"
            )
    except UserError as error:
        sys.exit(f"import: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
