"""The Hugging Face hub: which files a model has there, and one of them fetched and checked.

What was fetched of a file is gone on from. The library's own downloads begin each file anew.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, ModelInfo, get_session
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
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from lib.run.errors import UserError
from lib.run.progress import Progress

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
MEGABYTE = 10**6


def listing(hub: HfApi, model: str, revision: str) -> ModelInfo:
    """What the hub tells of a model at a commit, branch or tag: its full name, commit and files.

    Raises:
        UserError: what answers is no hub.
        OSError, ValueError, HTTPError: see `plain_errors`.
    """
    try:
        return hub.model_info(
            model, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except HFValidationError:
        raise
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{hub.endpoint}: does not answer as a hub does; see HF_ENDPOINT") from None


def wanted_files(model: str, listed: Sequence[RepoSibling]) -> list[RepoSibling]:
    """config.json first, then the rest of what a BERT needs.

    Raises:
        UserError: a file that cannot be missing is not listed.
    """
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


def bytes_here(folder: Path, file: RepoSibling) -> int:
    """What an earlier run has fetched of a file."""
    for path in (folder / file.rfilename, _part(folder, file)):
        if path.exists():
            return path.stat().st_size
    return 0


class Meter:
    """Bytes in, megabytes shown."""

    def __init__(self, progress: Progress, here: int) -> None:
        """`here`: bytes that earlier runs have fetched."""
        self._progress, self._bytes = progress, here
        progress.skip(here // MEGABYTE)

    def add(self, count: int) -> None:
        before = self._bytes // MEGABYTE
        self._bytes += count
        self._progress.advance(self._bytes // MEGABYTE - before)


def download_file(url: str, folder: Path, file: RepoSibling, meter: Meter) -> str:
    """Fetches what is missing of a file into a folder.

    Returns:
        Its SHA-256.

    Raises:
        UserError: what came is not what the hub lists.
        OSError, HTTPError: see `plain_errors`.
    """
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


def _append(url: str, part: Path, here: int, meter: Meter) -> None:
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


def sha256(path: Path) -> str:
    """Of a file, as hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_if_whole(path: Path, file: RepoSibling) -> str | None:
    """The SHA-256, or None if the file is not the one that the hub lists."""
    digest = sha256(path)
    if file.lfs:
        return digest if digest == file.lfs.sha256 else None
    # A small file in git itself, listed under the name of its object.
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return digest if blob == file.blob_id else None


@contextmanager
def plain_errors(hub: HfApi, model: str, revision: str) -> Iterator[None]:
    """Turns what the library and the file system raise into UserErrors of one line."""
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
