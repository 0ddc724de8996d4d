"""Runs that are exported while unfinished, continued on purpose, or forced to start at step 0."""

import json
import signal
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.run.metrics import read_metrics
from lib.train.saving import checkpoint
from tests.helpers.project import Project, write_text

pytestmark = pytest.mark.slow
METRICS = "results/pretrain/main/metrics.json"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project after its first `dvc repro`, of 40 steps."""
    project = Project(tmp_path_factory.mktemp("continuing"))
    write_text(project.folder / "data/raw")
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "repro")
    return project


def weights(project: Project, model: str = "models/main") -> dict[str, np.ndarray]:
    return load_file(project.folder / model / "model.safetensors")


def command(project: Project, name: str, code: int = 0) -> str:
    return project.run(sys.executable, "-m", f"lib.commands.{name}", "main", code=code)


def stop_within_training(project: Project, *dvc: str) -> int:
    """Starts dvc, stops it after some steps, and returns the step of the checkpoint."""
    phase = project.folder / ".scratch/pretrain/main"
    process = project.start(*dvc)
    deadline = time.monotonic() + 120
    while not list(phase.glob("*-*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    while project.processes("stages.pretrain"):
        time.sleep(0.05)
    (run,) = phase.glob("*-*")
    return checkpoint.newest(run)


def test_continuing_force_and_intervals_under_dvc(project):
    whole = weights(project)
    # Only intervals changed: nothing is trained again.
    project.set({"pretrain": {"log_every": 5}})
    output = project.run("dvc", "repro", "pretrain")
    assert "this run has finished: its outputs are written from its last checkpoint" in output
    for name, values in weights(project).items():
        assert np.array_equal(values, whole[name]), name
    # Other parameters without being asked to continue, and the same with -f: from step 0.
    project.set({"pretrain": {"steps": 3000, "learning_rate": 1e-3, "checkpoint_every": 5}})
    first = stop_within_training(project, "dvc", "repro", "pretrain")
    assert 0 < first < 3000
    output = command(project, "finish")
    assert f"main: step {first:,} of 3,000" in output
    # So often that there is a checkpoint before the step that the first run had reached.
    project.set({"pretrain": {"checkpoint_every": 1}})
    process = project.start("dvc", "repro", "-f", "-s", "pretrain@main")
    deadline = time.monotonic() + 120
    phase = project.folder / ".scratch/pretrain/main"
    while not [step for run in phase.glob("*-*") for step in checkpoint.steps(run) if step < first]:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert "resuming" not in process.communicate(timeout=60)[0]
    while project.processes("stages.pretrain"):
        time.sleep(0.05)


def test_a_finished_run_goes_on_with_more_steps_and_another_rate(project):
    project.run("dvc", "checkout", "-q", "-f")
    project.set(
        {"pretrain": {"log_every": 10, "steps": 40, "learning_rate": 2e-3, "checkpoint_every": 10}}
    )
    project.run("dvc", "repro", "-f", "-s", "pretrain@main")
    assert "was trained with the same parameters" in command(project, "continue_run", code=1)
    project.set({"pretrain": {"batch_size": 8}})
    assert "batch_size differs" in command(project, "continue_run", code=1)
    project.set({"pretrain": {"batch_size": 4, "steps": 60, "learning_rate": 1e-3}})
    assert "goes on from step 40 of" in command(project, "continue_run")
    output = project.run("dvc", "repro")
    assert "continues the run of 40 steps" in output and "resuming from step 40" in output
    metrics = read_metrics(project.folder / METRICS)
    assert metrics["steps"] == 60
    assert metrics["continued"] == {
        "after_step_40": {"steps": "40 -> 60", "learning_rate": "0.002 -> 0.001"}
    }
    card = (project.folder / "models/main/README.md").read_text(encoding="utf-8")
    assert "Changed within phase main after step 40: steps 40 -> 60" in card
    logged = (project.folder / "results/pretrain/main/curves/learning_rate.tsv").read_text()
    rates = dict(line.split("\t")[-2:] for line in logged.splitlines()[1:])
    assert float(rates["50"]) == pytest.approx(1e-3 * 10 / 56, rel=1e-3)
    assert json.loads(project.run("dvc", "status", "--json", "pretrain")) == {}


def test_the_models_of_a_killed_run_load_in_transformers(project):
    transformers = pytest.importorskip("transformers", reason="run make interop")
    project.set({"pretrain": {"steps": 3000, "evaluate_every": 5, "checkpoint_every": 5}})
    stop_within_training(project, "dvc", "repro", "pretrain")
    command(project, "finish")
    for name in ("last", "best"):
        folder = project.folder / "models/unfinished/main" / name
        if name == "last" or folder.exists():
            model = transformers.BertForPreTraining.from_pretrained(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            assert model.config.vocab_size == len(tokenizer)
            tokens = tokenizer("the old bridge [MASK] a letter", return_tensors="pt")
            assert model(**tokens).prediction_logits.isfinite().all()
