"""Training that is killed, stopped, or out of disk: it ends as if nothing had been."""

import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.helpers.bucket import Bucket
from tests.helpers.gs import proxy_to
from tests.helpers.project import Project, training, write_text


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project up to its records, and models/whole of a run that nothing disturbed."""
    project = Project(tmp_path_factory.mktemp("training"))
    write_text(project.folder / "data/raw")
    project.make_records()
    return project


def train_whole(project: Project, hidden_size: int, steps: int) -> None:
    """Settings for the runs to come, and what they must end with."""
    model = {
        "num_hidden_layers": 2,
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
    }
    project.set({"pretrain": {"model": model, "steps": steps, "checkpoint_every": 1_000_000}})
    project.run(*training("models/whole"))
    shutil.rmtree(project.folder / "whole", ignore_errors=True)
    shutil.copytree(project.folder / "results/pretrain", project.folder / "whole")
    # How often a checkpoint is written must change nothing.
    project.set({"pretrain": {"checkpoint_every": 1}})


def in_scratch(project: Project, pattern: str) -> set[Path]:
    return set((project.folder / ".scratch/pretrain").glob(f"*/{pattern}"))


def runs_of(project: Project) -> set[Path]:
    return set((project.folder / ".scratch/pretrain").glob("*"))


def wait_until(condition: Callable[[], object], process: subprocess.Popen) -> bool:
    """False if the process ends first."""
    deadline = time.monotonic() + 120
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return True


def start_training(project: Project, model: str) -> subprocess.Popen:
    """Returns when the process has written its first checkpoint, or has ended."""
    before = in_scratch(project, "step-*")
    process = project.start(*training(model))
    wait_until(lambda: in_scratch(project, "step-*") - before, process)
    return process


def kill(process: subprocess.Popen) -> bool:
    """False if it had ended by itself."""
    process.kill()
    output, _ = process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0), output
    return process.returncode != 0


def stop(project: Project, process: subprocess.Popen, number: signal.Signals) -> int:
    """Sends a signal; the step of the checkpoint that the trainer leaves."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + number, output
    step = int(re.search(rf"stopped by {number.name} after step (\d+)", output)[1])
    assert f"step-{step}" in {path.name for path in in_scratch(project, "step-*")}
    return step


def assert_nothing_is_broken(project: Project, model: str) -> None:
    """What stands under a final name is whole, and nobody works in the project any more."""
    for path in in_scratch(project, "step-*"):
        load_file(path / "arrays.safetensors")
        assert (path / "logs").is_dir()
    weights = project.folder / model / "model.safetensors"
    if weights.exists():
        whole = project.folder / "models/whole/model.safetensors"
        assert weights.read_bytes() == whole.read_bytes()
    assert not processes_of(project)


def processes_of(project: Project) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == project.folder.resolve():
                found.append((process / "cmdline").read_bytes().decode())
        except OSError:
            continue
    return found


def assert_ended_the_same(project: Project, model: str) -> None:
    """Weights to the bit, and every file of DVCLive and of the results."""
    kept = (f"models/saved/{Path(name).name}" for name in ("models/whole", model))
    for whole, other in (("models/whole", model), kept, ("whole", "results/pretrain")):
        one, two = (
            {
                path.relative_to(project.folder / folder): path.read_bytes()
                for path in (project.folder / folder).rglob("*")
                if path.is_file()
            }
            for folder in (whole, other)
        )
        assert [name for name in one if one[name] != two.get(name)] == []
        assert one.keys() == two.keys()
    assert not in_scratch(project, "*")


def test_killed_terminated_and_interrupted_training_ends_the_same(project):
    train_whole(project, 128, 60)
    process = start_training(project, "models/disturbed")
    wait_until(lambda: in_scratch(project, ".step-*.tmp-*"), process)
    assert kill(process)
    assert not (project.folder / "models/disturbed").exists()
    assert_nothing_is_broken(project, "models/disturbed")

    # Other settings are another run: it begins at the beginning.
    runs = runs_of(project)
    project.set({"pretrain": {"seed": 2}})
    other = start_training(project, "models/other")
    other.kill()
    assert "going on from" not in other.communicate()[0]
    shutil.rmtree(runs_of(project).difference(runs).pop())
    project.set({"pretrain": {"seed": 1}})

    process = start_training(project, "models/disturbed")
    process.send_signal(signal.SIGSTOP)
    second = project.run(*training("models/disturbed"), code=1).splitlines()[-1]
    assert f"process {process.pid} is training this very run" in second
    process.send_signal(signal.SIGCONT)
    terminated = stop(project, process, signal.SIGTERM)
    assert_nothing_is_broken(project, "models/disturbed")

    process = start_training(project, "models/disturbed")
    assert stop(project, process, signal.SIGINT) > terminated
    assert_nothing_is_broken(project, "models/disturbed")

    output = project.run(*training("models/disturbed"))
    assert "going on from step" in output
    assert_ended_the_same(project, "models/disturbed")


def lose_disk_and_go_on(project: Project, place: str, copied: Callable[[], object]) -> None:
    """Training is killed when a checkpoint is copied, its scratch is gone, and another goes on."""
    train_whole(project, 128, 60)
    # So rarely that what is kept before it is needed, too.
    project.set({"pretrain": {"checkpoint_every": 7, "checkpoint_dir": place}})
    try:
        process = project.start(*training("models/moved"))
        assert wait_until(copied, process), process.communicate()[0]
        assert kill(process)
        shutil.rmtree(project.folder / ".scratch/pretrain")
        output = project.run(*training("models/moved"))
    finally:
        project.set({"pretrain": {"checkpoint_dir": None}})
    assert re.search(r"step-\d+: fetched", output) and "going on from step" in output
    assert_ended_the_same(project, "models/moved")


@pytest.mark.slow
def test_a_machine_that_is_lost_with_its_disk(project, tmp_path):
    # The model of step 20 is kept, and the best by then is that one.
    lose_disk_and_go_on(
        project, str(tmp_path / "place"), lambda: [*tmp_path.glob("place/*/step-28/complete.json")]
    )
    assert not [*tmp_path.glob("place/*")]


@pytest.mark.slow
def test_a_machine_that_is_lost_beside_a_bucket(project, tmp_path, monkeypatch):
    bucket = Bucket(tmp_path / "bucket").start()
    with proxy_to(bucket.port, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setitem(project.environment, name, value)
        lose_disk_and_go_on(
            project,
            f"gs://{bucket.name}/runs",
            lambda: any(name.endswith("step-28/complete.json") for name in bucket.objects()),
        )
    assert not bucket.objects()
    bucket.stop()


@pytest.mark.slow
def test_training_disturbed_at_twenty_five_moments_ends_the_same(project):
    train_whole(project, 256, 400)
    shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
    draw = random.Random(7)
    model = "models/often"
    # Anywhere, start-up included; while training; while a checkpoint is written; asked to stop.
    moments = ["anywhere"] * 5 + ["training"] * 8 + ["writing"] * 7 + ["asked"] * 5
    draw.shuffle(moments)
    kills = writing = stops = 0
    for moment in moments:
        if moment == "anywhere":
            process = project.start(*training(model))
            time.sleep(draw.uniform(0, 8))
        else:
            process = start_training(project, model)
            time.sleep(draw.uniform(0, 0.6))
        if moment == "asked":
            stop(project, process, draw.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT]))
            stops += 1
        else:
            if moment == "writing":
                assert wait_until(lambda: in_scratch(project, ".step-*.tmp-*"), process)
                time.sleep(draw.uniform(0, 0.02))
            kills += kill(process)
            writing += bool(in_scratch(project, ".step-*.tmp-*"))
        assert_nothing_is_broken(project, model)
    assert (kills, stops) == (20, 5)
    assert writing >= 5
    assert "going on from step" in project.run(*training(model))
    assert_ended_the_same(project, model)
