"""Training that is killed, stopped or loses its disk ends as if nothing had happened."""

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

from lib.run.metrics import read_metrics
from lib.train.saving import checkpoint
from tests.helpers.bucket import Bucket
from tests.helpers.gs import proxy_to
from tests.helpers.project import Project, training, write_text


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with records."""
    project = Project(tmp_path_factory.mktemp("training"))
    # Without it, TensorFlow's log lines must not appear either.
    project.environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    write_text(project.folder / "data/raw")
    project.make_records()
    return project


def train_undisturbed(project: Project, hidden_size: int, steps: int) -> None:
    """Sets the size of the runs to come, and trains the model that they must end with."""
    model = {
        "num_hidden_layers": 2,
        "hidden_size": hidden_size,
        "intermediate_size": 4 * hidden_size,
    }
    project.set({"pretrain": {"model": model, "steps": steps, "checkpoint_every": 1_000_000}})
    output = project.run(*training("models/undisturbed"))
    assert all(line.startswith("pretrain: ") for line in output.splitlines()), output
    shutil.rmtree(project.folder / "undisturbed", ignore_errors=True)
    shutil.copytree(project.folder / "results/pretrain", project.folder / "undisturbed")
    # The interval of checkpoints must not change the result.
    project.set({"pretrain": {"checkpoint_every": 1}})


def in_scratch(project: Project, pattern: str) -> set[Path]:
    """Of the runs that have not finished."""
    return {path for run in runs_of(project) for path in run.glob(pattern)}


def runs_of(project: Project) -> set[Path]:
    """The folders of the runs that have not finished."""
    return set((project.folder / ".scratch/pretrain/main").glob("[!.]*-*"))


def finished_run(project: Project) -> Path:
    return project.folder / ".scratch/pretrain/main/finished"


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
    """Everything under a final name is complete, and no process works in the project any more."""
    for path in in_scratch(project, "step-*"):
        load_file(path / "arrays.safetensors")
        assert (path / "logs").is_dir()
    weights = project.folder / model / "model.safetensors"
    if weights.exists():
        whole = project.folder / "models/undisturbed/model.safetensors"
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
    """Equal bytes of the weights, of all files of DVCLive and of the results."""
    saved = (f"models/saved/{Path(name).name}" for name in ("models/undisturbed", model))
    for whole, other in (("models/undisturbed", model), saved, ("undisturbed", "results/pretrain")):
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
    assert not runs_of(project)
    (last,) = checkpoint.steps(finished_run(project))
    assert checkpoint.damage(finished_run(project), last) is None


@pytest.mark.slow
def test_training_that_is_terminated_ends_the_same_and_adds_up_its_cost(project):
    train_undisturbed(project, 128, 60)
    process = start_training(project, "models/terminated")
    process.send_signal(signal.SIGSTOP)
    second = project.run(*training("models/terminated"), code=1).splitlines()[-1]
    assert f"process {process.pid} is training this same run" in second
    process.send_signal(signal.SIGCONT)
    stop(project, process, signal.SIGTERM)
    assert_nothing_is_broken(project, "models/terminated")

    (cost_file,) = in_scratch(project, "cost.json")
    earlier = read_metrics(cost_file)
    output = project.run(*training("models/terminated"))
    assert "resuming from step" in output
    assert_ended_the_same(project, "models/terminated")
    # The last process alone takes more than a second to import TensorFlow.
    total = read_metrics(project.folder / "results/cost/pretrain-main.json")
    for name in ("wall_seconds", "cpu_seconds"):
        assert total[name] > earlier[name] + 1 > 4, name


@pytest.mark.slow
def test_other_settings_begin_another_run(project):
    train_undisturbed(project, 128, 60)
    assert kill(start_training(project, "models/disturbed"))
    project.set({"pretrain": {"seed": 2}})
    other = start_training(project, "models/other")
    other.kill()
    assert "resuming from" not in other.communicate()[0]
    for run in runs_of(project):
        shutil.rmtree(run)
    project.set({"pretrain": {"seed": 1}})


def lose_disk_and_resume(project: Project, location: str, copied: Callable[[], object]) -> None:
    """Kills training once a checkpoint is copied, removes scratch, and trains again."""
    train_undisturbed(project, 128, 60)
    # So rarely that models saved before the checkpoint are needed, too.
    project.set({"pretrain": {"checkpoint_every": 7, "checkpoint_dir": location}})
    try:
        process = project.start(*training("models/moved"))
        assert wait_until(copied, process), process.communicate()[0]
        assert kill(process)
        shutil.rmtree(project.folder / ".scratch/pretrain")
        output = project.run(*training("models/moved"))
    finally:
        project.set({"pretrain": {"checkpoint_dir": None}})
    assert re.search(r"step-\d+: fetched", output) and "resuming from step" in output
    assert_ended_the_same(project, "models/moved")


@pytest.mark.slow
def test_a_machine_that_is_lost_with_its_disk(project, tmp_path):
    # The model of step 20 is saved, and is the best so far.
    lose_disk_and_resume(
        project,
        str(tmp_path / "copies"),
        lambda: [*tmp_path.glob("copies/*/step-28/complete.json")],
    )
    assert not [*tmp_path.glob("copies/*")]


@pytest.mark.slow
def test_a_machine_that_is_lost_with_copies_in_a_bucket(project, tmp_path, monkeypatch):
    bucket = Bucket(tmp_path / "bucket").start()
    with proxy_to(bucket.port, tmp_path) as environment:
        for name, value in environment.items():
            monkeypatch.setitem(project.environment, name, value)
        lose_disk_and_resume(
            project,
            f"gs://{bucket.name}/runs",
            lambda: any(name.endswith("step-28/complete.json") for name in bucket.objects()),
        )
    assert not bucket.objects()
    bucket.stop()


@pytest.mark.slow
def test_training_disturbed_at_twenty_five_moments_ends_the_same(project):
    train_undisturbed(project, 256, 400)
    shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
    draw = random.Random(7)
    model = "models/often"
    # At any time, start-up included; while training; while a checkpoint is written; by signal.
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
    assert "resuming from step" in project.run(*training(model))
    assert_ended_the_same(project, model)


@pytest.mark.slow
def test_intervals_that_change_within_a_run_leave_the_weights_as_they_are(project):
    train_undisturbed(project, 128, 60)
    model = "models/intervals"
    process = start_training(project, model)
    assert stop(project, process, signal.SIGTERM) < 50
    intervals = {"log_every": 7, "evaluate_every": 9, "save_model_every": 25}
    try:
        project.set({"pretrain": intervals})
        assert "resuming from step" in project.run(*training(model))
    finally:
        project.set({"pretrain": {"log_every": 10, "evaluate_every": 20, "save_model_every": 20}})
    one, two = (project.folder / name for name in ("models/undisturbed", model))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name
    metrics = read_metrics(project.folder / "results/pretrain/main/metrics.json")
    ((_, change),) = metrics["changed"].items()
    assert change == {
        "log_every": "10 -> 7",
        "evaluate_every": "20 -> 9",
        "save_model_every": "20 -> 25",
    }
    # The means of the log, over other steps, are still means over all of them.
    for name in ("mlm_loss", "mlm_accuracy"):
        lines = (project.folder / f"results/pretrain/main/curves/train/{name}.tsv").read_text()
        steps = [int(line.split()[0]) for line in lines.splitlines()[1:]]
        assert steps[-1] == 60 and {56, 49, 54, 45} <= set(steps)
    saved = {path.name for path in (project.folder / "models/saved/intervals").iterdir()}
    assert "best" in saved and "step-50" in saved


@pytest.mark.slow
def test_a_changed_constant_in_the_loss_starts_at_step_0(project):
    train_undisturbed(project, 128, 60)
    model = "models/changed"
    stop(project, start_training(project, model), signal.SIGTERM)
    losses, step = (project.folder / f"lib/{name}.py" for name in ("model/losses", "train/step"))
    before = {path: path.read_text(encoding="utf-8") for path in (losses, step)}
    losses.write_text(before[losses] + "\n# A comment.\n", encoding="utf-8")
    assert "_FIRST_SCALE = 2.0**15" in before[step]
    step.write_text(before[step].replace("2.0**15", "2.0**14"), encoding="utf-8")
    try:
        process = start_training(project, model)
        process.terminate()
        output = process.communicate()[0]
        assert "the training code has changed since step" in output
        assert "resuming" not in output
        # With the code as it was, except for the comment, the run is found again.
        step.write_text(before[step], encoding="utf-8")
        assert "resuming from step" in project.run(*training(model))
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
    assert_ended_the_same(project, model)


@pytest.mark.slow
def test_sigterm_at_twenty_random_moments_most_of_them_in_evaluations_ends_the_same(project):
    """Evaluations of all dev records after every other step take most of the time."""
    project.set({"pretrain": {"evaluate_every": 2}})
    try:
        started = time.monotonic()
        train_undisturbed(project, 256, 120)
        seconds = time.monotonic() - started
        shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
        project.set({"pretrain": {"checkpoint_every": 1_000_000}})
        draw = random.Random(18)
        model = "models/twenty"
        pending = 0
        for _ in range(20):
            process = project.start(*training(model))
            time.sleep(draw.uniform(0, 0.6 * seconds))
            process.terminate()
            output, _ = process.communicate(timeout=60)
            assert process.returncode in (128 + signal.SIGTERM, -signal.SIGTERM, 0), output
            assert_nothing_is_broken(project, model)
            for run in runs_of(project):
                for step in checkpoint.steps(run)[-1:]:
                    pending += bool(checkpoint.load(run, step).arrays["pending"])
        assert pending >= 3
        project.run(*training(model))
    finally:
        project.set({"pretrain": {"evaluate_every": 20}})
    assert_ended_the_same(project, model)
