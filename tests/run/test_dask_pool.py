"""Tasks in local processes and on a Dask cluster: the same results, even if workers fail."""

import contextlib
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from lib.run import dask_pool, fingerprint
from lib.run.attempts import MAX_ATTEMPTS
from lib.run.errors import UserError
from lib.run.pool import shard_map
from lib.vocab.export import write_tokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from tests.helpers import worker_tasks
from tests.helpers.dask_cluster import Cluster
from tests.helpers.project import Project, write_text

STAGES = {
    "preprocess": ("data/raw", "data/corpus"),
    "split": ("data/corpus", "data/shards"),
    "records": ("main", "data/shards", "data/vocab", "data/records/main"),
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    if dask_pool.connect.cache_info().currsize:
        dask_pool.connect(cluster.address).client.close()
    cluster.stop()


@pytest.fixture
def workers(cluster, tmp_path, monkeypatch):
    """The cluster's address, for a new connection with a folder of its own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    dask_pool.connect.cache_clear()
    return cluster.address


@pytest.fixture(params=["processes", "cluster"])
def any_workers(request):
    """What tasks run on: the contract is one for all."""
    return request.getfixturevalue("workers") if request.param == "cluster" else 2


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with text, a vocabulary, and settings that give every pass several tasks."""
    project = Project(tmp_path_factory.mktemp("project"))
    write_text(project.folder / "data/raw")
    # The first file again: two tasks that write the same cleaned chunk.
    shutil.copy(project.folder / "data/raw/one.txt", project.folder / "data/raw/three.txt")
    project.set({"preprocess": {"near_duplicates": 0.9}, "split": {"lines_per_shard": 100}})
    vocabulary = project.folder / "data/vocab"
    vocabulary.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    tokens = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in letters)]
    write_tokenizer(vocabulary, tokens, lowercase=True, strip_accents=True, max_length=64)
    return project


def run(project: Project, scheduler: str | None) -> dict[str, str]:
    """Digests of the outputs of the three stages, run from scratch."""
    project.set({"cluster": {"scheduler": scheduler, "workers": 2}})
    for stage, words in STAGES.items():
        project.stage(stage, *words)
    written = results(project)
    delete_outputs(project)
    return written


def results(project: Project) -> dict[str, str]:
    return {
        name: fingerprint.of_path(project.folder / name)
        for stage, words in STAGES.items()
        for name in (words[-1], f"results/{stage}")
    }


def delete_outputs(project: Project) -> None:
    for name in ("data/corpus", "data/shards", "data/records", ".scratch"):
        shutil.rmtree(project.folder / name)


@pytest.mark.slow
def test_the_three_stages_write_the_same_bytes(cluster, project):
    expected = run(project, None)
    assert run(project, cluster.address) == expected
    assert list((project.folder / "data").rglob(".*.tmp-*")) == []


def test_results_are_in_task_order(any_workers):
    numbers = list(range(30))
    assert shard_map(worker_tasks.square, numbers, any_workers, "a b") == [n * n for n in numbers]
    assert shard_map(worker_tasks.square, [], any_workers, "test") == []


def test_tasks_run_in_the_working_folder_of_the_stage(workers, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found = shard_map(worker_tasks.path_and_cwd, [Path("a/b")] * 4, workers, "test")
        assert found == [(Path("a/b"), tmp_path / name)] * 4


def test_the_task_of_a_killed_worker_is_retried(any_workers, tmp_path):
    tasks = [tmp_path / name for name in ("a", "mortal-b", "c", "mortal-d", "e")]
    names = shard_map(worker_tasks.die_once, tasks, any_workers, "test")
    assert names == [path.name for path in tasks]
    assert (tmp_path / "mortal-b").exists()


@pytest.mark.slow
def test_a_task_that_always_kills_its_worker_is_named_after_three_attempts(any_workers, tmp_path):
    tasks = [tmp_path / name for name in ("a", "b", "mortal", "c", "d", "e", "f")]
    with pytest.raises(UserError, match=r"/mortal: its worker died 3 times"):
        shard_map(worker_tasks.die, tasks, any_workers, "test")
    assert (tmp_path / "mortal").read_text() == "xxx"


def test_an_error_in_a_task_names_the_task(any_workers, tmp_path):
    with pytest.raises(UserError, match=r"^shard-[12]: not good$"):
        shard_map(worker_tasks.refuse, ["shard-1", "shard-2"], any_workers, "test")
    with pytest.raises(FileNotFoundError) as failure:
        shard_map(worker_tasks.cannot_open, [tmp_path / "missing"] * 2, any_workers, "test")
    assert failure.value.filename == str(tmp_path / "missing")
    with pytest.raises(RuntimeError, match=r"(?s)^shard-3: .*ZeroDivisionError"):
        shard_map(worker_tasks.divide_by_zero, ["shard-3"] * 2, any_workers, "test")


def test_tasks_of_a_failed_run_are_cancelled(cluster, workers):
    with pytest.raises(UserError):
        shard_map(worker_tasks.sleep_or_fail, [0.0, *[0.3] * 200], workers, "test")
    started = time.monotonic()
    assert len(shard_map(worker_tasks.square, [1, 2], workers, "test")) == 2
    assert time.monotonic() - started < 15


@pytest.mark.slow
def test_a_task_that_fills_its_workers_memory_is_named(tmp_path, workers, cluster):
    small = Cluster(tmp_path, 0)
    small.add(2, memory="400MiB")
    try:
        with pytest.raises(UserError, match=r"/large: its worker died 3 times; .* --memory-limit"):
            shard_map(
                worker_tasks.fill_memory,
                [tmp_path / "large", tmp_path / "b"],
                small.address,
                "test",
            )
    finally:
        small.stop()


@pytest.fixture
def other_code(tmp_path) -> Project:
    """A copy of the project that differs in one line of one file."""
    other = Project(tmp_path / "other")
    with (other.folder / "lib/text/cleaning/chunks.py").open("a") as stream:
        stream.write("# another line\n")
    return other


@pytest.mark.slow
def test_a_worker_with_different_code_is_refused(tmp_path, workers, cluster, other_code):
    different = cluster.add(1, other_code.folder)
    try:
        message = r"Dask worker \S+ \(process \d+\) has code \w+, not \w+; start it again"
        with pytest.raises(UserError, match=message):
            shard_map(worker_tasks.sleep, [0.2] * 40, workers, "test")
        # In a folder without the project's code.
        cluster.kill(different)
        different = cluster.add(1, tmp_path)
        with pytest.raises(UserError, match=r"cannot run the project's code \(ModuleNotFound"):
            shard_map(worker_tasks.sleep, [0.2] * 40, workers, "test")
    finally:
        cluster.kill(different)


def test_a_missing_scheduler_is_a_one_line_error(monkeypatch, tmp_path):
    monkeypatch.setattr(dask_pool, "_CONNECT_SECONDS", 0.5)
    dask_pool.connect.cache_clear()
    with pytest.raises(UserError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler there") as error:
        shard_map(worker_tasks.square, [1], "tcp://127.0.0.1:9", "test")
    assert "\n" not in str(error.value)


def test_a_scheduler_without_workers_is_a_one_line_error(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(dask_pool, "_NO_WORKER_SECONDS", 0.5)
    dask_pool.connect.cache_clear()
    empty = Cluster(tmp_path, 0)
    try:
        with pytest.raises(UserError, match=r"no workers there; start some"):
            shard_map(worker_tasks.square, [1], empty.address, "test")
    finally:
        empty.stop()


@pytest.fixture(scope="module")
def long_project(project):
    """The project with enough text for each stage to take several seconds."""
    write_text(project.folder / "data/raw", 20_000)
    project.set({"split": {"lines_per_shard": 10_000}, "records": {"dupe_factor": 5}})
    return project


@pytest.mark.slow
def test_workers_killed_in_each_stage_change_nothing(cluster, long_project):
    project = long_project
    expected = run(project, None)
    project.set({"cluster": {"scheduler": cluster.address}})
    draw = random.Random(1)
    for stage, words in STAGES.items():
        process = project.start("python", "-m", f"stages.{stage}", *words)
        killed = 0
        # A third kill could hit the same task, which would then fail.
        while process.poll() is None and killed < MAX_ATTEMPTS - 1:
            for victim in cluster.busy()[:1]:
                time.sleep(draw.uniform(0, 0.5))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed += 1
            time.sleep(0.5)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0 and killed, output
    assert results(project) == expected
    assert list((project.folder / "data").rglob(".*.tmp-*")) == []
    delete_outputs(project)


@pytest.mark.slow
def test_a_scheduler_that_stops_is_a_one_line_error(tmp_path, long_project):
    cluster = Cluster(tmp_path, 2)
    try:
        long_project.set({"cluster": {"scheduler": cluster.address}})
        process = long_project.start("python", "-m", "stages.preprocess", *STAGES["preprocess"])
        wait_for(cluster.busy)
        cluster.kill(cluster.scheduler)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert output.splitlines()[-1] == (
            f"preprocess: error: {cluster.address}: the Dask scheduler no longer responds; "
            "start it and its workers, and run the same command again"
        )
        assert "Traceback" not in output
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.parametrize("cause", ["Ctrl-C", "SIGTERM", "parent killed"])
def test_the_tasks_of_an_interrupted_stage_are_cancelled(cluster, long_project, cause):
    long_project.set({"cluster": {"scheduler": cluster.address}})
    shutil.rmtree(long_project.folder / ".scratch", ignore_errors=True)
    # In a background script SIGINT is ignored, and children inherit that.
    stage = ("env", "--default-signal=INT", "python", "-m", "stages.preprocess")
    stage += STAGES["preprocess"]
    if cause == "parent killed":
        # A process between the stage and this one, like dvc.
        parent = "import subprocess, sys; subprocess.run(sys.argv[1:])"
        stage = ("python", "-c", parent, *stage)
    process = long_project.start(*stage)
    wait_for(cluster.busy)
    number = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}.get(cause, signal.SIGKILL)
    process.send_signal(number)
    assert process.wait(60) == (130 if cause == "Ctrl-C" else -number)
    process.stdout.close()
    wait_for(lambda: not cluster.tasks())


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
