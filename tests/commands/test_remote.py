"""A DVC remote in a bucket, with the emulator of Google Cloud Storage."""

import random
import re
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.helpers.bucket import Bucket, Machine, first_machine
from tests.helpers.project import write_text

DATA = ("data/raw", "data/corpus", "data/sample", "data/vocab", "data/shards", "data/records")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    bucket = Bucket(tmp_path_factory.mktemp("bucket")).start()
    yield bucket
    bucket.stop()


@pytest.fixture(scope="module")
def first(tmp_path_factory, bucket) -> Machine:
    """A machine that has made and pushed its corpus."""
    machine = first_machine(tmp_path_factory.mktemp("first"), bucket)
    write_text(machine.folder / "data/raw")
    machine.run("dvc", "add", "--quiet", "data/raw")
    machine.run("dvc", "repro", "--quiet", "preprocess")
    machine.commit("Corpus")
    assert "pushed" in machine.run("dvc", "push")
    return machine


def stages_run(output: str) -> list[str]:
    """Names of the stages that `dvc repro` ran."""
    return re.findall(r"Running stage '([^']+)'", output)


def cached(machine: Machine) -> dict[str, bytes]:
    """Files of DVC's cache."""
    return machine.files(".dvc/cache/files")


def test_make_remote_writes_only_the_url_to_the_tracked_config(first):
    config = (first.folder / ".dvc/config").read_text()
    assert "remote = store" in config and "url = gs://domain-bert/store" in config
    assert "endpointurl" not in config
    assert first.run("git", "status", "--porcelain") == ""
    assert "remote: error: BUCKET: should be gs://name/" in first.make_remote("elsewhere", code=2)
    assert (first.folder / ".dvc/config").read_text() == config
    assert "store: can be read and written" in first.make_remote("gs://domain-bert/store")
    assert first.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_nothing_reruns_on_another_machine(first, tmp_path):
    assert "in sync" in first.run("dvc", "status", "--cloud", "preprocess")
    second = first.clone(tmp_path / "second")
    second.run("dvc", "pull", "--quiet", "--allow-missing")
    assert second.files(*DATA) == first.files(*DATA)
    assert stages_run(second.run("dvc", "repro", "preprocess")) == []
    assert second.run("git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_missing_bucket_is_reported_and_nothing_is_lost(first):
    before = first.files("data", ".dvc/cache")
    try:
        output = first.make_remote("gs://nowhere/store", code=2)
        assert "remote: error: gs://nowhere: no such bucket; create it" in output
        assert "b/nowhere" in first.run("dvc", "push", code=255)
    finally:
        first.run("git", "checkout", ".dvc/config")
    assert first.files("data", ".dvc/cache") == before


# --- slow ---


@pytest.fixture
def large(tmp_path) -> Machine:
    """A machine with 300 MB of data in 200 files, and its own bucket."""
    machine = first_machine(tmp_path / "first", Bucket(tmp_path / "bucket").start())
    draw = random.Random(1)
    folder = machine.folder / "data/raw"
    folder.mkdir(parents=True)
    for number in range(200):
        # The emulator drops a final carriage return.
        (folder / f"{number:03}.txt").write_bytes(draw.randbytes(1_499_999) + b"\n")
    machine.run("dvc", "add", "--quiet", "data/raw")
    machine.commit("Data")
    yield machine
    machine.bucket.stop()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def failed_output(process: subprocess.Popen) -> str:
    """Output of a command that must fail by itself."""
    output, _ = process.communicate(timeout=900)
    assert process.returncode not in (0, None), output
    return output


@pytest.mark.slow
def test_transfers_survive_kills_and_a_stopped_server(large, tmp_path):
    # All files at once: each that fails is retried for half a minute or longer.
    jobs = ("--jobs", "200")
    pull = ("dvc", "pull", "data/raw.dvc")
    bucket, raw, cache = large.bucket, large.files("data/raw"), cached(large)
    process = large.start("dvc", "push")
    wait_until(lambda: len(bucket.objects()) >= 60, process)
    process.kill()
    process.communicate()
    assert len(bucket.objects()) < 200

    process = large.start("dvc", "push", *jobs)
    wait_until(lambda: len(bucket.objects()) >= 120, process)
    bucket.stop()
    output = failed_output(process)
    assert "ERROR: failed to push data to the cloud" in output
    assert large.files("data/raw") == raw and cached(large) == cache
    bucket.start()
    large.run("dvc", "push")
    assert "in sync" in large.run("dvc", "status", "--cloud")
    assert len(bucket.objects()) == 201  # With the directory listing.

    second = large.clone(tmp_path / "second")
    (second.folder / "data/mine.txt").write_text("mine")
    process = second.start(*pull, *jobs)
    wait_until(lambda: len(cached(second)) >= 60, process)
    bucket.stop()
    assert "ERROR: failed to pull data from the cloud" in failed_output(process)
    # Transferred files are complete, and other files were not touched.
    assert cached(second).items() <= cache.items()
    assert (second.folder / "data/mine.txt").read_text() == "mine"
    bucket.start()
    second.run(*pull)
    assert second.files("data/raw") == raw
    assert "up to date" in second.run("dvc", "status", "data/raw.dvc")

    process = large.clone(tmp_path / "third").start(*pull)
    third = Machine(tmp_path / "third", bucket)
    wait_until(lambda: len(cached(third)) >= 60, process)
    process.kill()
    process.communicate()
    third.run(*pull)
    assert third.files("data/raw") == raw


@pytest.mark.slow
def test_records_and_vocabulary_are_enough_to_train(first, tmp_path):
    first.run("dvc", "repro", "--quiet", "records@main")
    first.commit("Records")
    first.run("dvc", "push")
    # A bare git repository that all machines share.
    server = tmp_path / "server.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", first.folder, server], check=True)
    first.run("git", "remote", "add", "origin", str(server))
    trainer = Machine(server, first.bucket).clone(tmp_path / "trainer")
    trainer.run("dvc", "pull", "check", "records@main", "vocab")
    assert not (trainer.folder / "data/shards").exists()
    assert stages_run(trainer.run("dvc", "repro", "--single-item", "pretrain@main")) == [
        "pretrain@main"
    ]
    # With --allow-missing: nothing left to run, and no other stage runs.
    assert stages_run(trainer.run("dvc", "repro", "--allow-missing", "pretrain@main")) == []
    trainer.commit("Model")
    trainer.run("git", "push", "--quiet", "origin", "main")
    trainer.run("dvc", "push", "pretrain@main")

    first.run("git", "pull", "--quiet", "origin", "main")
    first.run("dvc", "pull", "--allow-missing")
    assert first.files("models/main") == trainer.files("models/main")
    assert stages_run(first.run("dvc", "repro")) == ["evaluate"]
    first.commit("Evaluation")
    first.run("dvc", "push")
    first.run("git", "push", "--quiet", "origin", "main")

    third = Machine(server, first.bucket).clone(tmp_path / "third")
    third.run("dvc", "pull")
    assert stages_run(third.run("dvc", "repro")) == []
    assert "in sync" in third.run("dvc", "status", "--cloud")
    assert third.files(*DATA, "models") == first.files(*DATA, "models")

    # The run cache: a run of another machine that was never committed is fetched.
    third.set({"records": {"dupe_factor": 2}})
    assert stages_run(third.run("dvc", "repro", "records@main")) == ["check", "records@main"]
    third.run("make", "-o", "setup", "push")
    fourth = Machine(server, first.bucket).clone(tmp_path / "fourth")
    fourth.set({"records": {"dupe_factor": 2}})
    assert stages_run(fourth.run("dvc", "repro", "--pull", "records@main")) == []
    assert fourth.files("data/records") == third.files("data/records")

    # An experiment is pushed by one machine and applied on another.
    third.run("git", "checkout", "--quiet", ".")
    third.run("dvc", "checkout")
    third.run("dvc", "exp", "run", "--name", "slow-rate", "-S", "pretrain.learning_rate=1e-3")
    third.run("dvc", "exp", "push", "origin", "slow-rate")
    expected = third.files("models/main")
    fourth.run("git", "checkout", "--quiet", ".")
    fourth.run("dvc", "exp", "pull", "origin", "slow-rate")
    fourth.run("dvc", "exp", "apply", "slow-rate")
    fourth.run("dvc", "pull")
    assert fourth.files("models/main") == expected
    assert stages_run(fourth.run("dvc", "repro")) == []

    # Garbage collection: locally outside the workspace, in the bucket outside all commits.
    objects = first.bucket.objects()
    fourth.run("git", "checkout", "--quiet", ".")
    fourth.run("dvc", "pull")
    fourth.run("dvc", "gc", "--workspace", "--force")
    fourth.run("dvc", "pull")
    assert first.bucket.objects() == objects
    fourth.run("dvc", "gc", "--all-commits", "--cloud", "--force")
    assert first.bucket.objects() < objects
    fifth = Machine(server, first.bucket).clone(tmp_path / "fifth")
    fifth.run("dvc", "pull")
    assert stages_run(fifth.run("dvc", "repro")) == []
