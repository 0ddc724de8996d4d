"""Calls of git and dvc from the project's commands; a failure becomes one line."""

import os
import subprocess
import sys
from pathlib import Path

from lib.run.errors import UserError

_NO_GIT = "not a git repository"
_CLONE = (
    "which DVC needs; clone the project with `git clone` instead of downloading a ZIP, or run "
    "`git init` here first"
)


def run_git(*words: str) -> str:
    """Standard output of a git command.

    Raises:
        UserError: git is not installed, this folder is in no git repository (a downloaded ZIP), or
            git failed for another reason, which is passed on.
    """
    # Its messages in English, to recognise the one below.
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *words],
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # File names need not be UTF-8.
            env=environment,
        )
    except FileNotFoundError:
        raise UserError("git is not installed; install it and run the same command again") from None
    if _NO_GIT in done.stderr:
        raise UserError(f"{Path.cwd()} is {_NO_GIT}, {_CLONE}")
    if done.returncode:
        raise UserError(f"git {words[0]} failed: {one_line(done.stderr)}")
    return done.stdout


def run_dvc(*words: str, folder: Path | None = None) -> str:
    """Standard output of a dvc command of this Python's environment, run in a folder or here.

    Raises:
        UserError: dvc failed; its reason is passed on.
    """
    # Through Python: it need not be on the PATH.
    command = [sys.executable, "-m", "dvc", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if "No module named dvc" in done.stderr:
        raise UserError("DVC is not installed in this environment; run make setup")
    if done.returncode:
        reason = one_line(done.stderr).removeprefix("ERROR: ")
        raise UserError(f"dvc {' '.join(words[:2])} failed: {reason}")
    return done.stdout


def one_line(message: object) -> str:
    """A message on one line, at most 300 characters; with advice if a git repository is missing."""
    text = " ".join(str(message).split())[:300]
    return f"{text}, {_CLONE}" if text.endswith(_NO_GIT) else text
