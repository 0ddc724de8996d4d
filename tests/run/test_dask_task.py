"""The worker's side of a Dask cluster: which workers may run tasks, and how often."""

import os
import pickle
from pathlib import Path

import pytest

from lib.run.attempts import MAX_ATTEMPTS
from lib.run.dask_task import IDENTITY, run_task
from lib.run.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # And back, since a task changes to its folder.
    return tmp_path


def run(folder: Path, identity: dict[str, str] = IDENTITY, attempts: str = "attempts"):
    task = pickle.dumps((Path.exists, Path("here")))
    return pickle.loads(run_task(identity, str(folder), str(folder / attempts), task))


def test_a_worker_needs_the_same_code_and_versions(folder):
    assert {"code", "numpy", "emoji", "sentencepiece", "Python", "zlib"} <= IDENTITY.keys()
    (folder / "here").touch()
    assert run(folder) == (True, True)
    for name in IDENTITY:
        succeeded, error = run(folder, {**IDENTITY, name: "1.0"})
        assert not succeeded and isinstance(error, UserError)
        assert f"(process {os.getpid()}) has {name} {IDENTITY[name]}, not 1.0;" in str(error)


def test_a_worker_needs_the_same_disk(folder):
    for place, attempts in ((folder / "elsewhere", "attempts"), (folder, "elsewhere/attempts")):
        succeeded, error = run(place, attempts=attempts)
        assert not succeeded and f"cannot use {folder}/elsewhere" in str(error)
        assert "a disk that all machines share" in str(error)


def test_an_attempt_that_did_not_end_counts(folder):
    run(folder)
    assert not (folder / "attempts").exists()
    for deaths in range(MAX_ATTEMPTS):
        (folder / "attempts").write_bytes(b"x" * deaths)
        assert run(folder) == (True, False)
    (folder / "attempts").write_bytes(b"x" * MAX_ATTEMPTS)
    assert run(folder) is None
