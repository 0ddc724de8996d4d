"""Failures of git and dvc that the project's commands call: one line, no traceback."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.commands.tools import run_dvc
from lib.run.errors import UserError
from tests.conftest import ROOT

_FOLDERS = ("lib", "recipes", ".dvc", "params.yaml")


@pytest.fixture
def downloaded(tmp_path) -> Path:
    """The files that the commands need, without git's: the content of a downloaded ZIP."""
    folder = tmp_path / "domain-bert-main"
    folder.mkdir()
    for name in _FOLDERS:
        source = ROOT / name
        if source.is_dir():
            # Of .dvc only what git tracks: no cache.
            skip = shutil.ignore_patterns("cache", "tmp", "config.local", "__pycache__")
            shutil.copytree(source, folder / name, ignore=skip)
        else:
            shutil.copyfile(source, folder / name)
    return folder


def error_of(folder: Path, *words: str, **variables: str) -> str:
    """The only line of standard error of a command that must fail."""
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent), **variables}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_downloaded_zip_is_refused_with_the_advice_to_clone(downloaded):
    message = error_of(downloaded, "lib.commands.recipe", "smoke", "--in", "copy")
    assert message.startswith("recipe: error: ") and "is not a git repository" in message
    assert "`git clone` instead of downloading a ZIP" in message
    assert not (downloaded / "copy").exists()


def test_a_downloaded_zip_works_after_git_init(downloaded):
    subprocess.run(["git", "init", "--quiet"], cwd=downloaded, check=True)
    # A name that is not UTF-8 is copied like any other.
    name = os.fsdecode(b"r\xe9sum\xe9.txt")
    (downloaded / name).touch()
    command = [sys.executable, "-m", "lib.commands.recipe", "smoke", "--in", "copy"]
    subprocess.run(command, cwd=downloaded, check=True)
    assert "no_scm" in (downloaded / "copy/.dvc/config").read_text(encoding="utf-8")
    assert (downloaded / "copy" / name).exists()


def test_a_missing_git_is_named(downloaded):
    message = error_of(downloaded, "lib.commands.recipe", "smoke", "--in", "copy", PATH="/nowhere")
    assert message == (
        "recipe: error: git is not installed; install it and run the same command again\n"
    )


def test_git_failures_are_passed_on(downloaded):
    subprocess.run(["git", "init", "--quiet"], cwd=downloaded, check=True)
    (downloaded / ".git/config").write_text("[core", encoding="utf-8")
    message = error_of(downloaded, "lib.commands.recipe", "smoke", "--in", "copy")
    assert message.startswith("recipe: error: git ls-files failed: ")
    assert "bad config line" in message


@pytest.mark.parametrize("words", [["gs://bucket/prefix"], [], ["--push-runs"]])
def test_the_remote_command_outside_of_a_dvc_project(tmp_path, words):
    message = error_of(tmp_path, "lib.commands.remote", *words, PYTHONPATH=str(ROOT))
    assert message.startswith("remote: error: ")
    assert "ot inside" in message and "name a bucket" not in message


def test_the_remote_command_in_a_downloaded_zip(downloaded):
    message = error_of(downloaded, "lib.commands.remote")
    assert "not a git repository, which DVC needs; clone the project" in message


def test_a_missing_remote_is_reported_with_the_command_to_set_one(tmp_path):
    run_dvc("init", "--no-scm", "--quiet", folder=tmp_path)
    message = error_of(tmp_path, "lib.commands.remote", PYTHONPATH=str(ROOT))
    assert message == (
        "remote: error: no DVC remote is configured; name a bucket: "
        "make remote BUCKET=gs://name/prefix\n"
    )


@pytest.mark.parametrize(("module", "words"), [("compare", ["a", "b"]), ("repeat", ["2"])])
def test_commands_on_experiments_in_a_downloaded_zip(downloaded, module, words):
    message = error_of(downloaded, f"lib.commands.{module}", *words)
    assert message.startswith(f"{module}: error: ")
    assert "not a git repository" in message and "clone the project" in message


def test_dvc_failures_are_passed_on(tmp_path):
    with pytest.raises(UserError, match=r"^dvc config core.no_scm failed: .*inside a DVC repo"):
        run_dvc("config", "core.no_scm", "true", folder=tmp_path)
