"""Recipes at tiny scale, from raw text to a model that transformers loads."""

import csv
import io
import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lib.checkpoints.huggingface import read_model
from lib.commands.recipe import apply_recipe, find_recipe
from lib.commands.tiny_scale import TINY_BASE
from lib.params import load_params
from lib.samples.recipe_text import write_recipe_text
from lib.vocab.directory import read_directory
from tests.helpers.project import Project
from tests.helpers.recipes import PUBLISHED

pytestmark = pytest.mark.slow

_MAX_SECONDS = 600


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """The model that `make tiny-base` copies to models/base/tiny."""
    project = Project(tmp_path_factory.mktemp("smoke"), {})
    apply_recipe(find_recipe("smoke"), project.folder / "params.yaml")
    project.run("dvc", "repro", timeout=_MAX_SECONDS)
    return project.folder / "models/main"


def prepare(project: Project, name: str, sentences: int, base: Path | None) -> None:
    """Does what `make recipe NAME=… SCALE=tiny` and `make recipe-text NAME=…` do."""
    apply_recipe(find_recipe(name), project.folder / "params.yaml", "tiny")
    if not (project.folder / "data/raw").exists():
        write_recipe_text(name, project.folder / "data/raw", sentences)
        project.run("dvc", "add", "-q", "data/raw")
    target = project.folder / TINY_BASE
    if base and not target.exists():
        shutil.copytree(base, target)
        project.run("dvc", "add", "-q", TINY_BASE)


def check(project: Project) -> None:
    """The trained model is the recipe's, and loads here and in transformers."""
    params = load_params(project.folder / "params.yaml")
    model = project.folder / "models" / params.evaluate.phase
    config, weights = read_model(model)
    vocabulary = read_directory(model).vocabulary
    assert len(vocabulary) == config.vocab_size and config.num_hidden_layers == 2
    assert all(np.isfinite(array).all() for array in weights.values())
    card = (model / "README.md").read_text(encoding="utf-8")
    assert f"language: {params.evaluate.language}" in card
    sentence = (project.folder / "data/shards/test/00000.txt").read_text(encoding="utf-8")
    sentence = sentence.split("\n")[0]
    try:
        import torch
        from transformers import AutoModelForMaskedLM, AutoTokenizer
    except ImportError:
        return
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert len(tokenizer) == config.vocab_size
    batch = tokenizer(sentence, return_tensors="pt", truncation=True, max_length=64)
    ids = batch["input_ids"][0].tolist()
    assert len(ids) > 4 and ids.count(tokenizer.unk_token_id) < len(ids) / 10
    with torch.no_grad():
        logits = AutoModelForMaskedLM.from_pretrained(model)(**batch).logits
    assert logits.shape == (1, len(ids), config.vocab_size) and logits.isfinite().all()


def test_the_smoke_model_is_better_than_the_unigram_baseline(base):
    path = base.parents[1] / "results/evaluate/metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    assert metrics["bits_per_character"] < metrics["bits_per_character_unigram"] - 0.1


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_runs_at_tiny_scale(tmp_path, name, base, capsys):
    project = Project(tmp_path, {})
    started = time.monotonic()
    prepare(project, name, 6000, base)
    project.run("dvc", "repro", timeout=_MAX_SECONDS)
    seconds = time.monotonic() - started
    check(project)
    with capsys.disabled():
        print(f"\n{name} at tiny scale: {seconds:.0f} s", end=" ")
    assert seconds < _MAX_SECONDS


def test_two_recipes_can_be_compared_as_experiments(tmp_path, base):
    project = Project(tmp_path, {})
    project.run("git", "init", "-q")
    project.run("git", "config", "user.name", "x")
    project.run("git", "config", "user.email", "x@y")
    # The copy is set up for DVC without git; this test needs git.
    project.run("dvc", "config", "--unset", "core.no_scm")
    write_recipe_text("hf-guide", project.folder / "data/raw", 1500)
    shutil.copytree(base, project.folder / TINY_BASE)
    project.run("dvc", "add", "-q", "data/raw", TINY_BASE)
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "text")
    names = [name for name in ("budget-24h", "hf-guide") if name in PUBLISHED]
    for name in names:
        project.run(sys.executable, "-m", "lib.commands.recipe", name, "--scale", "tiny")
        project.run("dvc", "exp", "run", "-n", f"try-{name}", timeout=_MAX_SECONDS)
    shown = project.run("dvc", "exp", "show", "--csv")
    rows = {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown))}
    losses = {rows[f"try-{name}"]["mlm_loss"] for name in names}
    assert len(losses) == len(names) and "" not in losses
    for name in names:
        row = rows[f"try-{name}"]
        assert row["vocab.source"] == ("model" if name == "hf-guide" else "sentencepiece")
    project.run("git", "checkout", "-q", "params.yaml")
    assert project.run("git", "status", "--porcelain", "params.yaml") == ""
