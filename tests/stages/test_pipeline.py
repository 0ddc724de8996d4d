"""The real pipeline on a small corpus: dvc repro, what reruns, killed training."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from lib.checkpoints.huggingface import read_model
from lib.run import fingerprint
from lib.vocab.directory import read_directory
from tests.helpers.project import Project, training, write_text

STAGES = [
    "check",
    "preprocess",
    "sample5M",
    "split",
    "vocab",
    "records@main",
    "pretrain@main",
    "evaluate",
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project after its first `dvc repro`."""
    project = Project(tmp_path_factory.mktemp("pipeline"))
    write_text(project.folder / "data/raw")
    project.run("dvc", "add", "-q", "data/raw")
    output = project.run("dvc", "repro")
    assert [stage for stage in STAGES if f"Running stage '{stage}'" not in output] == []
    return project


def rerun(project: Project) -> list[str]:
    """The stages that `dvc repro` runs, without `check`, which every change of params.yaml runs."""
    return [stage for stage in project.stages_run() if stage != "check"]


def test_everything_promised_is_there(finished):
    model = finished.folder / "models/main"
    assert sorted(path.name for path in model.iterdir() if not path.name.startswith(".")) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ]
    metrics = json.loads((finished.folder / "results/evaluate/metrics.json").read_text())
    assert metrics["mlm_loss"] > 0 and 0 <= metrics["mlm_accuracy"] <= 1
    assert metrics["mlm_perplexity"] == pytest.approx(2.718281828 ** metrics["mlm_loss"], rel=1e-4)
    low, high = metrics["intervals"]["bits_per_character"]
    assert 0 < low < metrics["bits_per_character"] < high
    assert metrics["mlm_accuracy"] <= metrics["mlm_accuracy_at_5"] <= 1
    assert "mlm_loss_initial" not in metrics  # It started from scratch.
    for name in (
        "by_frequency",
        "by_position",
        "by_length",
        "by_token_type",
        "nsp_confusion",
        "models",
    ):
        for kind in ("csv", "svg"):
            path = finished.folder / f"results/evaluate/{name}.{kind}"
            assert path.read_text().count("\n") > 1, path
    text = json.loads((finished.folder / "results/preprocess/metrics.json").read_text())
    assert (text["files"], text["documents"], text["sentences"]) == (2, 240, 960)
    summary = finished.run("python", "-m", "lib.commands.summary")
    assert "models/main" in summary and "masked:" in summary
    # No leftover of an unfinished write; of the finished run, its last checkpoint.
    assert not list(finished.folder.rglob(".*.tmp-*"))
    (last,) = (finished.folder / ".scratch/pretrain").rglob("arrays.safetensors")
    assert last.parent.parent.name == "finished"


def test_evaluate_leaves_the_report_of_the_whole_run(finished):
    report = finished.folder / "results/report.html"
    text = report.read_text(encoding="utf-8")
    assert "has not run yet" not in text
    # Written last of all: what evaluate took is in it.
    assert "evaluate" in text
    assert finished.run("python", "-m", "lib.commands.report") == "report: results/report.html\n"
    assert report.read_text(encoding="utf-8") == text


def test_nothing_runs_twice(finished):
    assert rerun(finished) == []
    assert "up to date" in finished.run("dvc", "status", *STAGES)


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        pytest.param(
            {"records": {"dupe_factor": 2}},
            ["evaluate", "pretrain@main", "records@main"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"phases": {"main": {"masked_lm_prob": 0.3}}},
            ["evaluate", "pretrain@main", "records@main"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"pretrain": {"learning_rate": "2e-5"}},
            ["evaluate", "pretrain@main"],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"vocab": {"size": 250}},
            ["evaluate", "pretrain@main", "records@main", "vocab"],
            marks=pytest.mark.slow,
        ),
        (
            {
                "cluster": {"workers": 1},
                "pretrain": {"checkpoint_every": 7, "checkpoint_dir": "gs://elsewhere/runs"},
            },
            [],
        ),
        pytest.param(
            {
                "phases": {"long": {"max_seq_length": 48, "init": "models/main"}},
                "evaluate": {"phase": "long"},
            },
            ["evaluate", "pretrain@long", "records@long"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_change_reruns_only_what_it_touches(finished, changes, stages):
    params = finished.folder / "params.yaml"
    before = params.read_text()
    try:
        finished.set(changes)
        assert rerun(finished) == stages
    finally:
        params.write_text(before)
        if stages:  # Its own results come back from the run cache.
            assert rerun(finished) == []


def test_a_change_of_training_leaves_text_and_records_as_they_are(finished):
    params = finished.folder / "params.yaml"
    before = params.read_text()
    try:
        finished.set({"pretrain": {"learning_rate": "2e-5"}})
        status = json.loads(finished.run("dvc", "status", "--json", *STAGES))
    finally:
        params.write_text(before)
    # `check` reads all parameters.
    assert set(status) == {"check", "pretrain@main", "evaluate"}


def test_models_of_chosen_steps_and_the_best_are_kept(finished):
    kept = finished.folder / "models/saved/main"
    assert sorted(path.name for path in kept.iterdir()) == ["best", "step-20", "step-40"]
    last = fingerprint.of_file(finished.folder / "models/main/model.safetensors")
    assert fingerprint.of_file(kept / "step-40/model.safetensors") == last
    assert fingerprint.of_file(kept / "step-20/model.safetensors") != last
    logged = finished.folder / "results/pretrain/main/curves/dev/mlm_loss.tsv"
    heading, *lines = logged.read_text().splitlines()
    assert heading.split() == ["step", "mlm_loss"]
    losses = {int(step): float(loss) for step, loss in (line.split() for line in lines)}
    metrics = json.loads((finished.folder / "results/pretrain/main/metrics.json").read_text())
    best = min(losses, key=losses.__getitem__)
    assert metrics["best_step"] == best
    assert metrics["best_dev_mlm_loss"] == pytest.approx(losses[best], rel=1e-4)
    assert fingerprint.of_path(kept / "best") == fingerprint.of_path(kept / f"step-{best}")
    # Whole directories: what reads models reads them.
    config, weights = read_model(kept / "step-20")
    assert len(read_directory(kept / "step-20").vocabulary) == config.vocab_size
    assert all(np.isfinite(array).all() for array in weights.values())


@pytest.mark.slow
def test_words_added_to_a_models_vocabulary_start_as_the_mean_of_their_tokens(finished):
    params = finished.folder / "params.yaml"
    before = params.read_text()
    base = finished.folder / "models/base"
    shutil.copytree(finished.folder / "models/main", base)
    old = load_file(base / "model.safetensors")
    entries = len(old["bert.embeddings.word_embeddings.weight"])
    try:
        finished.set(
            {
                # Words that occur three times are tokens of the base already.
                "vocab": {
                    "source": "extend",
                    "base": "models/base",
                    "size": entries + 6,
                    "min_frequency": 2,
                },
                # Such a small step that the weights stay practically the initial ones.
                "phases": {
                    "main": {
                        "init": "models/base",
                        "steps": 1,
                        "warmup_steps": 0,
                        "learning_rate": 1e-12,
                    }
                },
            }
        )
        assert rerun(finished) == ["evaluate", "pretrain@main", "records@main", "vocab"]
        extension = json.loads((finished.folder / "data/vocab/extension.json").read_text())
        assert len(extension["new_tokens"]) == 6
        tokens = (base / "vocab.txt").read_text(encoding="utf-8").split("\n")[:entries]
        extended = (finished.folder / "models/main/vocab.txt").read_text(encoding="utf-8")
        assert extended.split("\n")[entries:-1] == [
            token["token"] for token in extension["new_tokens"] if token["id"] >= entries
        ]
        new = load_file(finished.folder / "models/main/model.safetensors")
        fresh = [token["id"] for token in extension["new_tokens"]]
        kept = np.setdiff1d(np.arange(entries), fresh)
        for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
            np.testing.assert_allclose(new[name][kept], old[name][kept], atol=1e-9)
            for token in extension["new_tokens"]:
                assert token["token"] == "".join(
                    tokens[number].removeprefix("##") for number in token["base_ids"]
                )
                mean = np.mean([old[name][number] for number in token["base_ids"]], axis=0)
                mean += token["log_fraction"] if "bias" in name else 0
                np.testing.assert_allclose(new[name][token["id"]], mean, atol=1e-6)
        # The initial model, with its new embeddings, is a baseline: after such a small step the two
        # models are equal. Alone it must get the same metrics as next to the trained model.
        path = finished.folder / "results/evaluate/metrics.json"
        together = json.loads(path.read_text())
        start = "models/saved/main/initial"
        finished.stage("evaluate", "main", start, "data/shards/test", "data/vocab")
        alone = json.loads(path.read_text())
        (finished.folder / start / "README.md").unlink()
        for measure in ("mlm_loss", "bits_per_character", "mlm_accuracy_at_5", "nsp_loss"):
            assert together[f"{measure}_initial"] == alone[measure], measure
            assert together[measure] == pytest.approx(alone[measure], rel=1e-3), measure
    finally:
        params.write_text(before)
        assert rerun(finished) == []
        shutil.rmtree(base)


@pytest.mark.slow
def test_packed_and_dynamically_masked_records_train_a_model_that_can_be_evaluated(
    finished, tmp_path
):
    project = Project(tmp_path)
    for name in ("shards", "vocab"):
        shutil.copytree(finished.folder / "data" / name, tmp_path / "data" / name)
    shutil.copytree(finished.folder / "results", tmp_path / "results")  # For the model card.
    # Short examples in long rows, so that a row holds several.
    changes = {"packing": True, "masking": "dynamic", "whole_word_mask": True, "short_seq_prob": 1}
    sizes = {"model": {"max_position_embeddings": 128}}
    project.set(
        {"records": changes, "phases": {"main": {"max_seq_length": 128}}, "pretrain": sizes}
    )
    project.stage("records", "main", "data/shards", "data/vocab", "data/records/main")
    split = json.loads((tmp_path / "data/records/main/manifest.json").read_text())["splits"]
    assert split["train"]["masking"] == "dynamic" and split["dev"]["masking"] == "static"
    project.run(*training("models/main"))
    metrics = json.loads((tmp_path / "results/pretrain/main/metrics.json").read_text())
    # 40 steps of 4 rows, with more than one example in a row.
    assert metrics["epochs"] == pytest.approx(160 / split["train"]["sequences"], rel=1e-4)
    assert metrics["examples_seen"] > 200
    assert metrics["train_mlm_loss"] > 0 and metrics["dev_mlm_loss"] > 0
    assert metrics["dev_nsp_loss"] > 0
    # As with external examples, evaluate goes by what the model was trained on.
    project.set({"records": {"next_sentence": False}})
    project.stage("evaluate", "main", "models/main", "data/shards/test", "data/vocab")
    metrics = json.loads((tmp_path / "results/evaluate/metrics.json").read_text())
    assert metrics["mlm_loss"] > 0 and metrics["nsp_loss"] > 0
    assert "NSP head was not trained" not in (tmp_path / "models/main/README.md").read_text()


def test_training_that_is_killed_ends_the_same(finished, tmp_path):
    project = Project(tmp_path)
    for name in ("vocab", "records"):
        shutil.copytree(finished.folder / "data" / name, tmp_path / "data" / name)
    # The interval of checkpoints must not change the result.
    project.set({"pretrain": {"checkpoint_every": 1}})
    process = project.start(*training("models/killed"))
    deadline = time.monotonic() + 120
    while not list((tmp_path / ".scratch/pretrain/main").glob("[!.]*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "models/killed").exists()
    assert "resuming from step" in project.run(*training("models/killed"))
    weights = (
        folder / "model.safetensors"
        for folder in (tmp_path / "models/killed", finished.folder / "models/main")
    )
    one, two = (fingerprint.of_file(path) for path in weights)
    assert one == two
    curves = "results/pretrain/main/curves/train/mlm_loss.tsv"
    assert (tmp_path / curves).read_bytes() == (finished.folder / curves).read_bytes()


@pytest.mark.parametrize("shell", ["bash", pytest.param("sh", marks=pytest.mark.slow)])
def test_killing_dvc_leaves_no_trainer_behind(finished, shell, monkeypatch):
    # dvc runs commands through it; some shells stay alive between dvc and the trainer.
    monkeypatch.setitem(finished.environment, "SHELL", shutil.which(shell))
    params = finished.folder / "params.yaml"
    before = params.read_text()
    try:
        finished.set({"pretrain": {"steps": 100_000}})
        process = finished.start("dvc", "repro", "pretrain@main")
        deadline = time.monotonic() + 120
        while not (trainers := finished.processes("stages.pretrain")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        time.sleep(1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 20
        while set(trainers) & set(finished.processes("stages.pretrain")):
            assert time.monotonic() < deadline, "the trainer outlived dvc"
            time.sleep(0.1)
    finally:
        params.write_text(before)
        for pid in finished.processes("stages.pretrain"):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "data/raw"), "no folder data/raw"),
        (
            lambda folder: [path.unlink() for path in (folder / "data/raw").iterdir()],
            "no files to read in",
        ),
        (
            lambda folder: [path.write_bytes(b" \n") for path in (folder / "data/raw").iterdir()],
            "no text left after cleaning",
        ),
        (
            lambda folder: [
                path.write_text("One. Two.\nThree.\n") for path in (folder / "data/raw").iterdir()
            ],
            "all of it is one document",
        ),
        (
            lambda folder: (folder / "data/raw/one.txt").write_bytes(b"caf\xe9 au lait\n"),
            "not UTF-8",
        ),
    ],
)
def test_input_that_cannot_be_used_gives_one_line(tmp_path, break_it, message):
    project = Project(tmp_path)
    write_text(project.folder / "data/raw")
    break_it(project.folder)
    output = project.stage("preprocess", "data/raw", "data/corpus", code=1)
    error = output.splitlines()[-1]
    assert message in error and error.startswith("preprocess: error: ")
    # Before it at most what it reads: no traceback.
    before = ("preprocess: reading", "preprocess: splits")
    assert all(line.startswith(before) for line in output.splitlines()[:-1])
    assert not (project.folder / "data/corpus").exists()
    assert not list((project.folder / "data").glob(".*tmp*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"records": {"dupe_factor": 0}}, "records.dupe_factor: "),
        ({"records": {"masked_lm_prob": 2}}, "records.masked_lm_prob: "),
        ({"records": {"colour": 1}}, "records.colour: unknown key"),
        ({"phases": {"main": {"max_seq_length": 4096}}}, "phases.main.max_seq_length: "),
    ],
)
def test_wrong_params_stop_any_stage(tmp_path, changes, message):
    project = Project(tmp_path)
    write_text(project.folder / "data/raw")
    project.set(changes)
    output = project.stage("preprocess", "data/raw", "data/corpus", code=1)
    assert message in output and output.count("\n") == 1
    assert not (project.folder / "data/corpus").exists()


@pytest.mark.parametrize("workers", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_outputs_do_not_depend_on_the_number_of_workers(finished, workers):
    params = finished.folder / "params.yaml"
    before = params.read_text()
    try:
        finished.set({"cluster": {"workers": workers}})
        shutil.rmtree(finished.folder / ".scratch/cleaned")
        finished.stage("preprocess", "data/raw", "other/corpus")
        finished.stage("split", "other/corpus", "other/shards")
        finished.stage("records", "main", "other/shards", "data/vocab", "other/records")
    finally:
        params.write_text(before)
    for name in ("corpus", "shards"):
        assert fingerprint.of_path(finished.folder / "other" / name) == fingerprint.of_path(
            finished.folder / "data" / name
        )
    assert fingerprint.of_path(finished.folder / "other/records") == fingerprint.of_path(
        finished.folder / "data/records/main"
    )
    assert len(list((finished.folder / "data/records/main/train").iterdir())) > 1
