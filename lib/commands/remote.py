"""DVC's default remote in a bucket of Google Cloud Storage, and whether it can be used.

python -m lib.commands.remote gs://bucket/prefix  # writes .dvc/config, then tries it
python -m lib.commands.remote                     # tries the one that is there
python -m lib.commands.remote --push-runs         # run cache, for `dvc repro --pull`

DVC's own messages about a bucket that is missing or closed do not say what to do.
"""

import argparse
import logging
import re
import subprocess
import sys

from lib.run.errors import UserError

_CREDENTIALS = (
    "run `gcloud auth application-default login`, or name a key file: dvc remote modify --local "
    "{name} credentialpath KEY.json"
)


def write_config(url: str) -> None:
    """Makes `url` the default remote `store`, in .dvc/config.

    Raises:
        UserError: it is no address in a bucket.
    """
    if not re.match(r"gs://[a-z0-9][-_.a-z0-9]+(/|$)", url):
        raise UserError(f"BUCKET: should be gs://name/prefix. Received: {url!r}")
    words = ["dvc", "remote", "add", "--quiet", "--force", "--default", "store", url]
    subprocess.run(words, check=True)


def try_out() -> str:
    """Lists, writes and deletes in the default remote; says what it is good for.

    Raises:
        UserError: it cannot be read; with the reason and the mend.
    """
    from aiohttp import ClientError
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]
    from gcsfs.retry import HttpError  # type: ignore[import-untyped]
    from google.auth.exceptions import GoogleAuthError

    # It prints the traceback of whatever it tried in vain.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    try:
        remote = Repo().cloud.get_remote()
        files, url = remote.fs.fs, remote.fs.unstrip_protocol(remote.path)
    except DvcException as failure:
        raise UserError(f"{failure}; name a bucket: make remote BUCKET=gs://name/prefix") from None
    if not url.startswith("gs://"):
        raise UserError(f"{url}: is in no bucket; use `dvc push` and see")
    bucket, credentials = url.split("/")[2], _CREDENTIALS.format(name=remote.name)
    try:
        files.call("GET", "b/{}/o", bucket, maxResults=1, json_out=True)
    except FileNotFoundError:
        raise UserError(
            f"gs://{bucket}: no such bucket; create it (gcloud storage buckets create gs://{bucket}"
            " --location=REGION), or name another"
        ) from None
    except (GoogleAuthError, HttpError, OSError) as failure:
        # Refused connections are OSErrors, too.
        if isinstance(failure, ClientError):
            raise UserError(f"{url}: no answer ({failure}); is the network there?") from None
        raise UserError(f"{url}: may not be read ({_line(failure)}); {credentials}") from None
    except ClientError as failure:
        raise UserError(f"{url}: no answer ({failure}); is the network there?") from None
    try:
        files.pipe_file(f"{url}/written-to-try", b"")
        files.rm_file(f"{url}/written-to-try")
    except (GoogleAuthError, HttpError, OSError, ClientError) as failure:
        reason = f"`dvc push` does not ({_line(failure)}); to push, {credentials}"
        return f"{url}: `dvc pull` works, {reason}"
    return f"{url}: can be read and written"


def push_runs() -> int:
    """Pushes DVC's run cache with all outputs of the runs in it; the number of runs.

    `dvc push --run-cache` leaves out those that are `cache: false` (every stage here has metrics
    that are), and then another machine cannot use the run and makes it again.
    """
    from dvc.repo import Repo

    with Repo() as repo, repo.lock:
        runs = repo.stage_cache.push(None)
        for outputs in repo.stage_cache.get_used_objs(runs).values():
            if repo.cloud.push(outputs).failed:
                raise UserError("some outputs could not be pushed; run the same command again")
    return len(runs)


def _line(failure: Exception) -> str:
    return " ".join(str(failure).split())[:200]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.remote",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", nargs="?", help="gs://bucket/prefix; without it, only a try")
    parser.add_argument("--push-runs", action="store_true", help="see above")
    arguments = parser.parse_args()
    try:
        if arguments.push_runs:
            print(f"{push_runs()} runs of stages pushed")
            return
        if arguments.url:
            write_config(arguments.url)
            print("Written to .dvc/config, to be committed. Trying it...", flush=True)
        print(try_out())
    except UserError as error:
        sys.exit(f"remote: error: {error}")


if __name__ == "__main__":
    main()
