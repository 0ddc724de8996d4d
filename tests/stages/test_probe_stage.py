"""The probe as a stage: DVC runs the tasks in params.yaml, and only on request."""

import csv
import json
import re
import shutil

import pytest

from lib.checkpoints.huggingface import write_model
from lib.model.initialization import initial_values
from lib.probe.runs import FACTORS
from lib.vocab.export import write_tokenizer
from tests.helpers.labelled import (
    CLASSIFICATION,
    CONFIG,
    TOKENIZER,
    learnable_examples,
    write_texts,
)
from tests.helpers.project import Project

TASK = CLASSIFICATION.model_dump() | {
    "data": "data/labelled/colours",
    "model": "models/own",
    "baseline": "models/other",
    "epochs": 2,
    "max_seq_length": 12,
}


def write_model_folder(folder, seed: int) -> None:
    folder.mkdir(parents=True)
    write_tokenizer(folder, TOKENIZER.vocabulary, True, True, 16)
    write_model(folder, CONFIG, initial_values(CONFIG, seed), {"pad_token_id": TOKENIZER.pad_id})


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with labelled text and two models, but without text to pretrain on."""
    project = Project(tmp_path_factory.mktemp("probe"))
    for name, count in (("train", 48), ("test", 24)):
        examples = learnable_examples("classification", count, count)
        texts = [(*example.words, *example.labels) for example in examples]
        write_texts(project.folder / TASK["data"] / f"{name}.csv", texts)
    write_model_folder(project.folder / "models/own", 1)
    write_model_folder(project.folder / "models/other", 2)
    return project


def test_without_a_task_there_is_no_stage(project):
    listed = project.run("dvc", "stage", "list", "--all", "--name-only").split()
    assert "evaluate" in listed and not [name for name in listed if "probe" in name]
    output = project.run("dvc", "repro", "--dry", "probe/dvc.yaml:probe@colours", code=None)
    assert "'probe@colours' not found" in output


@pytest.mark.slow
def test_a_task_runs_once_and_writes_its_results(project):
    project.set({"probe": {"tasks": {"colours": TASK}}})
    assert "probe" not in project.run("dvc", "stage", "list", "--name-only")
    output = project.run("dvc", "repro", "probe/dvc.yaml:probe@colours")
    assert "F1 of labels, mean ± standard deviation over 2 seeds" in output
    assert re.search(r"^baseline +\d\.\d{3} ± \d\.\d{3}", output, re.MULTILINE)
    results = project.folder / "results/probe/colours"
    metrics = json.loads((results / "metrics.json").read_text())
    assert (metrics["train_examples"], metrics["test_examples"], metrics["classes"]) == (48, 24, 3)
    with (results / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert [(run["model"], run["seed"]) for run in runs] == [
        *((name, seed) for name in ("model", "baseline", "untrained") for seed in "12"),
        ("bag_of_words", "0"),
    ]
    own = [float(run["f1_macro"]) for run in runs[:2]]
    assert metrics["model"]["f1_macro"] == pytest.approx(sum(own) / 2, rel=1e-4)
    assert metrics["model"]["f1_macro_sd"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5, rel=1e-3)
    # A colour decides, after too few steps for the networks.
    assert metrics["bag_of_words"]["f1_macro"] == 1.0 > metrics["model"]["f1_macro"]
    assert metrics["bag_of_words"]["f1_macro_sd"] is None and not runs[-1]["train_loss"]
    assert f"bag_of_words: {metrics['bag_of_words']['chosen']}" in output
    assert re.search("without pretraining,.* bag_of_words had an F1 at least as high", output)
    rate = metrics["untrained"]["learning_rate"]
    assert rate / TASK["learning_rate"] in [pytest.approx(x) for x in FACTORS]
    # models/own has the weights that the first untrained run draws, those of seed 1.
    same_rate = rate == TASK["learning_rate"]
    assert (runs[0]["train_loss"] == runs[4]["train_loss"]) is same_rate
    # The model card is not a dependency of the stage.
    (project.folder / "models/own/README.md").write_text("About it.")
    assert "Running stage" not in project.run("dvc", "repro", "probe/dvc.yaml:probe@colours")
    shown = project.run("dvc", "metrics", "show", "--json", "results/probe/colours/metrics.json")
    # DVC leaves out what has no value: standard deviations of a baseline without seeds.
    without = {name: value for name, value in metrics["bag_of_words"].items() if value is not None}
    expected = metrics | {"bag_of_words": without}
    assert json.loads(shown)[""]["data"]["results/probe/colours/metrics.json"]["data"] == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_seq_length": 17}, "models/own: has 16 positions, but max_seq_length"),
        ({"baseline": "models/none"}, "models/none"),
    ],
)
def test_a_task_that_cannot_run_is_refused_in_one_line(project, changes, message):
    task = TASK | changes
    project.set({"probe": {"tasks": {"colours": task}}})
    output = project.stage(
        "probe", "colours", *(task[x] for x in ("data", "model", "baseline")), code=1
    )
    assert message in output.splitlines()[-1] and "Traceback" not in output


@pytest.mark.slow
def test_tagging_without_a_baseline(project):
    lines = [
        "".join(f"{word}\t{tag}\n" for word, tag in zip(x.words, x.labels, strict=True))
        for x in learnable_examples("tagging", 60, 1)
    ]
    path = project.folder / "data/labelled/towns.conll"
    path.write_text("\n".join(lines))
    task = TASK | {"kind": "tagging", "text_field": 1, "label_field": 2, "epochs": 1}
    task |= {"data": "data/labelled/towns.conll", "baseline": "data/vocab", "seeds": 1}
    project.set({"probe": {"tasks": {"towns": task}}})
    output = project.stage("probe", "towns", *(task[x] for x in ("data", "model", "baseline")))
    assert (
        "no test file: 20% of the examples, chosen by hash" in output and "F1 of entities" in output
    )
    metrics = json.loads((project.folder / "results/probe/towns/metrics.json").read_text())
    assert "baseline" not in metrics and metrics["model"]["f1_micro_sd"] is None
    # Every word has one tag, and is in both parts.
    assert metrics["word_features"]["f1_micro"] == metrics["most_frequent_tag"]["f1_micro"] == 1.0
    # With so few words there are equal sentences, but they are all in the same part.
    assert metrics["test_examples_also_in_training"] == 0 < metrics["test_examples"]
    shutil.rmtree(project.folder / "results/probe/towns")


@pytest.mark.slow
def test_the_mean_of_tokens_is_for_models_that_transformers_classifies_by_it(project):
    task = {**TASK, "pooling": "mean"}
    project.set({"probe": {"tasks": {"colours": task}}})
    output = project.stage("probe", "colours", code=1)
    problem = "probe.tasks.colours.pooling: should be cls for models/own, a BERT. Received: 'mean'"
    assert problem in output.splitlines()[-1]
