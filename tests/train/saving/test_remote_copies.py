"""Copies of checkpoints in storage: whole or ignored, fetched where they are newer, one owner."""

import json
import os
import shutil
import socket
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lib.run import fingerprint
from lib.run.errors import UserError
from lib.train.saving import checkpoint, storage
from lib.train.saving.lease import owned
from lib.train.saving.remote_copies import copies
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
def place(request, tmp_path, monkeypatch) -> str:
    """A folder, a file system of TensorFlow's in memory, and an object store."""
    if request.param == "folder":
        return str(tmp_path / "place")
    if request.param == "gs":
        for name, value in request.getfixturevalue("bucket").items():
            monkeypatch.setenv(name, value)
        return f"gs://domain-bert/{uuid.uuid4().hex}"
    return f"ram://{uuid.uuid4().hex}"


def write(run: Path, step: int, kept: int = 9) -> None:
    """A checkpoint with logs, and the model that was the best up to it."""
    logs = run.parent / "logs"
    (logs / "deep").mkdir(parents=True, exist_ok=True)
    (logs / "deep/loss.tsv").write_text(f"{step}\n")
    (logs / "empty.tsv").write_text("")
    best = run / "models/best"
    shutil.rmtree(best, ignore_errors=True)
    best.mkdir(parents=True)
    (best / "model.safetensors").write_bytes(b"best of %d" % (step // 20))
    checkpoint.save(run, step, {"step": np.float32(step)}, logs, kept)


def train_to(machine: Path, place: str, *steps: int, kept: int = 9) -> Path:
    """A run on a machine that makes these checkpoints."""
    run = machine / RUN
    with copies(run, place, kept) as copied:
        for step in steps:
            write(run, step, kept)
            copied.save(step)
    return run


def fetched(machine: Path, place: str) -> int:
    """The step that a run on another machine goes on from."""
    with copies(machine / RUN, place, 9):
        found = checkpoint.latest(machine / RUN)
    return found.step if found else 0


def test_another_machine_goes_on_with_the_newest_checkpoint_and_its_models(tmp_path, place):
    first = train_to(tmp_path / "one", place, 10, 20, 30)
    second = tmp_path / "two" / RUN
    with copies(second, place, 9):
        found = checkpoint.latest(second)
        assert found.step == found.arrays["step"] == 30
        for name in ("step-30", "models"):
            assert fingerprint.of_path(second / name) == fingerprint.of_path(first / name)
    # Its own is newer by now: nothing is fetched.
    write(second, 40)
    assert fetched(tmp_path / "two", place) == 40
    assert fetched(tmp_path / "three", place) == 30


def test_a_copy_that_is_not_finished_does_not_count(tmp_path, place):
    train_to(tmp_path / "one", place, 10, 20)
    tf.io.gfile.remove(f"{place}/{RUN}/step-20/complete.json")
    assert fetched(tmp_path / "two", place) == 10
    with tf.io.gfile.GFile(f"{place}/{RUN}/step-10/complete.json", "wb") as stream:
        stream.write(b'{"files": {"arr')
    assert fetched(tmp_path / "three", place) == 0


@pytest.mark.parametrize("file", ["step-20/arrays.safetensors", "step-20/logs/deep/loss.tsv"])
def test_a_damaged_copy_is_passed_over(tmp_path, place, file, capsys):
    train_to(tmp_path / "one", place, 10, 20)
    with tf.io.gfile.GFile(f"{place}/{RUN}/{file}", "wb") as stream:
        stream.write(b"other")
    assert fetched(tmp_path / "two", place) == 10
    notes = capsys.readouterr().err.splitlines()
    assert "step-20: damaged checkpoint (" in notes[0] and "other content" in notes[0]
    assert "step-10: fetched" in notes[1]
    # Made again, it is good again.
    run = tmp_path / "two" / RUN
    with copies(run, place, 9) as copied:
        write(run, 20)
        copied.save(20)
    assert fetched(tmp_path / "three", place) == 20


def test_a_checkpoint_whose_model_is_missing_is_passed_over(tmp_path, place):
    train_to(tmp_path / "one", place, 10, 20)
    facts = storage.facts_of(f"{place}/{RUN}/step-20")
    storage.remove_folder(f"{place}/{RUN}/models/{facts['models']['best']}")
    assert fetched(tmp_path / "two", place) == 10


def test_the_oldest_go_with_the_models_that_only_they_needed(tmp_path, place):
    train_to(tmp_path / "one", place, 10, 20, 30, 40, kept=2)
    assert storage.names(f"{place}/{RUN}") == ["models", "step-30", "step-40"]
    assert len(storage.names(f"{place}/{RUN}/models")) == 2
    with copies(tmp_path / "one" / RUN, place, 2) as copied:
        copied.discard()
    assert storage.names(f"{place}/{RUN}") == []


def test_one_trainer_at_a_time(place):
    with owned(place, every=0.1, patience=60):
        assert storage.names(place) == ["owner.json"]
        with pytest.raises(UserError, match=rf"process {os.getpid()} of .* this very run"):
            owned(place, every=0.1, patience=60).__enter__()
    assert storage.names(place) == []


def put_owner(place: str, host: str, pid: int) -> None:
    storage.write_object(f"{place}/owner.json", {"host": host, "pid": pid, "since": 1})


def test_an_owner_that_is_silent_or_known_to_be_dead_is_followed(place):
    put_owner(place, "elsewhere", 1)
    started = time.monotonic()
    with owned(place, every=0.1, patience=0.5):
        assert time.monotonic() - started >= 0.5
    put_owner(place, socket.gethostname(), 2**30)
    with owned(place, every=0.1, patience=60):
        assert time.monotonic() - started < 30


def test_who_is_followed_stops_at_the_next_checkpoint(tmp_path, place):
    run = tmp_path / "one" / RUN
    with copies(run, place, 9) as copied:
        write(run, 10)
        copied.save(10)
        put_owner(f"{place}/{RUN}", "elsewhere", 7)
        write(run, 20)
        with pytest.raises(UserError, match="process 7 of elsewhere has taken this run over"):
            copied.save(20)
    # What is the other's stays.
    assert storage.read_object(f"{place}/{RUN}/owner.json")["host"] == "elsewhere"
    assert storage.facts_of(f"{place}/{RUN}/step-20") is None


def test_a_place_that_cannot_be_used_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (f"{tmp_path}/file", "nosuch://bucket"):
        with pytest.raises(UserError, match=r"pretrain.checkpoint_dir: .*cannot be used"):
            copies(tmp_path / "one" / RUN, place, 9).__enter__()
    with pytest.raises(UserError, match="are there already"):
        copies(tmp_path / "scratch" / RUN, f"{tmp_path}/scratch", 9).__enter__()


def test_a_place_that_fails_later_is_told_and_training_goes_on(tmp_path, capsys):
    place = tmp_path / "place"
    run = tmp_path / "one" / RUN
    with copies(run, str(place), 9) as copied:
        write(run, 10)
        copied.save(10)
        shutil.move(place, tmp_path / "away")
        place.write_text("a file in its place")
        write(run, 20)
        copied.save(20)
        note = capsys.readouterr().err
        assert "step-20: could not be copied there (" in note and note.count("\n") == 1
        place.unlink()
        shutil.move(tmp_path / "away", place)
        write(run, 30)
        copied.save(30)
    assert [name for name in storage.names(f"{place}/{RUN}") if "step" in name] == [
        "step-10",
        "step-30",
    ]


def test_names_that_lead_outside_are_refused(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "complete.json").write_text(
        json.dumps({"files": {"../../outside": {"bytes": 0, "md5": "0" * 32}}})
    )
    with pytest.raises(storage.DamagedError, match="outside"):
        storage.get_folder(str(source), tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_signs_of_life_do_not_disturb_saving(tmp_path):
    """The owner's file is read whole while it is being written."""
    place = str(tmp_path / "place")
    with owned(place, every=0.0005, patience=1) as check:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            check()
    assert threading.active_count() < 50
