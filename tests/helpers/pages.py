"""The commands that README and docs show, and a terminal to type them into."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.helpers.project import PERSON, environment

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_SHELLS = ("bash", "shell", "console", "")
_MOST_SECONDS = 900


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[str]:
    """What the page's blocks tell a reader to type, in their order.

    In blocks called bash or shell that is every line but comments; of console blocks what follows
    a `$`, of those without a name what follows Colab's `!` or `%`. A line that ends in a backslash
    or within quotes goes on in the next; a whole script is one command.
    """
    found: list[str] = []
    for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind not in _SHELLS:
            continue
        if text.startswith("#!"):
            found.append(text.rstrip())
            continue
        pending = ""
        for line in text.splitlines():
            if kind in ("console", "") and not pending:
                mark = "$ " if kind == "console" else ("!", "%")
                if not line.startswith(mark):
                    continue
                line = line[2:] if kind == "console" else line[1:]
            pending += ("\n" if pending else "") + re.sub(r"(^|\s+)#.*", "", line)
            if pending.endswith("\\") or pending.count("'") % 2:
                continue
            if pending.strip():
                found.append(pending.strip())
            pending = ""
    return found


class Terminal:
    """Runs commands one after the other; the working directory and exports stay.

    Before each command a project in the working directory is given the packages and the bucket that
    its reader would have.

    Args:
        folder: for everything; the first working directory.
        bucket: where the bucket of the docs answers, or None.
    """

    def __init__(self, folder: Path, bucket: str | None = None) -> None:
        self.folder = folder
        self.bucket = bucket
        self._state = folder / "state"
        self._state.write_text(f"cd {folder}\n", encoding="utf-8")
        self._environment = {**environment(), **PERSON, "GIT_PAGER": "cat"}

    def run(self, command: str) -> str:
        """Output of a command of a page or of the test's own; it must succeed."""
        script = f"""
            source {self._state}
            if [ -f requirements.lock ] && [ ! -e .venv ]; then
                ln -s {ROOT}/.venv .venv
                touch --date 2000-01-01 requirements.lock
            fi
            set -eo pipefail
            {self._to_bucket() if self.bucket else ""}
            {command}
            {{ export -p; echo cd "$PWD"; }} > {self._state}
        """
        done = subprocess.run(
            ["bash", "-c", script],
            env=self._environment,
            # What asks whether it may delete is told so.
            input="y\n" * 100,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_MOST_SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def _to_bucket(self) -> str:
        """The remote `store` of a project answers on this machine."""
        lines = [
            """['remote "store"']""",
            f"endpointurl = {self.bucket}",
            "allow_anonymous_login = true",
        ]
        text = shlex.quote("\n".join(lines) + "\n")
        return (
            "if grep -qs store .dvc/config && ! grep -qs store .dvc/config.local; "
            f"then printf %s {text} >> .dvc/config.local; fi"
        )
