"""Prolonged runs, and phases for a stable rate and its decay, with dvc and to the bit."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.run.metrics import read_metrics
from lib.train.saving import checkpoint
from tests.helpers.project import Project, training, write_text

pytestmark = pytest.mark.slow
# Neither is a multiple of the intervals, so that a run that ends there evaluates once more.
SHORT, LONG, DECAY = 47, 333, 31
STABLE = {"schedule": "constant", "steps": SHORT}
DECAYING = {"max_seq_length": 32, "init": "models/state/main", "steps": DECAY}
OUTPUTS = ("models/main", "models/saved/main", "models/state/main", "results/pretrain/main")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project after `dvc repro` of a stable phase of SHORT steps and a decay."""
    project = Project(tmp_path_factory.mktemp("prolonging"))
    write_text(project.folder / "data/raw")
    project.run("dvc", "add", "-q", "data/raw")
    project.set(
        {
            "pretrain": {"learning_rate": 5e-3},
            "phases": {
                "main": STABLE,
                "decay": {**DECAYING, "schedule": "one_minus_sqrt"},
            },
        }
    )
    project.run("dvc", "repro", "pretrain")
    return project


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files of a folder but the model card."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in paths
        if path.name not in ("README.md", ".gitignore")
    }


def outputs(project: Project, name: str = "main") -> dict[str, dict[str, bytes]]:
    found = {path: files(project.folder / path.replace("main", name)) for path in OUTPUTS[:3]}
    return found | {OUTPUTS[3]: files(project.folder / OUTPUTS[3])}


def train_from_start(project: Project, **changes: object) -> dict[str, dict[str, bytes]]:
    """The outputs of a run of phase main by hand from step 0; all others are restored."""
    kept = project.folder / "kept"
    shutil.copytree(project.folder / "results/pretrain", kept)
    # The other phase needs no state of a single run, which has none.
    project.set({"phases": {"main": changes, "decay": {"init": "models/main"}}})
    output = project.run(*training("models/whole"), "--from-start")
    assert "goes on" not in output and "resuming" not in output
    found = outputs(project, "whole")
    project.set({"phases": {"main": {**dict.fromkeys(changes), **STABLE}, "decay": DECAYING}})
    shutil.rmtree(project.folder / "results/pretrain")
    kept.rename(project.folder / "results/pretrain")
    for path in ("models/whole", "models/saved/whole", "models/state/whole", ".scratch"):
        shutil.rmtree(project.folder / path)
    return found


def assert_same(project: Project, expected: dict[str, dict[str, bytes]]) -> None:
    found = outputs(project)
    for path in OUTPUTS:
        names = [name for name in expected[path] if expected[path][name] != found[path].get(name)]
        assert (path, names) == (path, []) and found[path].keys() == expected[path].keys()


def weights(project: Project, model: str) -> dict[str, np.ndarray]:
    return load_file(project.folder / model / "model.safetensors")


def test_a_stable_phase_and_its_decay_equal_a_single_run(project):
    metrics = read_metrics(project.folder / "results/pretrain/decay/metrics.json")
    assert (metrics["steps"], metrics["steps_before"]) == (DECAY, SHORT)
    single = train_from_start(
        project, steps=SHORT + DECAY, schedule="one_minus_sqrt", decay_steps=DECAY
    )
    path = project.folder / "models/decay/model.safetensors"
    assert path.read_bytes() == single["models/main"]["model.safetensors"]
    assert list(single["models/state/main"]) == ["no-state.txt"]
    before = weights(project, "models/main")
    initial = weights(project, "models/saved/decay/initial")
    assert all(np.array_equal(before[name], initial[name]) for name in before)


def test_a_run_prolonged_without_scratch_and_killed_at_five_moments_equals_the_long_run(project):
    expected = train_from_start(project, steps=LONG)
    assert not (project.folder / ".scratch").exists()
    phase = project.folder / ".scratch/pretrain/main"
    project.set({"phases": {"main": {"steps": LONG}}, "pretrain": {"checkpoint_every": 20}})
    first = outputs(project)["models/main"]
    resumed = 0

    def steps_made() -> int:
        found = [step for run in phase.glob("*-*") for step in checkpoint.steps(run)]
        return max(found, default=0)

    # As soon as it goes on, within training, and while it writes its outputs.
    for moment in (SHORT, SHORT + 1, 150, 250, LONG):
        process = project.start("dvc", "repro", "pretrain@main")
        deadline = time.monotonic() + 120
        while steps_made() < moment:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        output = process.communicate(timeout=60)[0]
        while project.processes("stages.pretrain"):
            time.sleep(0.05)
        resumed += "resuming from step" in output
        assert "step 0" not in output
    output = project.run("dvc", "repro", "pretrain")
    assert "Running stage 'pretrain@decay'" in output
    assert_same(project, expected)
    assert outputs(project)["models/main"]["model.safetensors"] != first["model.safetensors"]
    assert json.loads(project.run("dvc", "status", "--json", "pretrain")) == {}
    metrics = read_metrics(project.folder / "results/pretrain/decay/metrics.json")
    assert metrics["steps_before"] == LONG


def test_what_is_forced_or_differs_starts_at_step_0(project):
    project.set({"phases": {"main": {"steps": LONG + 5}}})
    output = project.run("dvc", "repro", "-f", "-s", "pretrain@main")
    assert "goes on" not in output and "resuming" not in output
    project.set({"phases": {"main": {"steps": LONG + 9}}, "pretrain": {"weight_decay": 0.02}})
    output = project.run("dvc", "repro", "pretrain@main")
    assert "goes on" not in output and "resuming" not in output
    # Back to the parameters of before, dvc restores the outputs.
    project.set({"phases": {"main": {"steps": SHORT}}, "pretrain": {"weight_decay": 0.01}})
    assert "is cached" in project.run("dvc", "repro", "pretrain@main")


def test_more_text_goes_on_by_make_continue(project):
    """The vocabulary is kept; the new records are read from their beginning."""
    shutil.copytree(project.folder / "data/vocab", project.folder / "vocabulary")
    project.set({"vocab": {"source": "file", "base": "vocabulary/vocab.txt"}})
    project.run("dvc", "repro", "pretrain@main")
    before = read_metrics(project.folder / "results/pretrain/main/metrics.json")
    more = project.folder / "data/raw/three.txt"
    more.write_text("A third file has other sentences. They are new to it.\n" * 1, encoding="utf-8")
    extra = [f"The third file counts {n} of its own lines.\n\n" for n in range(400)]
    more.write_text("".join(extra), encoding="utf-8")
    project.run("dvc", "add", "-q", "data/raw")
    project.set({"phases": {"main": {"steps": SHORT + 20}}})
    project.run("dvc", "repro", "records@main")
    command = (sys.executable, "-m", "lib.commands.continue_run", "main")
    shutil.rmtree(project.folder / ".scratch")
    output = project.run(*command)
    assert f"goes on from step {SHORT} of" in output and "training sequences" in output
    output = project.run("dvc", "repro", "pretrain@main")
    assert f"resuming from step {SHORT}" in output
    metrics = read_metrics(project.folder / "results/pretrain/main/metrics.json")
    (changes,) = metrics["continued"].values()
    assert metrics["steps"] == SHORT + 20 > before["steps"]
    assert set(changes) == {"records", "steps"}
