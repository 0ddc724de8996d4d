"""Checkpoints: atomic, the newest readable one, one trainer at a time."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lib.run.errors import UserError
from lib.train.saving import digests
from lib.train.saving.checkpoint import MODELS, exclusive, latest, save
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


def write_with_models(run: Path) -> dict[str, dict[str, str]]:
    """Checkpoints of steps 1 to 4; from 2 on they need one saved model, from 3 on another."""
    models = {}
    for step in range(1, 5):
        if step in (2, 3):
            folder = run / MODELS / f"step-{step}"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text("{}")
            (folder / "model.safetensors").write_bytes(bytes(range(step, 200)))
            models[f"step-{step}"] = digests.of_folder(folder)
        logs = run.parent / "logs/deep"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "loss.tsv").write_text(f"{step}\n")
        save(run, step, {**ARRAYS, "step": np.float32(step)}, run.parent / "logs", 9, models)
    return models


@pytest.mark.parametrize(
    ("file", "resumed"),
    [
        ("step-4/arrays.safetensors", 3),
        ("step-4/logs/deep/loss.tsv", 3),
        ("step-4/digests.json", 3),
        ("models/step-3/model.safetensors", 2),
        ("models/step-3/config.json", 2),
        ("models/step-2/model.safetensors", 1),
    ],
)
def test_after_a_flipped_bit_an_earlier_checkpoint_is_used(tmp_path, capsys, file, resumed):
    """One bit at random positions of every kind of file; none is resumed from."""
    draw = random.Random(file)
    for trial in range(6):
        run = tmp_path / f"{trial}/run"
        write_with_models(run)
        content = bytearray((run / file).read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (run / file).write_bytes(content)
        found = latest(run)
        assert found.step == found.arrays["step"] == resumed
        assert (found.logs / "deep/loss.tsv").read_text() == f"{resumed}\n"
        notes = capsys.readouterr().err.splitlines()
        assert len(notes) == 4 - resumed and "step-4: damaged checkpoint (" in notes[0]
        assert [name for name in names(run) if name != MODELS] == [
            f"step-{step}" for step in range(1, resumed + 1)
        ]


@pytest.mark.parametrize("size", [0, 4, 100, -1, None])
def test_checkpoints_with_missing_or_shorter_files_are_skipped_and_removed(tmp_path, capsys, size):
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


def test_if_all_checkpoints_are_damaged_training_begins_again_with_a_note(tmp_path, capsys):
    write(tmp_path / "run", 1, 2)
    for path in (tmp_path / "run").glob("*/arrays.safetensors"):
        path.write_bytes(b"")
    assert latest(tmp_path / "run") is None
    assert names(tmp_path / "run") == []
    notes = capsys.readouterr().err.splitlines()
    assert "no checkpoint is left" not in notes[0]
    assert "no checkpoint is left, so training starts at step 0" in notes[1]


def test_saved_models_are_kept_as_long_as_a_checkpoint_needs_them(tmp_path):
    run = tmp_path / "run"
    write_with_models(run)
    models = {"step-3": digests.of_folder(run / MODELS / "step-3")}
    save(run, 5, ARRAYS, tmp_path / "logs", 2, models)
    assert names(run / MODELS) == ["step-2", "step-3"]
    save(run, 6, ARRAYS, tmp_path / "logs", 2, models)
    assert names(run / MODELS) == ["step-3"]


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
from lib.train.saving import digests
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
