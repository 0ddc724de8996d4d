"""Checkpoints: whole or absent, the newest that can be read, one trainer at a time."""

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


def write(folder: Path, *steps: int, kept: int = 9) -> None:
    logs = folder.parent / "logs"
    logs.mkdir(exist_ok=True)
    for step in steps:
        (logs / "loss.tsv").write_text(f"{step}\n")
        save(folder, step, {**ARRAYS, "step": np.float32(step)}, logs, kept)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back_and_the_oldest_go(tmp_path):
    assert latest(tmp_path) is None
    write(tmp_path / "run", 9, 10, 11, kept=2)
    assert names(tmp_path / "run") == ["step-10", "step-11"]
    found = latest(tmp_path / "run")
    assert found.step == found.arrays["step"] == 11
    assert (found.logs / "loss.tsv").read_text() == "11\n"
    for name, array in ARRAYS.items():
        assert np.array_equal(found.arrays[name], array)


@pytest.mark.parametrize("size", [0, 4, 100, -1, None])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys, size):
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


def test_damaged_checkpoints_only_are_no_reason_to_begin_anew_unasked(tmp_path):
    write(tmp_path / "run", 1, 2)
    for path in (tmp_path / "run").glob("*/arrays.safetensors"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"run: damaged checkpoints only \(step-2, step-1: .*dele"):
        latest(tmp_path / "run")
    assert names(tmp_path / "run") == ["step-1", "step-2"]


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    write(tmp_path / "run", 1)
    (tmp_path / "run/step-7.backup").mkdir()
    assert latest(tmp_path / "run").step == 1
    write(tmp_path / "run", 2, kept=1)
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
def test_a_full_disk_gives_one_line_and_leaves_what_was_there(tmp_path, large):
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


def test_one_trainer_at_a_time_for_each_worker(tmp_path):
    with exclusive(tmp_path / "run"):
        with pytest.raises(UserError, match=rf"run: process {os.getpid()} is training this very"):
            exclusive(tmp_path / "run").__enter__()
        with exclusive(tmp_path / "run", worker=1):
            pass
    with exclusive(tmp_path / "run"):
        pass


def test_the_next_trainer_clears_away_what_a_killed_one_left(tmp_path):
    write(tmp_path / "run", 1)
    for name in (".step-2.tmp-1", ".step-0.dropped"):
        (tmp_path / "run" / name).mkdir()
    # Not another worker: the chief may be writing.
    with exclusive(tmp_path / "run", worker=1):
        assert len(names(tmp_path / "run")) == 4
    with exclusive(tmp_path / "run"):
        assert names(tmp_path / "run") == ["lock-0", "lock-1", "step-1"]


def test_the_folder_of_a_finished_run_is_removed_under_the_lock_of_none(tmp_path):
    with exclusive(tmp_path / "run"):
        write(tmp_path / "run", 1)
        discard(tmp_path / "run")
        assert not (tmp_path / "run").exists()
        # Whoever comes now holds a folder of its own, and is alone there.
        with exclusive(tmp_path / "run"), pytest.raises(UserError):
            exclusive(tmp_path / "run").__enter__()
