"""Client of the Hugging Face hub: lists a model's files, downloads and verifies them.

A file whose download was interrupted is resumed where it stopped; huggingface_hub's own downloads
restart the file. Each file is compared with the digest that the hub lists: the SHA-256 of a file in
LFS, the git blob hash (SHA-1) of others.
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

from lib.checkpoints.weight_files import WEIGHT_FILES
from lib.run.errors import UserError
from lib.run.progress import Progress

# Downloaded if the model has them.
_OPTIONAL = (
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "README.md",
    "LICENSE",
    "LICENSE.md",
    "LICENSE.txt",
)
_TIMEOUT_SECONDS = 30.0
MEGABYTE = 10**6


def model_info(hub: HfApi, model: str, revision: str) -> ModelInfo:
    """Full name, commit and files of a model on the hub, at a commit, branch or tag.

    Raises:
        UserError: the server is not a hub.
        OSError, ValueError, HTTPError: see `one_line_errors`.
    """
    try:
        return hub.model_info(
            model, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except HFValidationError:
        raise
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{hub.endpoint}: not a Hugging Face hub; check HF_ENDPOINT") from None


def select_files(model: str, listed: Sequence[RepoSibling]) -> list[RepoSibling]:
    """The files of a model that are needed here: config.json first, the weights last.

    Raises:
        UserError: config.json or the weights are not listed, or a file has no size or digest.
    """
    files = {file.rfilename: file for file in listed}
    if "config.json" not in files:
        raise UserError(f"{model}: no config.json, so not a transformers model; name another model")
    weights = next((name for name in WEIGHT_FILES if name in files), None)
    if weights is None:
        raise UserError(
            f"{model}: none of {', '.join(WEIGHT_FILES)}; download its weights yourself and use "
            "dvc add, or name another model"
        )
    names = ["config.json", *(name for name in _OPTIONAL if name in files), weights]
    if weights.endswith(".index.json"):
        stem, _, kind = weights.removesuffix(".index.json").rpartition(".")
        shard = re.compile(rf"{stem}-\d+-of-\d+\.{kind}")
        names += sorted(name for name in files if shard.fullmatch(name))
    for name in names:
        if files[name].size is None or not files[name].blob_id:
            raise UserError(
                f"{model}: the hub lists no size or digest for {name}; check HF_ENDPOINT"
            )
    return [files[name] for name in names]


def _part(folder: Path, file: RepoSibling) -> Path:
    """The path of a file while it is being downloaded."""
    return folder / f"{file.rfilename}.part"


def downloaded_bytes(folder: Path, file: RepoSibling) -> int:
    """The number of a file's bytes that earlier runs have downloaded."""
    for path in (folder / file.rfilename, _part(folder, file)):
        if path.exists():
            return path.stat().st_size
    return 0


class ByteProgress:
    """Progress of a download: counts bytes, shows megabytes."""

    def __init__(self, progress: Progress, downloaded: int) -> None:
        """`downloaded`: bytes from earlier runs."""
        self._progress, self._bytes = progress, downloaded
        progress.skip(downloaded // MEGABYTE)

    def add(self, count: int) -> None:
        before = self._bytes // MEGABYTE
        self._bytes += count
        self._progress.advance(self._bytes // MEGABYTE - before)


def download_file(url: str, folder: Path, file: RepoSibling, progress: ByteProgress) -> str:
    """Downloads the missing part of a file into a folder.

    Returns:
        The file's SHA-256.

    Raises:
        UserError: the file's digest is not the one that the hub lists.
        OSError, HTTPError: see `one_line_errors`.
    """
    path, part = folder / file.rfilename, _part(folder, file)
    if path.exists():
        if digest := _sha256_if_complete(path, file):
            return digest
        progress.add(-path.stat().st_size)
        path.unlink()
    part.touch()
    while (size := part.stat().st_size) < (file.size or 0):
        try:
            _download_from(url, part, size, progress)
        except HfHubHTTPError:
            raise
        except HTTPError:
            # Resumed, if the connection broke after some bytes.
            if part.stat().st_size <= size:
                raise
        if part.stat().st_size <= size:
            break
    digest = _sha256_if_complete(part, file)
    if digest is None:
        part.unlink()
        raise UserError(
            f"{url}: the downloaded file's digest is not the one that the hub lists; run the same "
            "command again"
        )
    os.replace(part, path)
    return digest


def _download_from(url: str, part: Path, start: int, progress: ByteProgress) -> None:
    """Requests the bytes from `start` on and appends what arrives to `part`."""
    # Uncompressed: the range refers to the file's own bytes.
    headers = {
        **build_hf_headers(),
        "Accept-Encoding": "identity",
        "Range": f"bytes={start}-",
    }
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_SECONDS) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # The server ignored the range: this is the whole file.
            progress.add(-start)
            start = 0
        with part.open("r+b") as stream:
            stream.truncate(start)
            stream.seek(start)
            for chunk in response.iter_bytes():
                stream.write(chunk)
                progress.add(len(chunk))


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_if_complete(path: Path, file: RepoSibling) -> str | None:
    """The file's SHA-256, or None if the file is not the one that the hub lists."""
    digest = sha256(path)
    if file.lfs:
        return digest if digest == file.lfs.sha256 else None
    # A small file in git itself: the hub lists its blob hash.
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return digest if blob == file.blob_id else None


@contextmanager
def one_line_errors(hub: HfApi, model: str, revision: str) -> Iterator[None]:
    """Turns exceptions of huggingface_hub and of the file system into one-line UserErrors."""
    try:
        yield
    except HFValidationError:
        raise UserError(
            f"{model!r}: not the name of a model; it should be NAME or OWNER/NAME, such as "
            "bert-base-uncased"
        ) from None
    except OfflineModeIsEnabled:
        raise UserError("HF_HUB_OFFLINE is set; unset it to download a model") from None
    except GatedRepoError:  # A subclass of RepositoryNotFoundError, so it comes first.
        raise UserError(
            f"{model}: gated; accept its terms at {hub.endpoint}/{model} and run `hf auth login`"
        ) from None
    except RevisionNotFoundError:
        raise UserError(
            f"{model}: no revision {revision}; omit REVISION to see the latest one"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{model}: no such model on {hub.endpoint}; check its name, or run `hf auth login` if "
            "it is private"
        ) from None
    except HfHubHTTPError as failure:
        status = failure.response.status_code
        fix = "check its name, or run `hf auth login`" if status in (401, 403) else "try later"
        raise UserError(f"{model}: {hub.endpoint} returned HTTP {status}; {fix}") from None
    except HTTPError as failure:
        raise UserError(
            f"{hub.endpoint}: no connection ({failure or type(failure).__name__}); check the "
            "network and run the same command again to resume"
        ) from None
    except OSError as failure:
        where = f"{failure.filename}: " if failure.filename else ""
        full = failure.errno == errno.ENOSPC
        fix = "; free some space and run the same command again" if full else ""
        raise UserError(f"{where}{failure.strerror or failure}{fix}") from None
