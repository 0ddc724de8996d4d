"""Named inputs from raw text to evaluation: read in their own ways, mixed, evaluated by name."""

import csv
import json
import random
import re
import signal
import time
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from lib.text.documents import read_corpus
from tests.helpers.project import Project, sentences, training, write_text

INPUTS = {
    "notes": {"document": "line", "clean": {"urls": "replace"}},
    "tables": {"text_field": ["title", "body"]},
    "wiki": None,
}
ASKED = {"notes": 0.5, "tables": 0.25, "wiki": 0.25}


def write_inputs(project: Project, documents: int = 60) -> None:
    """Three inputs of different kinds, and text to evaluate on only."""
    raw = project.folder / "data/raw"
    write_text(raw / "wiki", documents)
    for name in ("notes", "tables"):
        (raw / name).mkdir(parents=True)
    texts = texts_of_three(documents, 5)
    notes = [f"{text} See https://a.b/{number}." for number, text in enumerate(texts)]
    (raw / "notes/n.txt").write_text("\n".join(notes) + "\n", encoding="utf-8")
    with (raw / "tables/t.csv").open("w", encoding="utf-8", newline="") as stream:
        texts = texts_of_three(documents, 6)
        rows = [(f"Title {number}.", text) for number, text in enumerate(texts)]
        csv.writer(stream).writerows([("title", "body"), *rows])
    # Two documents of the training text: what is evaluated only is not trained on.
    wiki = (raw / "wiki/one.txt").read_text(encoding="utf-8").split("\n\n")[:2]
    extra = project.folder / "data/extra"
    extra.mkdir(exist_ok=True)
    texts = [*wiki, *texts_of_three(20, 9)]
    (extra / "e.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def texts_of_three(count: int, seed: int) -> list[str]:
    """Texts of three sentences."""
    lines = sentences(3 * count, seed)
    return [" ".join(lines[start : start + 3]) for start in range(0, len(lines), 3)]


def make_project(folder: Path, inputs: dict = INPUTS) -> Project:
    project = Project(folder)
    write_inputs(project)
    project.set(
        {
            "preprocess": {"input": "data/raw", "inputs": inputs},
            "split": {"dev_fraction": 0.1, "test_fraction": 0.2},
            "pretrain": {"mixture": ASKED},
        }
    )
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """A project with records of three inputs; `output` is what preprocess printed."""
    project = make_project(tmp_path_factory.mktemp("inputs"))
    project.output = project.stage("preprocess")
    for stage in ("sample5M", "vocab", "split"):
        project.stage(stage)
    project.stage("records", "main")
    return project


def metrics(project: Project, stage: str) -> dict:
    return json.loads((project.folder / f"results/{stage}/metrics.json").read_bytes())


def texts_in(folder: Path) -> list[str]:
    return [text.decode() for path in sorted(folder.rglob("*.txt")) for text in read_corpus(path)]


def test_each_input_is_read_in_its_own_way(project):
    corpus = project.folder / "data/corpus/inputs"
    assert sorted(path.name for path in corpus.iterdir()) == ["extra", "notes", "tables", "wiki"]
    notes, tables = texts_in(corpus / "notes"), texts_in(corpus / "tables")
    assert len(notes) == len(tables) == 60
    assert all("See twitterurl" in text for text in notes)
    assert all(re.match(r"Title \d+\.\n", text) for text in tables)
    # What is evaluated only keeps its documents, and the training text loses them.
    extra, wiki = texts_in(corpus / "extra"), texts_in(corpus / "wiki")
    assert len(extra) == 22 and len(wiki) == 118 and not {*extra} & {*wiki}
    assert (corpus / "extra/test").is_dir()
    assert "preprocess: tables: reading 1 file: 1 as csv: tables/t.csv" in project.output
    kept = metrics(project, "preprocess")["inputs"]
    counts = {name: own["documents"] for name, own in kept.items()}
    assert counts == {"extra": 22, "notes": 60, "tables": 60, "wiki": 118}


def test_every_input_is_split_and_has_records_of_its_own(project):
    shards = project.folder / "data/shards"
    for name in INPUTS:
        parts = [texts_in(shards / split / name) for split in ("train", "dev", "test")]
        assert all(parts)
        whole = texts_in(project.folder / "data/corpus/inputs" / name)
        assert sorted(text for part in parts for text in part) == sorted(whole)
    assert not (shards / "train/extra").exists()
    assert len(texts_in(shards / "test/extra")) == 22
    records = project.folder / "data/records/main"
    for split in ("train", "dev", "test"):
        assert sorted(path.name for path in (records / split).iterdir()) == sorted(INPUTS)
    found = metrics(project, "records/main")
    assert sum(own["tokens"] for own in found["inputs"].values()) == found["train"]["tokens"]


def test_an_input_does_not_depend_on_the_others(project, tmp_path):
    alone = make_project(tmp_path, {"wiki": None})
    for name in ("notes", "tables"):
        (alone.folder / "data/raw" / name).rename(tmp_path / f"{name}-elsewhere")
    alone.stage("preprocess")
    alone.stage("split")
    for split in ("train", "dev", "test"):
        own, same = (each.folder / f"data/shards/{split}/wiki" for each in (alone, project))
        files = sorted(path.name for path in own.iterdir())
        assert files == sorted(path.name for path in same.iterdir())
        assert all((own / file).read_bytes() == (same / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({**INPUTS, "news": {}}, "preprocess.inputs: data/raw has no folder news; put the text"),
        ({"wiki": {}, "notes": {}}, "data/raw: tables: not of a named input; add `tables: {}`"),
    ],
)
def test_folders_and_names_have_to_fit(tmp_path, inputs, message):
    assert f"error: {message}" in make_project(tmp_path, inputs).stage("preprocess", code=1)


@pytest.mark.slow
def test_a_change_of_the_mixture_reruns_training_and_evaluation_only(tmp_path):
    project = make_project(tmp_path)
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "repro")
    seen = metrics(project, "pretrain/main")["inputs"]
    total = sum(own["sequences"] for own in seen.values())
    sizes = metrics(project, "records/main")["inputs"]
    tokens = {name: own["tokens"] / own["sequences"] for name, own in sizes.items()}
    whole = sum(ASKED[name] / tokens[name] for name in ASKED)
    for name, share in ASKED.items():
        assert abs(seen[name]["sequences"] - total * share / tokens[name] / whole) <= 1
    evaluated = metrics(project, "evaluate")
    named = evaluated["inputs"]
    assert sorted(named) == ["extra", "notes", "tables", "wiki"]
    # The metrics of the whole are of the text that is trained on.
    own = [each for name, each in named.items() if name != "extra"]
    assert evaluated["characters"] == sum(each["characters"] for each in own)
    bits = sum(each["bits_per_character"] * each["characters"] for each in own)
    assert evaluated["bits_per_character"] == pytest.approx(bits / evaluated["characters"], 1e-4)
    report = (project.folder / "results/report.html").read_text(encoding="utf-8")
    assert "Models by input" in report
    # Whole dicts are replaced, not merged.
    values = yaml.safe_load((project.folder / "params.yaml").read_text(encoding="utf-8"))
    values["pretrain"]["mixture"] = {"notes": 0, "tables": 0, "wiki": 1}
    (project.folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    assert project.stages_run() == ["check", "evaluate", "pretrain@main"]
    # Text that is only evaluated does not make another model either.
    more = project.folder / "data/extra/more.txt"
    more.write_text("One more text.\n\nAnother one.\n", encoding="utf-8")
    assert "pretrain@main" not in project.stages_run()


@pytest.mark.slow
def test_training_on_a_mixture_survives_kills(project):
    project.set({"pretrain": {"steps": 60, "checkpoint_every": 1_000_000}})
    began = time.monotonic()
    project.run(*training("models/undisturbed"))
    seconds = time.monotonic() - began
    project.set({"pretrain": {"checkpoint_every": 1}})
    expected = load_file(project.folder / "models/undisturbed/model.safetensors")
    draws, hits = random.Random(3), 0
    for _ in range(4):
        process = project.start(*training("models/killed"))
        time.sleep(draws.uniform(0.4 * seconds, 0.9 * seconds))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hits += process.returncode != 0
    project.run(*training("models/killed"))
    assert hits >= 2
    found = load_file(project.folder / "models/killed/model.safetensors")
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in found)


def test_text_to_evaluate_on_stands_beside_given_splits(tmp_path):
    project = Project(tmp_path)
    write_text(project.folder / "data/raw/train", 40)
    write_text(project.folder / "data/extra", 5)
    project.set({"preprocess": {"input": "data/raw"}, "split": {"test_fraction": 0.2}})
    project.stage("preprocess")
    project.stage("split")
    shards = project.folder / "data/shards"
    assert len(texts_in(shards / "test/extra")) == 10
    assert (shards / "train/00000.txt").exists() and not (shards / "train/extra").exists()
