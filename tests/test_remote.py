"""A DVC remote in a bucket: the emulator of Google Cloud Storage stands for it."""

import re
import signal
import time

import pytest

from tests.bucket import Bucket, Machine, first_machine
from tests.project import write_text

DATA = ("data/raw", "data/corpus", "data/sample", "data/vocab", "data/shards", "data/records")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    bucket = Bucket(tmp_path_factory.mktemp("bucket")).start()
    yield bucket
    bucket.stop()


@pytest.fixture(scope="module")
def first(tmp_path_factory, bucket) -> Machine:
    """A machine that has made its records and pushed all it has."""
    machine = first_machine(tmp_path_factory.mktemp("first"), bucket)
    write_text(machine.folder / "data/raw")
    machine.run("dvc", "add", "--quiet", "data/raw")
    machine.run("dvc", "repro", "--quiet", "records@main")
    machine.commit("Records")
    assert "pushed" in machine.run("dvc", "push")
    return machine


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def test_make_remote_writes_what_git_may_see(first):
    config = (first.folder / ".dvc/config").read_text()
    assert "remote = store" in config and "url = gs://domain-bert/store" in config
    assert "endpointurl" not in config
    assert first.run("git", "status", "--porcelain") == ""
    wrong = first.run("make", "-o", "setup", "remote", "BUCKET=elsewhere", code=2)
    assert "error: name a bucket" in wrong
    assert (first.folder / ".dvc/config").read_text() == config


def test_on_another_machine_nothing_is_left_to_run(first, tmp_path):
    assert "in sync" in first.run("dvc", "status", "--cloud")
    second = first.clone(tmp_path / "second")
    second.run("dvc", "pull", "--quiet")
    assert second.files(*DATA) == first.files(*DATA)
    assert ran(second.run("dvc", "repro", "records@main")) == []
    assert second.run("git", "status", "--porcelain") == ""


def test_a_bucket_that_is_not_there_is_told_and_nothing_is_lost(first, tmp_path):
    second = first.clone(tmp_path / "second")
    second.run("dvc", "remote", "modify", "--local", "store", "url", "gs://nowhere/store")
    before = second.files(".dvc")
    print(second.run("dvc", "pull", code=1))
    first_output = first.run("dvc", "push", "--remote", "store")
    print(first_output)
    assert second.files(".dvc").keys() == before.keys()
