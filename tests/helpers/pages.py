"""Commands in the code blocks of README and docs, and a terminal to run them in."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.conftest import ROOT
from tests.helpers.project import PERSON, environment

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_SHELLS = ("bash", "shell", "console", "")
_MAX_SECONDS = 900


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[str]:
    """The shell commands in the page's code blocks, in order.

    In blocks marked bash or shell, every line except comments; in console blocks, what follows `$`;
    in blocks without a language, what follows Colab's `!` or `%`. A line that ends in a backslash
    or inside quotes continues in the next; a whole script is one command.
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
    """A shell session: the working directory and exported variables persist between commands.

    Before each command, a project in the working directory gets the virtual environment and the
    bucket's address that its reader would have.

    Args:
        folder: the initial working directory.
        bucket: address of the bucket emulator, or None.
    """

    def __init__(self, folder: Path, bucket: str | None = None) -> None:
        self.folder = folder
        self.bucket = bucket
        self._state = folder / "state"
        self._state.write_text(f"cd {folder}\n", encoding="utf-8")
        self._environment = {**environment(), **PERSON, "GIT_PAGER": "cat"}

    def run(self, command: str) -> str:
        """Output of a command, which must succeed."""
        script = f"""
            source {self._state}
            if [ -f requirements.lock ] && [ ! -e .venv ]; then
                ln -s {ROOT}/.venv .venv
                touch --date 2000-01-01 requirements.lock
            fi
            set -eo pipefail
            {self._use_emulator() if self.bucket else ""}
            {command}
            {{ export -p; echo cd "$PWD"; }} > {self._state}
        """
        done = subprocess.run(
            ["bash", "-c", script],
            env=self._environment,
            # Confirms every prompt.
            input="y\n" * 100,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_MAX_SECONDS,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def _use_emulator(self) -> str:
        """Shell code that points a project's remote `store` at the emulator."""
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
