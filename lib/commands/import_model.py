"""Downloads a model from the Hugging Face hub at a pinned commit and adds it to DVC.

python -m lib.commands.import_model bert-base-uncased 86b5e0934494bd15c9632b12f734a8a67f723594

The model's folder appears complete or not at all. The variable HF_ENDPOINT selects another hub.
After an interruption the same command resumes the download, even in the middle of a file, from
.scratch/downloads. Nothing is written to huggingface_hub's cache.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import logging, validate_repo_id

from lib.checkpoints.hub import (
    MEGABYTE,
    check_size,
    download_file,
    hub_errors,
    model_info,
    select_files,
    sha256,
    time_limit,
)
from lib.model.config import architecture_of
from lib.run.atomic import new_directory, write_text
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.stage import scratch

# The file that states where a downloaded model is from.
_SOURCE = "source.json"
# BERT-large has 1.3 GB.
MAX_GB, HOURS = 10, 6


def download_model(
    hub: HfApi, model: str, revision: str, target: Path, max_gb: float, hours: float
) -> None:
    """Downloads the files that a model needs into `target` and writes `source.json` there.

    Every file is compared with the digest that the hub lists for it. `source.json` holds the
    model's full name, its revision, and the SHA-256 of each file.

    Args:
        model: NAME or OWNER/NAME.
        revision: full hash of a commit.
        target: a new folder, or one that has this revision already; then nothing is downloaded.
        max_gb, hours: limits of the size of all files and of the time; what has arrived by then is
            kept.

    Raises:
        UserError: no such model or revision; no network, permission or disk space; the model is
            too large, or neither a BERT nor a ModernBERT; or `target` holds something else.
    """
    if _is_downloaded(target, revision):
        print(f"import: {target} already holds {model} at {revision}")
        return
    folder = scratch() / "downloads" / revision
    with hub_errors(hub, model, revision), time_limit(model, hours):
        info = model_info(hub, model, revision)
        if info.sha != revision:
            raise UserError(f"{model}: {revision} refers to commit {info.sha}; give that hash")
        files = select_files(model, info.siblings or [])
        folder.mkdir(parents=True, exist_ok=True)
        size = check_size(model, files, folder, max_gb)
        print(
            f"import: {info.id} at {revision}: {len(files)} files, {size / MEGABYTE:,.1f} MB, to "
            f"{folder}, then to {target}",
            flush=True,
        )
        digests = {}
        for file in files:
            digests[file.rfilename] = download_file(hub, info, file, folder)
            if file.rfilename == "config.json":
                architecture_of(read_object(folder / "config.json"), f"{model}: config.json")
        source = {"model": info.id, "revision": revision, "files": digests}
        with new_directory(target) as temporary:
            for name in digests:
                shutil.move(folder / name, temporary / name)
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


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("should be a number above 0")
    return number


def main() -> None:
    parser = new_parser("lib.commands.import_model", __doc__)
    parser.add_argument("model", help="NAME or OWNER/NAME")
    parser.add_argument(
        "revision",
        nargs="?",
        default="",
        help="full hash of a commit; if omitted, the latest is shown and nothing is downloaded",
    )
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="default: models/base/NAME")
    parser.add_argument(
        "--max-gb", type=_positive, default=MAX_GB, help=f"limit of its size (default: {MAX_GB})"
    )
    parser.add_argument(
        "--hours", type=_positive, default=HOURS, help=f"limit of the time (default: {HOURS})"
    )
    arguments = parser.parse_args()
    model, revision, hub = arguments.model, arguments.revision, HfApi()
    logging.set_verbosity_error()
    with one_line_errors("import"):
        with hub_errors(hub, model, revision):
            validate_repo_id(model)
        if not re.fullmatch("[0-9a-f]{40}", revision):
            branch = revision or "main"
            with hub_errors(hub, model, branch):
                commit = model_info(hub, model, branch).sha
            raise UserError(
                f"a model is imported by the full hash of its commit; {branch} of {model} is now "
                f"{commit}: make import MODEL={model} REVISION={commit}"
            )
        target = arguments.to or Path("models/base") / model.rpartition("/")[2]
        download_model(hub, model, revision, target, arguments.max_gb, arguments.hours)
        # DVC's own output says what to add to git.
        if subprocess.run([sys.executable, "-m", "dvc", "add", "--", str(target)]).returncode:
            raise UserError(
                f"{target}: downloaded, but `dvc add {target}` failed; fix the error above and run "
                "the same command again"
            )


if __name__ == "__main__":
    main()
