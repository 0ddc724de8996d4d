"""The bucket emulator that `make bucket` starts, and project clones that share it."""

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from tests.conftest import ROOT
from tests.helpers.project import PERSON, Project, environment


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Bucket:
    """gs://domain-bert in a separate process, which can be stopped and restarted."""

    name = "domain-bert"

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen | None = None

    def start(self) -> "Bucket":
        words = ["--port", str(self.port), "--in", str(self._folder)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lib.commands.bucket", *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with urlopen(self.address, timeout=5):
                    return self
            except OSError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops the emulator after the current request."""
        if self._process:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(timeout=30) == 0
            self._process = None

    def objects(self) -> set[str]:
        """Names of all objects."""
        folder = self._folder / ".cloudstorage" / self.name
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


class Machine(Project):
    """A git clone of a project whose DVC remote is in a bucket."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder, self.bucket = folder, bucket
        self.environment = {
            **environment(),
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            **PERSON,
        }

    def point_at_bucket(self) -> None:
        """Writes the emulator's address to .dvc/config.local."""
        for key, value in (("endpointurl", self.bucket.address), ("allow_anonymous_login", "true")):
            self.run("dvc", "remote", "modify", "--local", "store", key, value)

    def make_remote(self, url: str, code: int = 0) -> str:
        # Without `make setup`: the tests' environment is used.
        return self.run("make", "-o", "setup", "remote", f"BUCKET={url}", code=code)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def clone(self, folder: Path) -> "Machine":
        """Another machine: a git clone without data."""
        subprocess.run(["git", "clone", "--quiet", self.folder, folder], check=True)
        other = Machine(folder, self.bucket)
        other.point_at_bucket()
        return other

    def files(self, *folders: str) -> dict[str, bytes]:
        """All files below some folders, without partial ones, which a running transfer renames."""
        return {
            path.relative_to(self.folder).as_posix(): path.read_bytes()
            for folder in folders
            for path in (self.folder / folder).rglob("*")
            if path.suffix != ".tmp" and path.is_file()
        }


def first_machine(folder: Path, bucket: Bucket) -> Machine:
    """This project in a git repository, with tiny settings and its remote in the bucket."""
    Project(folder)
    machine = Machine(folder, bucket)
    machine.run("dvc", "config", "--unset", "core.no_scm")
    shutil.copyfile(ROOT / ".dvc/.gitignore", folder / ".dvc/.gitignore")
    machine.run("git", "init", "--quiet", "--initial-branch", "main")
    machine.run("dvc", "remote", "add", "store", "gs://another/place")
    machine.point_at_bucket()
    machine.make_remote(f"gs://{bucket.name}/store")
    return machine
