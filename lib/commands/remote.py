"""Sets and checks DVC's default remote, a bucket of Google Cloud Storage; pushes the run cache.

python -m lib.commands.remote gs://bucket/prefix  # writes .dvc/config, then checks the remote
python -m lib.commands.remote                     # checks the configured remote
python -m lib.commands.remote --push-runs         # pushes the run cache, for `dvc repro --pull`

DVC's own messages about a bucket that does not exist or denies access do not say what to do: `dvc
push` shows the address that it tried, and `failed to transfer` for every file.
"""

import logging
import re

from lib.commands.tools import one_line, run_dvc
from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError


def check_access() -> str:
    """Lists, writes and deletes in the default remote; a line with what is permitted.

    Raises:
        UserError: it cannot be read; with the reason and how to fix it.
    """
    from aiohttp import ClientError
    from dvc.config import NoRemoteError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from gcsfs.retry import HttpError  # type: ignore[import-untyped]
    from google.auth.exceptions import GoogleAuthError

    # It would log a traceback for each failed request.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        remote = Repo().cloud.get_remote()
        files, url = remote.fs.fs, remote.fs.unstrip_protocol(remote.path)
    except NoRemoteError:
        raise UserError(
            "no DVC remote is configured; name a bucket: make remote BUCKET=gs://name/prefix"
        ) from None
    except (DvcException, OSError) as failure:
        raise UserError(one_line(failure)) from None
    if not url.startswith("gs://"):
        raise UserError(f"{url}: is not a gs:// bucket and cannot be checked here; try `dvc push`")
    bucket = url.split("/")[2]
    credentials = (
        "run `gcloud auth application-default login`, or name a key file: dvc remote modify "
        f"--local {remote.name} credentialpath KEY.json"
    )
    try:
        files.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)
    except FileNotFoundError:
        raise UserError(
            f"gs://{bucket}: no such bucket; create it (gcloud storage buckets create gs://{bucket}"
            " --location=REGION) or name another one"
        ) from None
    except ClientError as failure:  # Some of these are OSErrors, such as a refused connection.
        raise UserError(f"{url}: no response ({failure}); check the network") from None
    except (GoogleAuthError, HttpError, OSError) as failure:
        raise UserError(f"{url}: cannot be read ({one_line(failure)}); {credentials}") from None
    try:
        files.pipe_file(f"{url}/write-test", b"")
        files.rm_file(f"{url}/write-test")
    except (GoogleAuthError, HttpError, OSError, ClientError) as failure:
        reason = f"`dvc push` does not ({one_line(failure)}); to push, {credentials}"
        return f"{url}: `dvc pull` works, {reason}"
    return f"{url}: can be read and written"


def push_runs() -> int:
    """Pushes DVC's run cache with all outputs of its runs; returns the number of runs.

    `dvc push --run-cache` leaves out outputs with `cache: false`. Without them another machine
    cannot use a run, and repeats it.

    Raises:
        UserError: there is no remote, or it could not be written completely.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            runs = repo.stage_cache.push(None)
            for outputs in repo.stage_cache.get_used_objs(runs).values():
                if repo.cloud.push(outputs).failed:
                    raise UserError("some outputs could not be pushed; run the same command again")
    except DvcException as failure:
        raise UserError(f"{one_line(failure)}; `make remote` checks the remote") from None
    return len(runs)


def main() -> None:
    parser = new_parser("lib.commands.remote", __doc__)
    parser.add_argument("url", nargs="?", help="gs://bucket/prefix; without it, only the check")
    parser.add_argument("--push-runs", action="store_true", help="push the run cache")
    arguments = parser.parse_args()
    if arguments.push_runs:
        print(f"{push_runs()} stage runs pushed")
        return
    if arguments.url:
        # A bucket's name has small letters, digits, hyphens, underscores and dots.
        if not re.match(r"gs://[a-z0-9][-_.a-z0-9]+(/|$)", arguments.url):
            raise UserError(f"BUCKET: should be gs://name/prefix. Received: {arguments.url!r}")
        run_dvc("remote", "add", "--force", "--default", "store", arguments.url)
        print("Written to .dvc/config (commit it). Checking access...", flush=True)
    print(check_access())


if __name__ == "__main__":
    with one_line_errors("remote"):
        main()
