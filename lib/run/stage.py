"""Stage runner: command line, one-line errors, cost file, exit when dvc exits."""

import argparse
import ctypes
import inspect
import io
import os
import pickletools
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lib.run import cost
from lib.run.errors import UserError, describe

_PR_SET_PDEATHSIG = 1


def exit_with_parent(signal_number: int) -> None:
    """Has Linux send this process a signal when its parent exits; does nothing elsewhere.

    Otherwise killing dvc would leave an orphan running alongside the next run.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:  # It exited before the request took effect.
            os.kill(os.getpid(), signal_number)


def exit_with_dvc(signal_number: int) -> None:
    """Like `exit_with_parent`, also when there is a shell between dvc and the stage.

    dvc runs a stage's command through $SHELL (or /bin/sh). bash replaces itself with the command;
    dash remains as its parent and outlives dvc. So every ancestor up to dvc is watched: dvc is the
    first one started without the variable DVC_STAGE, which it sets for its commands. A stage that
    was started by hand may outlive its shell (`nohup python -m stages.pretrain main &`).
    """
    if "DVC_STAGE" not in os.environ:
        return
    exit_with_parent(signal_number)
    if sys.platform != "linux":
        return
    watched = select.poll()
    for ancestor in _ancestors():
        try:
            watched.register(os.pidfd_open(ancestor), select.POLLIN)
            below_dvc = b"\0DVC_STAGE=" in b"\0" + Path(f"/proc/{ancestor}/environ").read_bytes()
        except OSError:
            break  # Another user's process, or it has exited, which the poll below notices.
        if not below_dvc:
            break

    def watch() -> None:
        while not watched.poll():
            pass
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=watch, daemon=True, name="exit with dvc").start()


def _ancestors() -> Iterator[int]:
    """Ids of the processes above this one, the nearest first, from Linux's /proc."""
    process = os.getppid()
    with suppress(OSError):  # It has exited.
        while process > 1:
            yield process
            status = Path(f"/proc/{process}/status").read_text()
            process = int(status.partition("PPid:")[2].split(None, 1)[0])


def scratch() -> Path:
    """The folder for files that outlive a killed run; DVC does not track it.

    DVC sets DVC_ROOT to the main repository even in `--temp` and queued runs, so that a run can
    resume another that was killed.
    """
    return Path(os.environ.get("DVC_ROOT", ".")) / ".scratch"


def dvc_item() -> str:
    """The phase or task that DVC runs this stage for: `main` in `records@main`; otherwise empty.

    It is not an argument of the command, which a shell would interpret.
    """
    return os.environ.get("DVC_STAGE", "").partition("@")[2]


def forced_by_dvc() -> bool:
    """Whether dvc runs this stage whatever has changed: `dvc repro -f`, `dvc exp run -f`.

    dvc does not tell its stages, so the command lines of the processes above are read.
    """
    for ancestor in _ancestors():
        try:
            content = Path(f"/proc/{ancestor}/cmdline").read_bytes()
        except OSError:
            return False
        words = content.decode(errors="replace").split("\0")
        names = [Path(word).name for word in words]
        if "dvc" in names:
            arguments = words[names.index("dvc") + 1 :]
            return has_force(arguments) or ("exec-run" in arguments and _queued_with_force())
    return False


def has_force(words: Sequence[str]) -> bool:
    """Whether the arguments of dvc force a stage to run."""
    # Of one letter each, alone or together with others that take no value.
    return any(
        word in ("--force", "--force-downstream") or re.fullmatch("-[qvsmipPRk]*f[a-zA-Z]*", word)
        for word in words
    )


def _queued_with_force() -> bool:
    """Whether the queued experiment that runs here was queued with -f.

    `dvc exp run --queue` keeps its arguments, pickled, in the commit of the experiment's changes.
    """
    file = "refs/exps/exec/EXEC_MERGE:.dvc/tmp/repro.dat"
    try:
        done = subprocess.run(["git", "cat-file", "blob", file], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return pickled_force(done.stdout)


def pickled_force(pickled: bytes) -> bool:
    """Whether pickled arguments of dvc have `force` or `force_downstream` set; runs no pickle."""
    before = None
    with suppress(ValueError):
        for operation, argument, _ in pickletools.genops(pickled):
            if operation.name == "NEWTRUE" and before in ("force", "force_downstream"):
                return True
            before = before if "MEMOIZE" in operation.name else argument
    return False


def run_stage(
    main: Callable[..., object],
    afterwards: Callable[[], object] | None = None,
    before: Callable[[], object] | None = None,
) -> None:
    """Runs `before`, then `main` with arguments from the command line, then `afterwards`.

    The arguments are positional and have the names, types (str or Path) and defaults of `main`'s
    parameters; those of type bool are options. A string that is not given is the item of DVC's
    `foreach` (see `dvc_item`).
    After a UserError or a file system error the process prints one line and exits with code 1;
    `--debug` shows the traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names are shown in every locale; what it cannot write is escaped, as in errors.
        sys.stdout.reconfigure(errors="backslashreplace")
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        prog=f"python -m stages.{name}",
        description=inspect.getdoc(main),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for parameter in inspect.signature(main).parameters.values():
        if parameter.annotation is bool:
            option = f"--{parameter.name.replace('_', '-')}"
            parser.add_argument(option, action="store_true", help=f"see {parameter.name.upper()}")
            continue
        is_text = parameter.annotation is str
        parser.add_argument(
            parameter.name,
            type=str if is_text else Path,
            nargs="?",
            default=dvc_item() if is_text else parameter.default,
            metavar=parameter.name.upper(),
        )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    arguments = vars(parser.parse_args())
    debug = arguments.pop("debug")
    items = [value for value in arguments.values() if isinstance(value, str) and value]
    try:
        if before:
            before()
        main(**arguments)
        cost.THIS_STAGE.write(Path("results/cost") / f"{'-'.join([name, *items])}.json")
        if afterwards:
            afterwards()
    except (UserError, OSError) as error:
        if debug:
            raise
        print(f"{name}: error: {describe(error)}", file=sys.stderr, flush=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
