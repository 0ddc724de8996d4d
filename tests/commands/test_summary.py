"""The summary of a run."""

import json
from pathlib import Path

import pytest
import yaml

from lib.commands.summary import summary
from lib.report.outdated import OUTDATED
from lib.run.errors import UserError

FIT = {"tokens_per_word": 1.2, "unknown_character_fraction": 0.01}
RESULTS = {
    "preprocess": {
        "files": 3,
        "documents": 940,
        "sentences": 4000,
        "characters": 100000,
        "documents_duplicate": 57,
    },
    "split": {"dev": {"documents": 15}, "test": {"documents": 25}},
    "vocab": {"size": 300, "heldout": FIT},
    "records/main": {"train": {"examples": 9000, "fill": 0.98}},
    "pretrain/main": {"parameters": 1234567, "steps": 30, "epochs": 0.5},
    "evaluate": {
        "bits_per_character": 3.0,
        "bits_per_character_unigram": 2.9,
        "mlm_accuracy": 0.5,
        "mlm_accuracy_top_token": 0.0625,
        "documents": 25,
        "words": 4321,
    },
}


@pytest.fixture
def project(tmp_path, values) -> Path:
    for stage, metrics in RESULTS.items():
        write(tmp_path, stage, metrics)
    example = {"sentence": "a ____", "word": "b", "guesses": ["c"], "probabilities": [0.25]}
    (tmp_path / "results/evaluate/fill_mask.json").write_text(json.dumps([example]))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def write(project: Path, stage: str, metrics: dict) -> None:
    folder = project / "results" / stage
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))


def words(project: Path) -> list[str]:
    """The lines of the summary with single spaces."""
    return [" ".join(line.split()) for line in summary(project).splitlines()]


def test_metrics_are_shown_with_their_baselines(project):
    lines = words(project)
    assert "Trained 1,234,567 parameters, 30 steps, 0.5 epochs" in lines
    assert "Evaluated on 4,321 masked words of 25 test documents" in lines
    assert "MLM accuracy 50.0% 6.2% most frequent token" in lines
    assert "masked: b predicted: c 25%" in lines


def test_a_model_that_does_not_beat_a_baseline_is_called_so(project):
    lines = words(project)
    assert "bits per character 3.000 2.900 unigram baseline (not beaten)" in lines
    assert any(
        "does not beat every baseline. This is expected after 30 steps, as in the smoke run" in line
        for line in lines
    )
    write(project, "pretrain/main", RESULTS["pretrain/main"] | {"steps": 100_000})
    assert any("every baseline. Train for more steps" in line for line in words(project))
    write(project, "evaluate", RESULTS["evaluate"] | {"bits_per_character": 2.0})
    assert not any("every baseline" in line for line in words(project))


def test_the_initial_model_has_a_column(project):
    metrics = {"bits_per_character_initial": 2.5, "mlm_accuracy_initial": 0.4}
    write(project, "evaluate", RESULTS["evaluate"] | metrics)
    lines = words(project)
    assert "model initial model baseline" in lines
    assert "MLM accuracy 50.0% 40.0% 6.2% most frequent token" in lines


def test_outdated_stages_are_marked(project):
    (project / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"evaluate": {"cmd": "c", "deps": ["data/vocab"]}}})
    )
    lock = {"stages": {"evaluate": {"params": {"params.yaml": {"vocab.size": -1}}}}}
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    lines = words(project)
    assert f"Evaluated {OUTDATED}; run dvc repro" in lines
    assert not any("bits per character" in line or "masked" in line for line in lines)
    assert (
        "Vocabulary 300 entries; in held-out text 1.20 tokens per word, 1.00% of characters "
        "under [UNK]" in (lines)
    )


def test_a_stage_that_has_not_run_is_marked(project):
    (project / "results/pretrain/main/metrics.json").unlink()
    assert "Trained has not run yet; run dvc repro" in words(project)
    assert "The model is in" not in summary(project)


def test_a_project_in_which_nothing_has_run_is_an_error(project):
    (project / "results/preprocess/metrics.json").unlink()
    with pytest.raises(UserError, match=r"preprocess/metrics\.json: no such file; .* dvc repro"):
        summary(project)
