"""Whole runs with batches that are not finite: counted, stopped in time, and never saved."""

import math
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.run.metrics import read_metrics
from tests.helpers.project import Project, training, write_text

pytestmark = pytest.mark.slow

# Runs stages.pretrain on data in which the weights of all masked tokens of some steps are NaN.
BROKEN = """
import runpy, sys
import tensorflow as tf
from lib.train import loop

steps = tf.constant([{steps}], tf.int64)
training_batches = loop.training_batches

def broken_batches(*given, first_step=0, **named):
    def damage(number, batch):
        factor = tf.where(tf.reduce_any(steps == number + first_step + 1), float("nan"), 1.0)
        return batch | {{"masked_lm_weights": batch["masked_lm_weights"] * factor}}
    return training_batches(*given, first_step=first_step, **named).enumerate().map(damage)

loop.training_batches = broken_batches
runpy.run_module("stages.pretrain", run_name="__main__")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with records; runs have 40 steps and a checkpoint every 10."""
    project = Project(tmp_path_factory.mktemp("skipped"))
    write_text(project.folder / "data/raw")
    project.make_records()
    return project


@pytest.fixture(autouse=True)
def no_earlier_run(project):
    shutil.rmtree(project.folder / ".scratch/pretrain", ignore_errors=True)


def broken(steps: set[int], model: str) -> tuple[str, ...]:
    code = BROKEN.format(steps=", ".join(map(str, sorted(steps))))
    return (sys.executable, "-c", code, *training(model)[3:])


def checkpoints(project: Project) -> list[Path]:
    return sorted((project.folder / ".scratch/pretrain").rglob("step-*/arrays.safetensors"))


def assert_all_finite(path: Path) -> None:
    for name, values in load_file(path).items():
        # The lowest dev loss so far is infinite before the first evaluation.
        assert np.isfinite(values).all() or name == "best/loss", (path, name)


def logged(project: Project, name: str) -> dict[int, float]:
    lines = (project.folder / f"results/pretrain/main/curves/{name}.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:]]
    return {int(step): float(value) for step, value in rows}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_broken_step_is_skipped_and_counted(project, precision):
    step = random.SystemRandom().randint(1, 40)
    project.set({"pretrain": {"precision": precision}})
    try:
        output = project.run(*broken({step}, f"models/{precision}"))
    finally:
        project.set({"pretrain": {"precision": "float32"}})
    assert ", skipped steps: 1 -> " in output
    metrics = read_metrics(project.folder / "results/pretrain/main/metrics.json")
    assert metrics["skipped_steps"] == 1
    skipped = logged(project, "skipped_steps")
    assert skipped[math.ceil(step / 10) * 10] == sum(skipped.values()) == 1
    for name in ("train/mlm_loss", "dev/mlm_loss", "gradient_norm"):
        assert all(map(math.isfinite, logged(project, name).values())), name
    assert_all_finite(project.folder / f"models/{precision}/model.safetensors")


def test_a_run_with_broken_steps_ends_the_same_if_it_is_stopped_meanwhile(project):
    steps = {7, 19, 20, 21, 33}
    project.run(*broken(steps, "models/whole"))
    results = project.folder / "results/pretrain/main"
    whole = read_metrics(results / "metrics.json")
    assert whole["skipped_steps"] == 5
    shutil.rmtree(project.folder / ".scratch/pretrain")
    process = project.start(*broken(steps, "models/stopped"))
    while process.poll() is None and not checkpoints(project):
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert "resuming from step" in project.run(*broken(steps, "models/stopped"))
    assert read_metrics(results / "metrics.json") == whole
    one, other = (
        (project.folder / name / "model.safetensors").read_bytes()
        for name in ("models/whole", "models/stopped")
    )
    assert one == other


def test_a_run_in_which_nothing_is_finite_any_more_stops_the_same_way_again(project):
    command = broken(set(range(15, 41)), "models/none")
    for _ in range(2):
        last = project.run(*command, code=1).splitlines()[-1]
        assert re.search(
            r"error: step 24: .* in the last 10 steps, which were skipped; lower", last
        )
        assert last.endswith("the newest checkpoint, with finite weights, is of step 20")
        for path in checkpoints(project):
            assert_all_finite(path)
    assert not (project.folder / "models/none").exists()


@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_a_run_that_diverges_leaves_nothing_that_is_not_finite(project, rate):
    project.set({"pretrain": {"learning_rate": rate}})
    try:
        last = project.run(*training("models/diverged"), code=1).splitlines()[-1]
    finally:
        project.set({"pretrain": {"learning_rate": 2e-3}})
    assert "error: " in last and "diverged" in last and "learning_rate" in last
    for path in checkpoints(project):
        assert_all_finite(path)
    for path in (project.folder / ".scratch/pretrain").rglob("model.safetensors"):
        assert_all_finite(path)
    assert not (project.folder / "models/diverged").exists()
