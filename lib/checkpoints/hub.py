"""Downloads from the Hugging Face hub: the needed files of a model, at one commit, verified.

Requests, redirects, retries and tokens are those of huggingface_hub. Its `snapshot_download` and
`hf_hub_download` (2.4) start an interrupted file from the beginning; its `http_get` resumes it.
Files are written to the folder that the caller names, and nothing to a cache in the home directory.
Each file is compared with the digest that the hub lists: the SHA-256 of a file in LFS, the git blob
hash of others.
"""

import fcntl
import hashlib
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, cast

from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers
from huggingface_hub.utils.sha import git_hash

from lib.checkpoints.weight_files import WEIGHT_FILES
from lib.run.errors import UserError, describe
from lib.run.progress import Progress

# Otherwise it asks the hub for a list of tools that may have called it, and caches that at home.
constants.HF_HUB_DISABLE_TELEMETRY = True
# Bytes that are written at a time: what has arrived before an interruption is kept.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 18
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
# For each exception, subclasses first: what it means and how to fix it.
_MESSAGES: dict[type[Exception], str] = {
    HFValidationError: "{model!r}: not the name of a model; it should be NAME or OWNER/NAME, such "
    "as bert-base-uncased",
    OfflineModeIsEnabled: "HF_HUB_OFFLINE is set; unset it to download a model",
    GatedRepoError: "{model}: gated; accept its terms at {hub}/{model} and run `hf auth login`",
    RevisionNotFoundError: "{model}: no revision {revision}; omit REVISION to see the latest one",
    RepositoryNotFoundError: "{model}: no such model on {hub}; check its name, or run `hf auth "
    "login` if it is private",
    HfHubHTTPError: "{model}: {hub} returned HTTP {status}; {fix}",
    HTTPError: "{hub}: no connection ({error!r}); check the network and run the same command "
    "again to resume",
    BlockingIOError: "{model}: another process is downloading it; wait for it",
}


class _DownloadProgress:
    """Progress of a download in megabytes, in place of tqdm, which shows nothing in a log."""

    def __init__(self, desc: str, total: int | None, initial: int, **_: object) -> None:
        done, self._bytes = divmod(initial, MEGABYTE)
        self._progress = Progress(f"import: {desc}", (total or 0) // MEGABYTE, "MB")
        self._progress.skip(done)

    def __enter__(self) -> Self:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def update(self, count: int) -> None:
        done, self._bytes = divmod(self._bytes + count, MEGABYTE)
        if done:
            self._progress.advance(done)


@contextmanager
def hub_errors(hub: HfApi, model: str, revision: str) -> Iterator[None]:
    """Turns exceptions of huggingface_hub and of the file system into one-line UserErrors."""
    try:
        yield
    except (HFValidationError, HTTPError, OSError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        denied = status in (401, 403, 404)
        values = {
            "model": model,
            "revision": revision,
            "hub": hub.endpoint,
            "error": error,
            "status": status,
            "fix": "check its name, or run `hf auth login`" if denied else "try later",
        }
        for kind, text in _MESSAGES.items():
            if isinstance(error, kind):
                raise UserError(text.format(**values)) from None
        assert isinstance(error, OSError)  # All other kinds have a message.
        raise UserError(describe(error)) from None


@contextmanager
def time_limit(model: str, hours: float) -> Iterator[None]:
    """Raises a UserError in the main thread if its block takes longer."""

    def expire(*_: object) -> None:
        raise UserError(
            f"{model}: not downloaded within {hours:g} hours; run the same command again to "
            "resume, or allow more with HOURS=... (--hours)"
        )

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, hours * 3600)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def model_info(hub: HfApi, model: str, revision: str) -> ModelInfo:
    """Full name, commit and files of a model on the hub, at a commit, branch or tag."""
    try:
        return hub.model_info(
            model, revision=revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
        )
    except (HFValidationError, HfHubHTTPError):
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


def check_size(model: str, files: Sequence[RepoSibling], folder: Path, max_gb: float) -> int:
    """The bytes of a model's files, which must be within the limit and fit on the disk."""
    size = sum(file.size or 0 for file in files)
    if size > max_gb * 1e9:
        raise UserError(
            f"{model}: its files have {size / 1e9:.3g} GB, more than the limit of {max_gb:g} GB; "
            "raise it with MAX_GB=... (--max-gb), or name another model"
        )
    present = [folder / file.rfilename for file in files if (folder / file.rfilename).exists()]
    needed = size - sum(path.stat().st_size for path in present)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder}: {needed / MEGABYTE:,.0f} MB needed, {free / MEGABYTE:,.0f} MB free; free "
            "some space and run the same command again"
        )
    return size


def download_file(hub: HfApi, info: ModelInfo, file: RepoSibling, folder: Path) -> str:
    """Downloads a file, or the rest of it, into a folder; gives its SHA-256."""
    path = folder / file.rfilename
    url = hf_hub_url(info.id, file.rfilename, revision=info.sha, endpoint=hub.endpoint)
    # Uncompressed: the position at which it resumes refers to the file's own bytes.
    headers = {**build_hf_headers(token=hub.token), "Accept-Encoding": "identity"}
    while True:
        with path.open("ab") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            start = stream.tell()
            if start < (file.size or 0):
                http_get(
                    url,
                    stream,
                    resume_size=start,
                    headers=headers,
                    displayed_filename=file.rfilename,
                    tqdm_class=cast(type, _DownloadProgress),
                )
        digest = sha256(path)
        if file.lfs is None:
            complete = git_hash(path.read_bytes()) == file.blob_id
        else:
            complete = digest == file.lfs.sha256
        if complete:
            return digest
        path.unlink()
        if not start:
            raise UserError(
                f"{url}: the downloaded file's digest is not the one that the hub lists; run the "
                "same command again"
            )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
