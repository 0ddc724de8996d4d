"""Recipes: what each file must say, what applying one changes, what tiny scale keeps."""

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
from lib.commands.tiny_scale import shrunk
from lib.params import Params, load_params, parse_params
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.samples.recipe_text import write_recipe_text
from lib.text.splits import given_split
from tests.conftest import ROOT
from tests.helpers.project import Project

NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
# Of a model that people know; the others are the project's own.
KNOWN = [name for name in NAMES if name not in ("demo", "smoke")]


def leaves(values: dict, place: str = "") -> Iterator[tuple[str, object]]:
    """Dotted names of keys and their values; phases count as one."""
    for key, value in values.items():
        if isinstance(value, dict) and key != "phases":
            yield from leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", value


def read(name: str) -> dict:
    return YAML(typ="safe").load((ROOT / f"recipes/{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def params(tmp_path, monkeypatch) -> Path:
    """The project's params.yaml in a folder of its own, beside the recipes."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return Path("params.yaml")


def applied(params: Path, name: str, scale: str | None = None) -> Params:
    apply_recipe(find_recipe(name), params, scale)
    return load_params(params)


@cache
def alone(name: str, scale: str | None = None) -> Params:
    """What a recipe makes of the project's own params.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        shutil.copyfile(ROOT / "params.yaml", params)
        return applied(params, name, scale)


@pytest.mark.parametrize("name", KNOWN)
def test_a_recipe_says_what_it_must(name):
    values = dict(leaves(read(name)))
    assert {"evaluate.language", "vocab.lowercase", "vocab.strip_accents"} <= values.keys()
    assert values["evaluate.language"] and values["preprocess.input"] == "data/raw"
    assert not [key for key in values if key.startswith(("demo.", "cluster."))]
    result = alone(name)
    for key, value in values.items():
        found = result.model_dump()
        for part in key.split("."):
            found = found[part]
        if key == "phases":
            found = {each: result.phases[each].model_dump(exclude_none=True) for each in found}
        assert found == (value if key != "phases" else yaml.safe_load(yaml.safe_dump(value)))


@pytest.mark.parametrize("name", KNOWN)
def test_every_departure_from_the_demo_has_a_comment(name):
    text = (ROOT / f"recipes/{name}.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0].startswith("# ") and "https://" in text
    demo = dict(leaves(read("demo")))

    def uncommented(section, place: str = "") -> Iterator[str]:
        for key, value in section.items():
            line = section.lc.key(key)[0]
            said = "#" in lines[line]
            while not said and "#" not in lines[line - 1] and line:
                line -= 1
            # On a line of its own it speaks of all below it, up to the next comment.
            said = said or lines[line - 1].lstrip().startswith("#")
            if isinstance(value, dict) and not said:
                yield from uncommented(value, f"{place}{key}.")
            elif not said and demo.get(f"{place}{key}", ...) != value:
                yield f"{place}{key}"

    # What speaks for itself.
    plain = {"preprocess.input", "evaluate.language", "evaluate.phase"}
    found = [key for key in uncommented(YAML().load(text)) if not key.endswith(".init")]
    assert set(found) <= plain


def test_the_demo_holds_every_key_that_any_recipe_sets():
    demo = dict(leaves(read("demo")))
    assert (
        yaml.safe_load((ROOT / "params.yaml").read_text())["phases"].keys() == demo["phases"].keys()
    )
    for name in NAMES:
        changes = shrunk(alone(name))
        assert (dict(leaves(read(name))) | dict(leaves(changes))).keys() <= demo.keys(), name


def test_the_demo_is_what_the_project_comes_with(params):
    before = params.read_bytes()
    assert apply_recipe(find_recipe("demo"), params) == ""
    assert params.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_earlier_recipe_stays(params, name):
    applied(params, NAMES[NAMES.index(name) - 1], "tiny")
    assert applied(params, name) == alone(name)
    assert apply_recipe(find_recipe(name), params) == ""


@pytest.mark.parametrize("name", NAMES)
def test_keys_that_no_recipe_sets_and_comments_stay(params, name):
    text = params.read_text(encoding="utf-8")
    text = text.replace("workers: auto", "workers: 1").replace("seed: 12345", "seed: 77")
    text = text.replace("license: null", "license: mit")
    params.write_text(text, encoding="utf-8")
    change = apply_recipe(find_recipe(name), params)
    result = load_params(params)
    assert (result.cluster.workers, result.records.seed) == (1, 77)
    assert result.evaluate.license == "mit"
    after = params.read_text(encoding="utf-8")
    beside_phases = text.replace(text.partition("\nphases:\n")[2].partition("\n\n")[0], "")
    comments = re.findall("#.*", beside_phases)
    assert re.findall("#.*", after) == comments or name in ("demo", "smoke")
    # Sections stay apart.
    assert after.count("\n\n") == text.count("\n\n")
    assert change.startswith("--- a/params.yaml\n+++ b/params.yaml\n") == (text != after)


def test_the_change_is_what_is_shown(params):
    before = params.read_text(encoding="utf-8")
    (Path("recipes") / "mine.yaml").write_text("# Mine\nvocab:\n  size: 123\n")
    change = apply_recipe(Path("recipes/mine.yaml"), params)
    added = [line[1:] for line in change.splitlines() if line[0] == "+" and line[1] != "+"]
    removed = [line[1:] for line in change.splitlines() if line[0] == "-" and line[1] != "-"]
    assert [line.split("#")[0].strip() for line in added] == ["size: 123"]
    assert before.replace(removed[0], added[0]) == params.read_text(encoding="utf-8")


def test_a_wrong_recipe_changes_nothing(params):
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


def test_the_command_lists_recipes_and_refuses_others(params):
    listed = command().stdout.splitlines()
    assert [line.split()[0] for line in listed] == NAMES == list(recipes())
    assert all(len(line.split()) > 3 for line in listed)
    wrong = command("kanaria")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1
    assert "'kanaria'" in wrong.stderr and ", ".join(NAMES) in wrong.stderr


def test_what_is_not_there_yet_is_told_with_its_command(params, values):
    assert missing(parse_params(values), "demo") == []
    base = "models/base/bert-base-cased"
    merge(values, {"preprocess": {"input": "data/raw"}, "vocab": {"source": "model", "base": base}})
    text, model = missing(parse_params(values), "mine")
    assert "make recipe-text NAME=mine" in text
    assert model == f"{base} is not there yet: `make import MODEL=bert-base-cased`"
    values["vocab"]["base"] = "models/base/tiny"
    assert missing(parse_params(values), "mine")[1].endswith("`make tiny-base`")


def test_applying_and_going_back_leaves_git_clean(tmp_path):
    project = Project(tmp_path / "clone", {})
    project.run("git", "init", "-q")
    project.run("git", "add", "-A")
    project.run("git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "all")
    for name, scale in [("smoke", ()), (NAMES[-2], ("--scale", "tiny"))]:
        project.run(sys.executable, "-m", "lib.commands.recipe", name, *scale)
        assert project.run("git", "status", "--porcelain") == " M params.yaml\n"
    project.run("git", "checkout", "-q", "params.yaml")
    assert project.run("git", "status", "--porcelain") == ""


@pytest.mark.parametrize("name", KNOWN)
def test_tiny_scale_keeps_the_shape(name):
    full, tiny = alone(name), alone(name, "tiny")
    assert tiny.phases.keys() == full.phases.keys()
    assert tiny.preprocess == full.preprocess and tiny.records == full.records
    model = tiny.pretrain.model
    assert (
        model.hidden_size <= 64
        and model.num_hidden_layers <= 2
        and tiny.vocab.size <= max(2000, 7800)
    )
    steps = 0
    for phase in full.phases:
        large, small = full.training(phase), tiny.training(phase)
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
            share = large.steps / sum(full.training(each).steps for each in full.phases)
            assert small.steps == pytest.approx(600 * share, abs=1)
        assert small.steps
        steps += small.steps
        _, warmup = small.length(0)
        assert (warmup > 0) == (large.warmup_steps > 0) and warmup < small.steps
    assert 100 < steps <= 640
    assert tiny.pretrain.distribution == "one" and not tiny.pretrain.xla
    assert tiny.pretrain.precision == "float32"


def test_what_is_small_already_is_not_made_larger():
    small = alone("smoke")
    changes = dict(leaves(shrunk(small)))
    before = small.model_dump()
    for key, value in changes.items():
        found = before
        for part in key.split("."):
            found = found[part]
        if isinstance(value, int | float) and "learning_rate" not in key:
            assert value <= found, key


@pytest.mark.parametrize("name", KNOWN)
def test_text_of_its_kind_is_made_the_same_each_time(tmp_path, name):
    for folder in ("one", "two"):
        write_recipe_text(name, tmp_path / folder, 200)
    assert fingerprint.of_path(tmp_path / "one") == fingerprint.of_path(tmp_path / "two")
    with pytest.raises(UserError, match="holds files already"):
        write_recipe_text(name, tmp_path / "one")


def test_text_of_no_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match="no text is made for 'mine'; there is some for: "):
        write_recipe_text("mine", tmp_path / "text")


def test_splits_are_given_where_the_originals_give_them(tmp_path):
    for name, splits in [("ct-bert", 3), ("nemo-wikitext2", 3), ("qarib", 0)]:
        write_recipe_text(name, tmp_path / name, 200)
        files = [path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*")]
        assert len({given_split(path) for path in files} - {None}) == splits


@pytest.mark.parametrize("init", ["models/base/bert", "/elsewhere/bert", "models/base"])
@pytest.mark.parametrize("source", ["sentencepiece", "characters"])
def test_a_new_vocabulary_for_a_model_that_has_one_is_refused(values, init, source):
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
def test_what_this_project_made_goes_with_its_vocabulary(values, init):
    values["phases"]["main"]["init"] = init
    assert parse_params(values)
