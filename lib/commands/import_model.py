"""Downloads a model from the Hugging Face hub at a pinned commit and adds it to DVC.

python -m lib.commands.import_model bert-base-uncased 86b5e0934494bd15c9632b12f734a8a67f723594

The model's folder appears complete or not at all. The variable HF_ENDPOINT selects another hub.
After an interruption the same command resumes the download, even in the middle of a file, from
.scratch/downloads.
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
    ByteProgress,
    download_file,
    downloaded_bytes,
    model_info,
    one_line_errors,
    select_files,
    sha256,
)
from lib.model.config import architecture_of
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.progress import Progress
from lib.run.stage import scratch

# The file that states where a downloaded model is from.
_SOURCE = "source.json"


def resolve_commit(hub: HfApi, model: str, branch: str) -> str:
    """The full hash of the commit that a branch or tag points to now.

    Raises:
        UserError: see `download_model`.
    """
    with one_line_errors(hub, model, branch):
        return str(model_info(hub, model, branch).sha)


def download_model(hub: HfApi, model: str, revision: str, target: Path) -> None:
    """Downloads the files that a model needs into `target` and writes `source.json` there.

    Every file is compared with the digest that the hub lists for it. `source.json` holds the
    model's full name, its revision, and the SHA-256 of each file.

    Args:
        model: NAME or OWNER/NAME.
        revision: full hash of a commit.
        target: a new folder, or one that has this revision already; then nothing is downloaded.

    Raises:
        UserError: no such model or revision; no network, permission or disk space; the model is
            neither a BERT nor a ModernBERT; or `target` holds something else.
    """
    if _is_downloaded(target, revision):
        print(f"import: {target} already holds {model} at {revision}")
        return
    downloads = scratch() / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    folder = downloads / revision
    with _lock(downloads), one_line_errors(hub, model, revision):
        info = model_info(hub, model, revision)
        if info.sha != revision:
            raise UserError(f"{model}: {revision} refers to commit {info.sha}; give that hash")
        files = select_files(model, info.siblings or [])
        folder.mkdir(exist_ok=True)
        downloaded = sum(downloaded_bytes(folder, file) for file in files)
        size = sum(file.size or 0 for file in files)
        print(
            f"import: {info.id} at {revision}: {len(files)} files, {size / MEGABYTE:,.1f} MB",
            flush=True,
        )
        _check_disk_space(downloads, size - downloaded)
        digests = {}
        with Progress("import", -(-size // MEGABYTE), "MB") as progress:
            byte_progress = ByteProgress(progress, downloaded)
            for file in files:
                url = hf_hub_url(info.id, file.rfilename, revision=revision, endpoint=hub.endpoint)
                digests[file.rfilename] = download_file(url, folder, file, byte_progress)
                if file.rfilename == "config.json":
                    _check_model_type(model, folder / file.rfilename)
        source = {"model": info.id, "revision": revision, "files": digests}
        with new_directory(target) as temporary:
            for file in files:
                shutil.move(folder / file.rfilename, temporary / file.rfilename)
            write_text(temporary / _SOURCE, json.dumps(source, indent=2, sort_keys=True) + "\n")
        shutil.rmtree(folder)


def _is_downloaded(target: Path, revision: str) -> bool:
    """Whether `target` holds this revision; raises a UserError if it holds something else."""
    pointer = target.with_name(f"{target.name}.dvc")
    if not target.exists():
        if pointer.exists():
            raise UserError(
                f"{pointer}: DVC tracks {target}, but the folder is missing; get it with `dvc pull "
                f"{target}`, or remove {pointer}"
            )
        return False
    fix = "name another folder: make import ... TO=models/base/OTHER"
    if not (target / _SOURCE).exists():
        raise UserError(f"{target}: already exists and was not made by this command; {fix}")
    source = read_object(target / _SOURCE)
    if source.get("revision") != revision:
        raise UserError(f"{target}: holds {source.get('model')} at {source.get('revision')}; {fix}")
    for name, digest in source["files"].items():
        path = target / name
        if not path.exists() or sha256(path) != digest:
            raise UserError(
                f"{path}: missing or changed since the download; remove {target} and run the same "
                "command again"
            )
    return True


@contextmanager
def _lock(downloads: Path) -> Iterator[None]:
    """Lets one process at a time download models."""
    descriptor = os.open(downloads, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{downloads}: another model is being downloaded; wait for it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _check_disk_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / MEGABYTE:,.0f} MB needed, {free / MEGABYTE:,.0f} MB free; free "
            "some space and run the same command again"
        )


def _check_model_type(model: str, path: Path) -> None:
    architecture_of(read_object(path), f"{model}: {path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.import_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", help="NAME or OWNER/NAME")
    parser.add_argument(
        "revision",
        nargs="?",
        default="",
        help="full hash of a commit; if omitted, the latest is shown and nothing is downloaded",
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: models/base/NAME")
    arguments = parser.parse_args()
    model, revision, hub = arguments.model, arguments.revision, HfApi()
    logging.set_verbosity_error()
    try:
        with one_line_errors(hub, model, revision):
            validate_repo_id(model)
        if not re.fullmatch("[0-9a-f]{40}", revision):
            branch = revision or "main"
            commit = resolve_commit(hub, model, branch)
            raise UserError(
                f"a model is imported by the full hash of its commit; {branch} of {model} is now "
                f"{commit}: make import MODEL={model} REVISION={commit}"
            )
        target = arguments.to or Path("models/base") / model.rpartition("/")[2]
        download_model(hub, model, revision, target)
        # DVC's own output says what to add to git.
        if subprocess.run([sys.executable, "-m", "dvc", "add", "--", str(target)]).returncode:
            raise UserError(
                f"{target}: downloaded, but `dvc add {target}` failed; fix the error above and run "
                "the same command again"
            )
    except UserError as error:
        sys.exit(f"import: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
