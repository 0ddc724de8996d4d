"""Checkpoints: atomic, the newest readable one, one trainer at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.run.errors import UserError
from lib.train.saving.checkpoint import discard, exclusive, latest, save
from tests.conftest import ROOT

ARRAYS = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": np.float32(0.5)}


def write(folder: Path, *steps: int, keep: int = 9) -> None:
    logs = folder.parent / "logs"
    logs.mkdir(exist_ok=True)
    for step in steps:
        (logs / "loss.tsv").write_text(f"{step}\n")
        save(folder, step, {**ARRAYS, "step": np.float32(step)}, logs, keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_saved_arrays_come_back_and_old_checkpoints_are_removed(tmp_path):
    assert latest(tmp_path) is None
    write(tmp_path / "run", 9, 10, 11, keep=2)
    assert names(tmp_path / "run") == ["step-10", "step-11"]
    found = latest(tmp_path / "run")
    assert found.step == found.arrays["step"] == 11
    assert (found.logs / "loss.tsv").read_text() == "11\n"
    for name, array in ARRAYS.items():
        assert np.array_equal(found.arrays[name], array)


@pytest.mark.parametrize("size", [0, 4, 100, -1, None])
def test_damaged_checkpoints_are_skipped_and_removed(tmp_path, capsys, size):
    write(tmp_path / "run", 1, 2, 3)
    for step in (2, 3):
        path = tmp_path / f"run/step-{step}/arrays.safetensors"
        if size is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:size])
    assert latest(tmp_path / "run").step == 1
    assert names(tmp_path / "run") == ["step-1"]
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 2 and "step-3: damaged checkpoint" in notes[0]


def test_if_all_checkpoints_are_damaged_training_does_not_begin_again(tmp_path):
    write(tmp_path / "run", 1, 2)
    for path in (tmp_path / "run").glob("*/arrays.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(
        UserError, match=r"run: all checkpoints are damaged \(step-2, step-1: .*dele"
    ):
        latest(tmp_path / "run")
    assert names(tmp_path / "run") == ["step-1", "step-2"]


def test_other_files_in_the_folder_are_kept(tmp_path):
    write(tmp_path / "run", 1)
    (tmp_path / "run/step-7.backup").mkdir()
    assert latest(tmp_path / "run").step == 1
    write(tmp_path / "run", 2, keep=1)
    assert names(tmp_path / "run") == ["step-2", "step-7.backup"]


# Python ignores SIGXFSZ: a write beyond the limit fails as on a full disk.
WRITE = """
import json, resource, sys
import numpy as np
from pathlib import Path
from lib.run.errors import UserError
from lib.train.saving.checkpoint import save
folder, logs, limit = json.loads(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    save(Path(folder), 3, {"weights": np.zeros(5000, np.float32)}, Path(logs), 1)
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("large", ["arrays", "logs"])
def test_a_full_disk_gives_one_line_and_keeps_earlier_checkpoints(tmp_path, large):
    write(tmp_path / "run", 1, 2)
    logs = tmp_path / "logs"
    (logs / "long.tsv").write_bytes(b"0" * (30_000 if large == "logs" else 10))
    limit = 25_000 if large == "logs" else 10_000
    output = subprocess.run(
        [sys.executable, "-c", WRITE, json.dumps([str(tmp_path / "run"), str(logs), limit])],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert output.count("\n") == 1
    assert f"{tmp_path}/run/step-3: this checkpoint cannot be written (" in output
    assert "File too large" in output and "Run the same command again" in output
    assert names(tmp_path / "run") == ["step-1", "step-2"]
    assert latest(tmp_path / "run").step == 2


def test_one_trainer_at_a_time_per_worker(tmp_path):
    with exclusive(tmp_path / "run"):
        with pytest.raises(UserError, match=rf"run: process {os.getpid()} is training this same"):
            exclusive(tmp_path / "run").__enter__()
        with exclusive(tmp_path / "run", worker=1):
            pass
    with exclusive(tmp_path / "run"):
        pass


def test_the_next_trainer_removes_what_a_killed_one_left_unfinished(tmp_path):
    write(tmp_path / "run", 1)
    for name in (".step-2.tmp-1", ".step-0.dropped"):
        (tmp_path / "run" / name).mkdir()
    # Not another worker: the chief may be writing.
    with exclusive(tmp_path / "run", worker=1):
        assert len(names(tmp_path / "run")) == 4
    with exclusive(tmp_path / "run"):
        assert names(tmp_path / "run") == ["lock-0", "lock-1", "step-1"]


def test_the_folder_of_a_finished_run_is_removed_while_locked(tmp_path):
    with exclusive(tmp_path / "run"):
        write(tmp_path / "run", 1)
        discard(tmp_path / "run")
        assert not (tmp_path / "run").exists()
        # A trainer that starts now locks a new folder.
        with exclusive(tmp_path / "run"), pytest.raises(UserError):
            exclusive(tmp_path / "run").__enter__()
