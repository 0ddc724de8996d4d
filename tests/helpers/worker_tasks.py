"""Tasks for worker processes, which import little."""

import os
import signal
import threading
import time
from pathlib import Path

from lib.run.errors import UserError


def square(number: int) -> int:
    return number * number


def sleep(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def path_and_cwd(path: Path) -> tuple[Path, Path]:
    return path, Path.cwd()


def die_once(path: Path) -> str:
    """Kills its own process the first time it is called for a path."""
    if path.name.startswith("mortal") and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def die(path: Path) -> str:
    """Kills its own process for the path `mortal`, and counts the calls in that file."""
    if path.name == "mortal":
        with path.open("a") as stream:
            stream.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return path.name


def die_when_idle(path: Path) -> int:
    """Counts its calls in the file `mortal`, and kills its process a little later."""
    if path.name != "mortal":
        time.sleep(1.5)
        return 0
    with path.open("a") as stream:
        stream.write("x")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return path.stat().st_size


def fill_memory(path: Path) -> None:
    if path.name == "large":
        memory = []
        while True:
            memory.append(b"x" * (20 << 20))
            time.sleep(0.05)


def sleep_or_fail(seconds: float) -> None:
    time.sleep(seconds)
    if not seconds:
        raise UserError("no")


def refuse(task: str) -> None:
    raise UserError(f"{task}: not good")


def cannot_open(path: Path) -> None:
    path.open()


def divide_by_zero(task: str) -> None:
    raise ZeroDivisionError
