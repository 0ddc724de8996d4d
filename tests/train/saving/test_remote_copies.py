"""Remote copies of checkpoints: complete or ignored, fetched if newer, one trainer."""

import json
import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lib.commands.accept import accept_runs
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.train.saving import checkpoint, digests, identity, run_record, runs, storage
from lib.train.saving.remote_copies import remote_copies
from tests.helpers.bucket import Bucket
from tests.helpers.gs import proxy_to

RUN = "0123456789abcdef"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """gs://domain-bert for TensorFlow in this process."""
    bucket = Bucket(tmp_path_factory.mktemp("bucket")).start()
    with proxy_to(bucket.port, tmp_path_factory.mktemp("way")) as environment:
        yield environment
    bucket.stop()


@pytest.fixture(params=["folder", "ram", pytest.param("gs", marks=pytest.mark.slow)])
def location(request, tmp_path, monkeypatch) -> str:
    """A folder, a file system of TensorFlow's in memory, and an object store."""
    if request.param == "folder":
        return str(tmp_path / "location")
    if request.param == "gs":
        for name, value in request.getfixturevalue("bucket").items():
            monkeypatch.setenv(name, value)
        return f"gs://domain-bert/{uuid.uuid4().hex}"
    return f"ram://{uuid.uuid4().hex}"


def write(run: Path, step: int, keep: int = 9) -> None:
    """A checkpoint with logs, and the model that was the best up to it: another each 20 steps."""
    logs = run.parent / "logs"
    (logs / "deep").mkdir(parents=True, exist_ok=True)
    (logs / "deep/loss.tsv").write_text(f"{step}\n")
    (logs / "empty.tsv").write_text("")
    best = run / f"models/best-{step // 20}"
    best.mkdir(parents=True, exist_ok=True)
    (best / "model.safetensors").write_bytes(b"best of %d" % (step // 20))
    models = {best.name: digests.of_folder(best)}
    checkpoint.save(run, step, {"step": np.float32(step)}, logs, keep, models)


def train_to(machine: Path, location: str, *steps: int, keep: int = 9) -> Path:
    """A run on a machine that makes these checkpoints."""
    run = machine / RUN
    copies = remote_copies(run, location, keep)
    for step in steps:
        write(run, step, keep)
        copies.save(step)
    return run


def fetched(machine: Path, location: str) -> int:
    """The step from which a run on another machine resumes."""
    remote_copies(machine / RUN, location, 9)
    found = checkpoint.latest(machine / RUN)
    return found.step if found else 0


def test_another_machine_resumes_the_newest_checkpoint_with_its_models(tmp_path, location):
    first = train_to(tmp_path / "one", location, 10, 20, 30)
    second = tmp_path / "two" / RUN
    remote_copies(second, location, 9)
    found = checkpoint.latest(second)
    assert found.step == found.arrays["step"] == 30
    for name in ("step-30", "models"):
        assert fingerprint.of_path(second / name) == fingerprint.of_path(first / name)
    # Its own is newer by now: nothing is fetched.
    write(second, 40)
    assert fetched(tmp_path / "two", location) == 40
    assert fetched(tmp_path / "three", location) == 30


def test_copies_by_other_code_are_resumed_after_make_accept_only(
    tmp_path, location, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(identity, "training_code", lambda: "new")
    phase = runs.phase_folder("main")
    old, new = phase / f"{RUN}-old", phase / f"{RUN}-new"
    copies = remote_copies(old, location, 9)
    run_record.write(old, {"code": "old"})
    write(old, 10)
    copies.save(10)
    shutil.rmtree(old)  # With the machine.
    remote_copies(new, location, 9)
    assert checkpoint.steps(new) == []
    assert "step-10: by other training code" in capsys.readouterr().err
    assert list(accept_runs())
    copies = remote_copies(new, location, 9)
    assert checkpoint.steps(new) == [10]
    write(new, 20)
    copies.save(20)
    assert storage.names(location) == [new.name]


def test_a_run_from_step_0_removes_its_copies(tmp_path, location):
    train_to(tmp_path / "one", location, 10, 20)
    copies = remote_copies(tmp_path / "two" / RUN, location, 9, True)
    assert checkpoint.steps(tmp_path / "two" / RUN) == []
    write(tmp_path / "two" / RUN, 5)
    copies.save(5)
    assert storage.names(f"{location}/{RUN}") == ["models", "step-5", "trainer.json"]


def test_incomplete_copies_do_not_count(tmp_path, location):
    train_to(tmp_path / "one", location, 10, 20)
    tf.io.gfile.remove(f"{location}/{RUN}/step-20/complete.json")
    assert fetched(tmp_path / "two", location) == 10
    with tf.io.gfile.GFile(f"{location}/{RUN}/step-10/complete.json", "wb") as stream:
        stream.write(b'{"files": {"arr')
    assert fetched(tmp_path / "three", location) == 0


@pytest.mark.parametrize("file", ["step-20/arrays.safetensors", "step-20/logs/deep/loss.tsv"])
def test_damaged_copies_are_skipped(tmp_path, location, file, capsys):
    train_to(tmp_path / "one", location, 10, 20)
    with tf.io.gfile.GFile(f"{location}/{RUN}/{file}", "wb") as stream:
        stream.write(b"other")
    assert fetched(tmp_path / "two", location) == 10
    notes = capsys.readouterr().err.splitlines()
    assert "step-20: damaged checkpoint (" in notes[0] and "has changed" in notes[0]
    assert "step-10: fetched" in notes[1]
    # Written again, it can be fetched again.
    run = tmp_path / "two" / RUN
    copies = remote_copies(run, location, 9)
    write(run, 20)
    copies.save(20)
    assert fetched(tmp_path / "three", location) == 20


def test_a_checkpoint_whose_saved_model_is_missing_is_skipped(tmp_path, location):
    train_to(tmp_path / "one", location, 10, 20)
    info = storage.read_info(f"{location}/{RUN}/step-20")
    storage.remove_folder(f"{location}/{RUN}/models/{info['models']['best-1']}")
    assert fetched(tmp_path / "two", location) == 10


def test_old_checkpoints_are_removed_with_models_that_only_they_need(tmp_path, location):
    train_to(tmp_path / "one", location, 10, 20, 30, 40, keep=2)
    assert storage.names(f"{location}/{RUN}") == ["models", "step-30", "step-40", "trainer.json"]
    assert len(storage.names(f"{location}/{RUN}/models")) == 2
    remote_copies(tmp_path / "one" / RUN, location, 2).discard()
    assert storage.names(f"{location}/{RUN}") == []


def test_the_earlier_of_two_trainers_stops_after_its_next_checkpoint(tmp_path, location):
    earlier, later = tmp_path / "one" / RUN, tmp_path / "two" / RUN
    copies = remote_copies(earlier, location, 9)
    write(earlier, 10)
    copies.save(10)
    others = remote_copies(later, location, 9)
    assert checkpoint.steps(later) == [10]
    write(earlier, 20)
    with pytest.raises(UserError, match=rf"{RUN}: process {os.getpid()} of \S+ has taken over"):
        copies.save(20)
    # What it has done is not lost, and the later one goes on.
    assert fetched(tmp_path / "three", location) == 20
    others.take_over()
    write(later, 20)
    others.save(20)


def test_what_two_machines_with_other_bits_write_at_once_is_never_mixed(
    tmp_path, location, monkeypatch
):
    """The second saves before the first one's file number 0, 1, ... of the same step."""
    make_parent, runs_of = storage._make_parent, {}
    for number in range(4):
        for name, value in (("one", 1), ("two", 2)):
            run = tmp_path / f"{number}/{name}" / RUN
            copies = remote_copies(run, f"{location}/{number}", 9)
            for step in (10, 20):
                logs = run.parent / "logs"
                logs.mkdir(exist_ok=True, parents=True)
                (logs / "loss.tsv").write_text(f"{value}\n")
                checkpoint.save(run, step, {"value": np.float32(value)}, logs, 9)
            runs_of[name] = copies
        runs_of["two"].save(10)
        files = iter(range(4))

        def write_between(path: str, number=number, files=files) -> None:
            make_parent(path)
            if "/step-20/" in path and next(files, None) == number:
                runs_of["two"].save(20)

        monkeypatch.setattr(storage, "_make_parent", write_between)
        with pytest.raises(UserError, match="has taken over"):
            runs_of["one"].save(20)
        monkeypatch.setattr(storage, "_make_parent", make_parent)
        machine = tmp_path / f"{number}/three"
        assert fetched(machine, f"{location}/{number}") in (10, 20)
        found = checkpoint.latest(machine / RUN)
        assert (found.logs / "loss.tsv").read_text() == f"{found.arrays['value']:.0f}\n"


def test_a_location_that_cannot_be_used_is_reported_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for location in (f"{tmp_path}/file", "nosuch://bucket"):
        with pytest.raises(UserError, match=r"pretrain.checkpoint_dir: .*cannot be used"):
            remote_copies(tmp_path / "one" / RUN, location, 9)
    with pytest.raises(UserError, match="are there already"):
        remote_copies(tmp_path / "scratch" / RUN, f"{tmp_path}/scratch", 9)


def test_a_location_that_fails_later_is_reported_and_training_continues(tmp_path, capsys):
    location = tmp_path / "location"
    run = tmp_path / "one" / RUN
    copies = remote_copies(run, str(location), 9)
    write(run, 10)
    copies.save(10)
    shutil.move(location, tmp_path / "away")
    location.write_text("a file in its place")
    write(run, 20)
    copies.save(20)
    note = capsys.readouterr().err
    assert "step-20: could not be copied there (" in note and note.count("\n") == 1
    location.unlink()
    shutil.move(tmp_path / "away", location)
    write(run, 30)
    copies.save(30)
    assert [name for name in storage.names(f"{location}/{RUN}") if "step" in name] == [
        "step-10",
        "step-30",
    ]


def test_file_names_that_lead_outside_are_refused(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "complete.json").write_text(
        json.dumps({"files": {"../../outside": {"bytes": 0, "md5": "0" * 32}}})
    )
    with pytest.raises(storage.DamagedError, match="outside"):
        storage.get_folder(str(source), tmp_path / "target")
    assert not (tmp_path / "target").exists()
