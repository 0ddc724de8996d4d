"""A bucket on this machine, for trying out a remote without an account.

python -m lib.commands.bucket                        # gs://domain-bert, until Ctrl-C
python -m lib.commands.bucket --bucket mine --port 9100 --in .scratch/mine

Objects stay in the folder, so that it can be started again. It answers this machine only.
"""

import argparse
import signal
import socket
import sys
from pathlib import Path

from lib.run.errors import UserError
from lib.run.stage import scratch

_HOST = "127.0.0.1"

_WHAT_TO_DO = """\
gs://{bucket} is at {address} until Ctrl-C; what is put there stays in {folder}
In another terminal, in this folder (it writes .dvc/config.local, which git does not see):

  export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false
  dvc remote add --local --force --default emulator gs://{bucket}/cache
  dvc remote modify --local emulator endpointurl {address}
  dvc remote modify --local emulator allow_anonymous_login true
  dvc push

To go back to the remote of .dvc/config: dvc remote remove --local emulator
"""


def serve(bucket: str, port: int, folder: Path) -> None:
    """Serves a bucket until the process is interrupted or terminated.

    Raises:
        UserError: the port is taken, or the emulator is not installed.
    """
    try:
        from gcp_storage_emulator.server import create_server  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise UserError("gcp-storage-emulator is not installed; run make setup") from None
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as failure:
        raise UserError(
            f"port {port}: {failure.strerror}; name another: make bucket PORT=…"
        ) from None
    # The emulator ends in good order on Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = create_server(
        _HOST, port, in_memory=False, default_bucket=bucket, data_dir=str(folder.resolve())
    )
    address = f"http://{_HOST}:{port}"
    print(_WHAT_TO_DO.format(bucket=bucket, address=address, folder=folder), flush=True)
    server.run()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.commands.bucket",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bucket", default="domain-bert", help="its name (default: domain-bert)")
    parser.add_argument("--port", type=int, default=9023)
    parser.add_argument(
        "--in", dest="folder", type=Path, metavar="FOLDER", help="where objects stay"
    )
    arguments = parser.parse_args()
    try:
        serve(arguments.bucket, arguments.port, arguments.folder or scratch() / "bucket")
    except UserError as error:
        sys.exit(f"bucket: error: {error}")


if __name__ == "__main__":
    main()
