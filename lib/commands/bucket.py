"""Emulator of a Google Cloud Storage bucket, to try a DVC remote without an account.

python -m lib.commands.bucket                        # gs://domain-bert, until Ctrl-C
python -m lib.commands.bucket --bucket mine --port 9100 --in .scratch/mine

Objects are kept in the folder between runs. Only this machine can reach it.
"""

import argparse
import signal
import socket
import sys
from pathlib import Path

from lib.run.errors import UserError
from lib.run.stage import scratch

_HOST = "127.0.0.1"

_INSTRUCTIONS = """\
gs://{bucket} is served at {address} until Ctrl-C; its objects are kept in {folder}
In another terminal, in this folder (this writes .dvc/config.local, which git ignores):

  export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false
  dvc remote add --local --force --default emulator gs://{bucket}/cache
  dvc remote modify --local emulator endpointurl {address}
  dvc remote modify --local emulator allow_anonymous_login true
  dvc push

To return to the remote of .dvc/config: dvc remote remove --local emulator
"""


def serve(bucket: str, port: int, folder: Path) -> None:
    """Serves a bucket until SIGINT or SIGTERM.

    Raises:
        UserError: the port is in use, or the emulator is not installed.
    """
    try:
        from gcp_storage_emulator.server import create_server  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise UserError("gcp-storage-emulator is not installed; run make setup") from None
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as failure:
        raise UserError(
            f"port {port}: {failure.strerror}; choose another: make bucket PORT=…"
        ) from None
    # The emulator shuts down cleanly on KeyboardInterrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = create_server(
        _HOST, port, in_memory=False, default_bucket=bucket, data_dir=str(folder.resolve())
    )
    address = f"http://{_HOST}:{port}"
    print(_INSTRUCTIONS.format(bucket=bucket, address=address, folder=folder), flush=True)
    server.run()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.bucket",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--bucket", default="domain-bert", help="name of the bucket (default: domain-bert)"
    )
    parser.add_argument("--port", type=int, default=9023, help="default: 9023")
    parser.add_argument(
        "--in",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="folder that keeps the objects (default: .scratch/bucket)",
    )
    arguments = parser.parse_args()
    try:
        serve(arguments.bucket, arguments.port, arguments.folder or scratch() / "bucket")
    except UserError as error:
        sys.exit(f"bucket: error: {error}")


if __name__ == "__main__":
    main()
