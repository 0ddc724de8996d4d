"""Fetches a pinned model of the Hugging Face hub, whole or not at all, and gives it to DVC.

python -m lib.download bert-base-uncased 86b5e0934494bd15c9632b12f734a8a67f723594

The hub is the one that HF_ENDPOINT names. What a killed run has fetched stays in .scratch/downloads
and is gone on from, in the middle of a file too.
"""

import argparse
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, get_session, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, logging, validate_repo_id

from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.progress import Progress
from lib.run.stage import scratch

# What says where a fetched model is from.
SOURCE = "source.json"
# The first of these that there is: safetensors cannot hold code.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_BESIDE = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
)
_TIMEOUT_SECONDS = 30.0
_MEGABYTE = 10**6


def commit_of(hub: HfApi, model: str, branch: str) -> str:
    """The full hash of the commit that a branch or tag is at now.

    Raises:
        UserError: see `fetch`.
    """
    with _one_line(hub, model, branch):
        return str(_info(hub, model, branch).sha)


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
    with _alone(downloads), _one_line(hub, model, revision):
        info = _info(hub, model, revision)
        files = _wanted(model, info.siblings or [])
        folder.mkdir(exist_ok=True)
        here = sum(_bytes_here(folder, file) for file in files)
        size = sum(file.size or 0 for file in files)
        print(
            f"import: {info.id} at {revision}: {len(files)} files, {size / _MEGABYTE:,.1f} MB",
            flush=True,
        )
        _check_space(downloads, size - here)
        digests = {}
        with Progress("import", -(-size // _MEGABYTE), "MB") as progress:
            meter = _Meter(progress, here)
            for file in files:
                url = hf_hub_url(info.id, file.rfilename, revision=revision, endpoint=hub.endpoint)
                digests[file.rfilename] = _download(url, folder, file, meter)
                if file.rfilename == "config.json":
                    _check_kind(model, folder / file.rfilename)
        source = {"model": info.id, "revision": revision, "files": digests}
        with new_directory(target) as temporary:
            for file in files:
                shutil.move(folder / file.rfilename, temporary / file.rfilename)
            write_text(temporary / SOURCE, json.dumps(source, indent=2, sort_keys=True) + "\n")
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
    if not (target / SOURCE).exists():
        raise UserError(f"{target}: is there, and was not made by this command; {another}")
    source = read_object(target / SOURCE)
    if source.get("revision") != revision:
        raise UserError(
            f"{target}: holds {source.get('model')} at {source.get('revision')}; {another}"
        )
    for name, digest in source["files"].items():
        path = target / name
        if not path.exists() or _sha256(path) != digest:
            raise UserError(
                f"{path}: is not as it was fetched; remove {target} and run the same command again"
            )
    return True


@contextmanager
def _alone(downloads: Path) -> Iterator[None]:
    descriptor = os.open(downloads, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{downloads}: another model is being fetched; wait for it") from None
    finally:
        os.close(descriptor)


def _info(hub: HfApi, model: str, revision: str) -> ModelInfo:
    try:
        return hub.model_info(
            model, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except HFValidationError:
        raise
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{hub.endpoint}: does not answer as a hub does; see HF_ENDPOINT") from None


def _wanted(model: str, listed: Sequence[RepoSibling]) -> list[RepoSibling]:
    """config.json first, then the rest of what a BERT needs."""
    files = {file.rfilename: file for file in listed}
    if "config.json" not in files:
        raise UserError(f"{model}: has no config.json; it is no model of transformers")
    weights = next((name for name in _WEIGHTS if name in files), None)
    if weights is None:
        raise UserError(
            f"{model}: has none of {', '.join(_WEIGHTS)}; fetch its weights yourself and use "
            "dvc add, or name another model"
        )
    names = ["config.json", *(name for name in _BESIDE if name in files), weights]
    if weights.endswith(".index.json"):
        stem, _, kind = weights.removesuffix(".index.json").rpartition(".")
        shard = re.compile(rf"{stem}-\d+-of-\d+\.{kind}")
        names += sorted(name for name in files if shard.fullmatch(name))
    for name in names:
        if files[name].size is None or not files[name].blob_id:
            raise UserError(
                f"{model}: this hub does not tell size and digest of {name}; see HF_ENDPOINT"
            )
    return [files[name] for name in names]


def _part(folder: Path, file: RepoSibling) -> Path:
    return folder / f"{file.rfilename}.part"


def _bytes_here(folder: Path, file: RepoSibling) -> int:
    """What an earlier run has fetched of a file."""
    for path in (folder / file.rfilename, _part(folder, file)):
        if path.exists():
            return path.stat().st_size
    return 0


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / _MEGABYTE:,.0f} MB are needed, {free / _MEGABYTE:,.0f} MB are "
            "free; free some space and run the same command again"
        )


def _check_kind(model: str, path: Path) -> None:
    kind = read_object(path).get("model_type", "bert")
    if kind != "bert":
        raise UserError(f"{model}: its config.json says model_type {kind!r}; only bert works here")


class _Meter:
    """Bytes in, megabytes shown."""

    def __init__(self, progress: Progress, here: int) -> None:
        """`here`: bytes that earlier runs have fetched."""
        self._progress, self._bytes = progress, here
        progress.skip(here // _MEGABYTE)

    def add(self, count: int) -> None:
        before = self._bytes // _MEGABYTE
        self._bytes += count
        self._progress.advance(self._bytes // _MEGABYTE - before)


def _download(url: str, folder: Path, file: RepoSibling, meter: _Meter) -> str:
    """Fetches what is missing of a file; gives its SHA-256."""
    path, part = folder / file.rfilename, _part(folder, file)
    if path.exists():
        if digest := _sha256_if_whole(path, file):
            return digest
        meter.add(-path.stat().st_size)
        path.unlink()
    part.touch()
    while (here := part.stat().st_size) < (file.size or 0):
        try:
            _append(url, part, here, meter)
        except HfHubHTTPError:
            raise
        except HTTPError:
            # A connection that breaks after some bytes is taken up again.
            if part.stat().st_size <= here:
                raise
        if part.stat().st_size <= here:
            break
    digest = _sha256_if_whole(part, file)
    if digest is None:
        part.unlink()
        raise UserError(
            f"{url}: what came is not what the hub lists (its digest is another); run the same "
            "command again"
        )
    os.replace(part, path)
    return digest


def _append(url: str, part: Path, here: int, meter: _Meter) -> None:
    """Asks for the bytes from `here` on and writes what comes."""
    # Not compressed: the range counts the file's own bytes.
    headers = {
        **build_hf_headers(),
        "Accept-Encoding": "identity",
        "Range": f"bytes={here}-",
    }
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # The whole file, whatever was asked for.
            meter.add(-here)
            here = 0
        with part.open("r+b") as stream:
            stream.truncate(here)
            stream.seek(here)
            for chunk in response.iter_bytes():
                stream.write(chunk)
                meter.add(len(chunk))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_if_whole(path: Path, file: RepoSibling) -> str | None:
    """The SHA-256, or None if the file is not the one that the hub lists."""
    digest = _sha256(path)
    if file.lfs:
        return digest if digest == file.lfs.sha256 else None
    # A small file in git itself, listed under the name of its object.
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return digest if blob == file.blob_id else None


@contextmanager
def _one_line(hub: HfApi, model: str, revision: str) -> Iterator[None]:
    """Turns what the library and the file system raise into UserErrors."""
    try:
        yield
    except HFValidationError:
        raise UserError(
            f"{model!r}: should be a model of the hub, such as bert-base-uncased or OWNER/NAME"
        ) from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set; unset it to fetch a model") from None
    except GatedRepoError:  # Before the next but one, of which it is a kind.
        raise UserError(
            f"{model}: gated; accept its terms at {hub.endpoint}/{model} and log in: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{model}: has no revision {revision}; leave REVISION out and the newest is named"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{model}: {hub.endpoint} has no such model (if it is private, log in: hf auth login)"
        ) from None
    except HfHubHTTPError as failure:
        status = failure.response.status_code
        mend = "see its name, or log in: hf auth login" if status in (401, 403) else "try later"
        raise UserError(f"{model}: {hub.endpoint} answers with HTTP {status}; {mend}") from None
    except HTTPError as failure:
        raise UserError(
            f"{hub.endpoint}: no connection ({failure or type(failure).__name__}); see the network "
            "and run the same command again: it goes on"
        ) from None
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename else ""
        full = failure.errno == errno.ENOSPC
        mend = "; free some space and run the same command again" if full else ""
        raise UserError(f"{where}{failure.strerror or failure}{mend}") from None


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.download",
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
        with _one_line(hub, model, revision):
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
