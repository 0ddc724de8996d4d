"""The pipeline with a ModernBERT: two phases, of which the second has longer sequences; a kill."""

import json
import shutil
import signal
import time

import pytest

from lib.checkpoints.huggingface import read_model
from tests.helpers.project import Project, training, write_text

MODEL = {
    "architecture": "modernbert",
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    # Sequences of 32 tokens are computed with a mask, those of 64 in bands.
    "local_attention": 16,
    "global_attn_every_n_layers": 2,
    "max_position_embeddings": 32,
    "attention_probs_dropout_prob": 0.1,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("modernbert"))
    write_text(project.folder / "data/raw")
    project.set(
        {
            "records": {"next_sentence": False, "packing": True, "masking": "dynamic"},
            "phases": {"long": {"max_seq_length": 64, "init": "models/main", "steps": 20}},
            "pretrain": {"model": MODEL, "optimizer": "muon", "learning_rate": 4e-3},
            "evaluate": {"phase": "long", "saved_models": True, "lengths": [32]},
        }
    )
    project.run("dvc", "add", "-q", "data/raw")
    return project


@pytest.mark.slow
def test_two_phases_are_trained_and_evaluated(project):
    project.run("dvc", "repro", timeout=600)
    for phase, positions in (("main", 32), ("long", 64)):
        config, _ = read_model(project.folder / "models" / phase)
        assert (config.architecture, config.max_position_embeddings) == ("modernbert", positions)
        assert config.local_attention == 16 and config.mlp_dropout == 0.1
        results = json.loads(
            (project.folder / f"results/pretrain/{phase}/metrics.json").read_text()
        )
        assert results["dev_mlm_loss"] > 0
    metrics = json.loads((project.folder / "results/evaluate/metrics.json").read_text())
    assert metrics["bits_per_character"] > 0 and 0 <= metrics["mlm_accuracy"] <= 1
    # The second phase starts from the first one's model, at its loss and not that of chance.
    assert metrics["mlm_loss"] <= metrics["mlm_loss_initial"] + 0.05
    assert "nsp_accuracy" not in metrics
    models = (project.folder / "results/evaluate/models.csv").read_text()
    assert models.count("\n") > 2
    card = (project.folder / "models/long/README.md").read_text()
    assert "ModernBERT" in card


@pytest.mark.slow
def test_killed_training_resumes_to_the_same_bits(project):
    if not (project.folder / "data/records/main").exists():
        project.make_records()
    project.set({"pretrain": {"steps": 60, "checkpoint_every": 1_000_000}})
    project.run(*training("models/undisturbed"))
    shutil.rmtree(project.folder / ".scratch/pretrain", ignore_errors=True)
    project.set({"pretrain": {"checkpoint_every": 1}})
    process = project.start(*training("models/killed"))
    deadline = time.monotonic() + 120
    while not list((project.folder / ".scratch/pretrain/main").glob("[!.]*-*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert "resuming from step" in project.run(*training("models/killed"))
    whole, resumed = (
        (project.folder / f"models/{name}/model.safetensors").read_bytes()
        for name in ("undisturbed", "killed")
    )
    assert resumed == whole


@pytest.mark.slow
def test_sentence_pairs_are_refused_before_any_stage(project):
    project.set({"records": {"next_sentence": True}})
    output = project.run("dvc", "repro", code=None)
    assert "records.next_sentence: should be false for phases.main" in output
    project.set({"records": {"next_sentence": False}})
