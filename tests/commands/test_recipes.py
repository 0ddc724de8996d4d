"""Recipes: required content, effect on params.yaml, and what tiny scale preserves."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from lib.commands.recipe import apply_recipe, find_recipe, merge, missing, recipes
from lib.commands.tiny_scale import tiny_changes
from lib.model.optimizers import OPTIMIZERS
from lib.params import Params, load_params, parse_params
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.phases import run_length, training_settings
from lib.samples.recipe_text import write_recipe_text
from lib.text.splits import given_splits
from tests.conftest import ROOT
from tests.helpers.params import default_params_text
from tests.helpers.project import Project
from tests.helpers.recipes import NAMES, PUBLISHED


def leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys with their values; `phases` is one value."""
    for key, value in values.items():
        if isinstance(value, dict) and key != "phases":
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read(name: str) -> dict:
    return YAML(typ="safe").load((ROOT / f"recipes/{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    """The default params.yaml and the recipes, in the working directory."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "params.yaml").write_text(default_params_text(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def applied(params: Path, name: str, scale: str | None = None) -> Params:
    apply_recipe(find_recipe(name), params, scale)
    return load_params(params)


@cache
def applied_to_default(name: str, scale: str | None = None) -> Params:
    """The parameters after a recipe was applied to the default params.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(default_params_text(), encoding="utf-8")
        return applied(params, name, scale)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_sets_the_required_keys_and_all_take_effect(name):
    values = dict(leaves(read(name)))
    assert {"evaluate.language", "vocab.lowercase", "vocab.strip_accents"} <= values.keys()
    assert values["evaluate.language"] and values["preprocess.input"] == "data/raw"
    assert not [key for key in values if key.startswith(("demo.", "cluster."))]
    result = applied_to_default(name)
    for key, value in values.items():
        found = result.model_dump()
        for part in key.split("."):
            found = found[part]
        if key == "phases":
            found = {each: result.phases[each].model_dump(exclude_none=True) for each in found}
        assert found == (value if key != "phases" else yaml.safe_load(yaml.safe_dump(value)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_value_that_differs_from_the_demo_has_a_comment(name):
    text = (ROOT / f"recipes/{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ") and "https://" in text
    demo = dict(leaves(read("demo")))

    def uncommented(section, prefix: str = "") -> Iterator[str]:
        for key, value in section.items():
            line = section.lc.key(key)[0]
            commented = "#" in lines[line]
            while not commented and "#" not in lines[line - 1] and line:
                line -= 1
            # A comment on a line of its own covers the lines below it, up to the next comment.
            commented = commented or lines[line - 1].lstrip().startswith("#")
            if isinstance(value, dict) and not commented:
                yield from uncommented(value, f"{prefix}{key}.")
            elif not commented and demo.get(f"{prefix}{key}", ...) != value:
                yield f"{prefix}{key}"

    # Self-explanatory.
    plain = {"preprocess.input", "evaluate.language", "evaluate.phase"}
    found = [key for key in uncommented(YAML().load(text)) if not key.endswith(".init")]
    assert set(found) <= plain


def test_the_demo_has_every_key_that_any_recipe_sets():
    demo = dict(leaves(read("demo")))
    assert yaml.safe_load(default_params_text())["phases"].keys() == demo["phases"].keys()
    for name in NAMES:
        changes = tiny_changes(applied_to_default(name))
        assert (dict(leaves(read(name))) | dict(leaves(changes))).keys() <= demo.keys(), name


def test_the_demo_recipe_leaves_the_default_params_unchanged(params):
    before = params.read_bytes()
    assert apply_recipe(find_recipe("demo"), params) == ""
    assert params.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_replaces_an_earlier_one_completely(params, name):
    applied(params, NAMES[NAMES.index(name) - 1], "tiny")
    assert applied(params, name) == applied_to_default(name)
    assert apply_recipe(find_recipe(name), params) == ""


@pytest.mark.parametrize("name", NAMES)
def test_comments_and_keys_that_no_recipe_sets_are_kept(params, name):
    text = params.read_text(encoding="utf-8")
    text = text.replace("workers: auto", "workers: 1").replace("seed: 12345", "seed: 77")
    text = text.replace("license: null", "license: mit")
    params.write_text(text, encoding="utf-8")
    before = load_params(params)
    change = apply_recipe(find_recipe(name), params)
    result = load_params(params)
    assert (result.cluster.workers, result.records.seed) == (1, 77)
    assert result.evaluate.license == "mit"
    after = params.read_text(encoding="utf-8")
    if result.phases != before.phases:  # These are replaced as a whole, with their comments.
        text = text.replace(text.partition("\nphases:\n")[2].partition("\n\n")[0], "")
    assert re.findall("#.*", after) == re.findall("#.*", text)
    # Blank lines between sections are kept.
    assert after.count("\n\n") == text.count("\n\n")
    assert change.startswith("--- a/params.yaml\n+++ b/params.yaml\n") == (text != after)


def test_the_returned_diff_is_the_change_of_the_file(params):
    before = params.read_text(encoding="utf-8")
    (Path("recipes") / "mine.yaml").write_text("# Mine\nvocab:\n  size: 123\n")
    change = apply_recipe(Path("recipes/mine.yaml"), params)
    added = [line[1:] for line in change.splitlines() if line[0] == "+" and line[1] != "+"]
    removed = [line[1:] for line in change.splitlines() if line[0] == "-" and line[1] != "-"]
    assert [line.split("#")[0].strip() for line in added] == ["size: 123"]
    assert before.replace(removed[0], added[0]) == params.read_text(encoding="utf-8")


def test_an_invalid_recipe_changes_nothing(params):
    before = params.read_bytes()
    for text, message in [
        ("vocab: {sise: 3}", r"vocab\.sise: unknown key; did you mean `size`"),
        ("phases: {long: {max_seq_length: 64, init: data/vocab}}", r"evaluate\.phase: should be"),
        ("just text", "should hold sections"),
        ("vocab: [1", r"recipes/mine\.yaml line 1: expected"),
    ]:
        Path("recipes/mine.yaml").write_text(text)
        with pytest.raises(UserError, match=message) as caught:
            apply_recipe(Path("recipes/mine.yaml"), params)
        assert "\n" not in str(caught.value)
        assert params.read_bytes() == before


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lib.commands.recipe", *words],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )


def test_the_command_lists_recipes_and_refuses_unknown_names(params):
    listed = command().stdout.splitlines()
    assert [line.split()[0] for line in listed] == NAMES == list(recipes())
    assert all(len(line.split()) > 3 for line in listed)
    wrong = command("kanaria")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert "'kanaria'" in wrong.stderr and ", ".join(NAMES) in wrong.stderr


def test_missing_inputs_are_reported_with_the_command_to_make_them(params, values):
    assert missing(parse_params(values), "demo") == []
    base = "models/base/bert-base-cased"
    merge(values, {"preprocess": {"input": "data/raw"}, "vocab": {"source": "model", "base": base}})
    text, model = missing(parse_params(values), "mine")
    assert "make recipe-text NAME=mine" in text
    assert model == f"{base} does not exist yet: run `make import MODEL=bert-base-cased`"
    values["vocab"]["base"] = "models/base/tiny"
    assert missing(parse_params(values), "mine")[1].endswith("`make tiny-base`")


def test_git_checkout_undoes_a_recipe(tmp_path):
    project = Project(tmp_path / "clone", {})
    project.run("git", "init", "-q")
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "all")
    for name, scale in [("smoke", ()), (NAMES[-2], ("--scale", "tiny"))]:
        project.run(sys.executable, "-m", "lib.commands.recipe", name, *scale)
        assert project.run("git", "status", "--porcelain") == " M params.yaml\n"
    project.run("git", "checkout", "-q", "params.yaml")
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("name", PUBLISHED)
def test_tiny_scale_preserves_the_structure(name):
    full, tiny = applied_to_default(name), applied_to_default(name, "tiny")
    assert tiny.phases.keys() == full.phases.keys()
    assert tiny.preprocess == full.preprocess and tiny.records == full.records
    model = tiny.pretrain.model
    assert model.hidden_size <= 64 and model.num_hidden_layers <= 2
    # A vocabulary of characters has as many entries as the text has, Chinese more than 2,000.
    assert tiny.vocab.size == full.vocab.size or (
        tiny.vocab.size == 2000 and full.vocab.source == "sentencepiece"
    )
    steps = 0
    for phase in full.phases:
        large, small = (
            training_settings(full.pretrain, full.phases[phase]),
            training_settings(tiny.pretrain, tiny.phases[phase]),
        )
        assert tiny.phases[phase].max_seq_length == full.phases[phase].max_seq_length
        for key in ("optimizer", "schedule", "bias_correction", "label_smoothing"):
            assert getattr(small, key) == getattr(large, key)
        assert small.batch_size <= 16 and small.learning_rate >= large.learning_rate
        assert (small.microbatch_size is None) == (large.microbatch_size is None)
        if small.microbatch_size:
            assert small.batch_size % small.microbatch_size == 0
            several = large.batch_size > large.microbatch_size
            assert (small.batch_size > small.microbatch_size) == several
        if large.steps:
            fraction = large.steps / sum(
                training_settings(full.pretrain, full.phases[each]).steps for each in full.phases
            )
            assert small.steps == pytest.approx(600 * fraction, abs=1)
        assert small.steps
        steps += small.steps
        _, warmup = run_length(small, 0)
        assert (warmup > 0) == (large.warmup_steps > 0) and warmup < small.steps
    assert 100 < steps <= 640
    assert tiny.pretrain.distribution == "one" and not tiny.pretrain.xla
    assert tiny.pretrain.precision == "float32"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("learning_rate", [1e-5, 1.0])
def test_tiny_scale_has_a_learning_rate_for_each_optimizer(values, optimizer, learning_rate):
    values["pretrain"] |= {"optimizer": optimizer, "learning_rate": learning_rate}
    rate = tiny_changes(parse_params(values))["pretrain"]["learning_rate"]
    assert rate == max(learning_rate, OPTIMIZERS[optimizer].tiny_learning_rate)


def test_tiny_scale_enlarges_nothing():
    small = applied_to_default("smoke")
    changes = dict(leaves(tiny_changes(small)))
    before = small.model_dump()
    for key, value in changes.items():
        found = before
        for part in key.split("."):
            found = found[part]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and "learning_rate" not in key:
            assert value <= found, key


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_text_is_reproducible(tmp_path, name):
    for folder in ("one", "two"):
        write_recipe_text(name, tmp_path / folder, 200)
    assert fingerprint.of_path(tmp_path / "one") == fingerprint.of_path(tmp_path / "two")
    with pytest.raises(UserError, match="not empty"):
        write_recipe_text(name, tmp_path / "one")


def test_recipe_text_of_an_unknown_recipe_is_refused(tmp_path):
    with pytest.raises(UserError, match="no text for a recipe 'mine'; choose one of "):
        write_recipe_text("mine", tmp_path / "text")


def test_recipe_text_has_the_splits_of_the_original(tmp_path):
    for name, splits in [("ct-bert", 3), ("nemo-wikitext2", 3), ("qarib", 0)]:
        write_recipe_text(name, tmp_path / name, 200)
        found = (tmp_path / name).rglob("*.*")
        files = [path.relative_to(tmp_path / name).as_posix() for path in found]
        given = given_splits(files, Path("data/raw"))
        assert len(set(given.splits) - {None}) == splits


@pytest.mark.parametrize("init", ["models/base/bert", "/elsewhere/bert", "models/base"])
@pytest.mark.parametrize("source", ["sentencepiece", "characters"])
def test_a_new_vocabulary_for_an_external_model_is_refused(values, init, source):
    values["vocab"]["source"] = source
    values["phases"]["main"]["init"] = init
    advice = re.escape(f"set vocab: {{source: model, base: {init}}}")
    with pytest.raises(UserError, match=rf"vocab\.source: .*phases\.main.*{advice}") as caught:
        parse_params(values)
    assert "\n" not in str(caught.value)
    for source in ("model", "extend"):
        values["vocab"].update(source=source, base=init)
        assert parse_params(values)


@pytest.mark.parametrize(
    "init", ["data/vocab", "models/short", "models/saved/short/best", "a.json"]
)
def test_a_new_vocabulary_for_a_model_of_this_project_is_accepted(values, init):
    values["phases"]["main"]["init"] = init
    assert parse_params(values)
