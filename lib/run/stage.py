"""What surrounds every stage: death with its parent, command line, one-line errors, cost."""

import argparse
import ctypes
import errno
import inspect
import os
import resource
import select
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.metrics import write_metrics

_PR_SET_PDEATHSIG = 1


def die_with_parent(signal_number: int) -> None:
    """Asks Linux to send this process a signal when its parent dies; elsewhere does nothing.

    Killing dvc would otherwise leave an orphan at work beside the next run.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # It died before the request was in force.
            os.kill(os.getpid(), signal_number)


def die_with_dvc(signal_number: int) -> None:
    """Like `die_with_parent`, for a stage: also when a shell stands between dvc and it.

    dvc runs a stage's command through $SHELL (or /bin/sh). bash replaces itself by the command,
    dash stays its parent, and outlives dvc. So every ancestor up to dvc is watched; dvc is the
    first that was started without the variable DVC_STAGE, which it gives to its commands.
    """
    die_with_parent(signal_number)
    if sys.platform != "linux":
        return
    ancestor, watched = os.getppid(), select.poll()
    while ancestor > 1:
        try:
            watched.register(os.pidfd_open(ancestor), select.POLLIN)
            below_dvc = b"\0DVC_STAGE=" in b"\0" + Path(f"/proc/{ancestor}/environ").read_bytes()
            status = Path(f"/proc/{ancestor}/status").read_text()
        except OSError:
            break  # Another user's, or it is dead: the poll below tells.
        if not below_dvc:
            break
        ancestor = int(status.partition("PPid:")[2].split(None, 1)[0])

    def watch() -> None:
        while not watched.poll():
            pass
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=watch, daemon=True, name="die with dvc").start()


def scratch() -> Path:
    """The folder for what outlives a killed run, outside DVC's view.

    DVC sets DVC_ROOT to the main repository even in `--temp` and queued runs, so that one of
    them can go on where another was killed.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"


def _one_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    mend = ""
    if error.errno == errno.ENOSPC:
        mend = "; free some space and run the same command again"
    elif error.errno is None:  # NumPy's short writes come without a number.
        mend = "; is the disk full? Free some space and run the same command again"
    return f"{where}{error.strerror or error}{mend}"


def _write_cost(name: str, started: float) -> None:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    write_metrics(
        Path("results/cost") / f"{name}.json",
        {
            "wall_seconds": round(time.monotonic() - started, 3),
            "cpu_seconds": round(
                own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3
            ),
            "peak_memory_mib": round(max(own.ru_maxrss, children.ru_maxrss) / 1024, 1),
        },
    )


def run_stage(main: Callable[..., object], afterwards: Callable[[], object] | None = None) -> None:
    """Runs `main` with the command line's words as its arguments, then `afterwards`.

    The words are named after `main`'s parameters and have their types (str or Path). A UserError
    or a failure of the file system ends the process with one line and exit code 1; `--debug`
    shows where it came from.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for parameter in inspect.signature(main).parameters.values():
        kind: Any = parameter.annotation
        parser.add_argument(parameter.name, type=kind, metavar=parameter.name.upper())
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = vars(parser.parse_args())
    debug = arguments.pop("debug")
    label = "-".join([name, *(value for value in arguments.values() if isinstance(value, str))])
    started = time.monotonic()
    try:
        main(*arguments.values())
        _write_cost(label, started)
        if afterwards:
            afterwards()
    except (UserError, OSError) as error:
        if debug:
            raise
        line = _one_line(error) if isinstance(error, OSError) else str(error)
        print(f"{name}: error: {line}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
