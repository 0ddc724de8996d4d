"""Emulator of a Google Cloud Storage bucket, to try a DVC remote without an account.

It serves gs://domain-bert to this machine only, until Ctrl-C; objects are kept between runs.
"""

import signal
import socket
from pathlib import Path

from lib.run.command import new_parser, one_line_errors
from lib.run.errors import UserError
from lib.run.stage import scratch

_HOST, _BUCKET = "127.0.0.1", "domain-bert"
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


def main() -> None:
    parser = new_parser("lib.commands.bucket", __doc__)
    parser.add_argument("--port", type=int, default=9023, help="default: 9023")
    parser.add_argument("--in", dest="folder", type=Path, help="default: .scratch/bucket")
    arguments = parser.parse_args()
    port, folder = arguments.port, arguments.folder or scratch() / "bucket"
    from gcp_storage_emulator.server import create_server  # type: ignore[import-untyped]

    # The emulator would go on without a port that is in use, and serve nothing.
    try:
        socket.create_server((_HOST, port)).close()
    except OSError as failure:
        raise UserError(
            f"port {port}: {failure.strerror}; choose another: make bucket PORT=…"
        ) from None
    # The emulator shuts down cleanly on KeyboardInterrupt.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = create_server(_HOST, port, default_bucket=_BUCKET, data_dir=str(folder.resolve()))
    address = f"http://{_HOST}:{port}"
    print(_INSTRUCTIONS.format(bucket=_BUCKET, address=address, folder=folder), flush=True)
    server.run()


if __name__ == "__main__":
    with one_line_errors("bucket"):
        main()
