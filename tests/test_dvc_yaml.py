"""dvc.yaml: stages depend on their code, paths agree with lib.run.paths, commands are fixed."""

import re
from pathlib import Path

import pytest
import yaml

from lib.run import paths
from lib.run.code_digest import CANNOT_ALTER_OUTPUTS, closure, stages
from tests.conftest import ROOT

FILES = ("dvc.yaml", "data/dvc.yaml", "probe/dvc.yaml")


def declared() -> dict[str, dict]:
    """The stages of all dvc.yaml files by name; of a `foreach`, the body."""
    found = {}
    for file in FILES:
        loaded = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
        found |= {name: stage.get("do", stage) for name, stage in loaded["stages"].items()}
    return found


def test_there_is_a_stage_for_every_script():
    assert set(declared()) == {path.stem for path in (ROOT / "stages").glob("[a-z]*.py")}


@pytest.mark.parametrize("stage", stages(ROOT))
def test_a_stage_depends_on_the_listing_of_its_code(stage):
    code = [dep for dep in declared()[stage]["deps"] if "data/code" in dep or "lib" in dep]
    assert code == [f"data/code/{stage}.txt"]


@pytest.mark.parametrize("stage", ["check", *stages(ROOT)])
def test_no_value_of_params_yaml_is_part_of_a_command(stage):
    assert declared()[stage]["cmd"] == f"python -m stages.{stage}"


def test_paths_are_those_of_dvc_yaml():
    text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in FILES)
    named = set(re.findall(r"(?<![\w/.])(?:data|models|results)/[\w/]+", text))
    for name, path in vars(paths).items():
        is_path = isinstance(path, Path) and name.isupper()
        if is_path and name not in ("BASE_MODELS", "EXTRA", "MODELS", "UNFINISHED_MODELS"):
            assert any(Path(each).is_relative_to(path) for each in named), name


def test_data_stages_start_without_tensorflow():
    for stage in ("check", "demo", "preprocess", "sample5M", "vocab", "split", "records"):
        assert "lib/run/tf.py" not in closure(ROOT, f"stages/{stage}.py"), stage


def test_every_excluded_module_exists_and_has_its_reason():
    for path, reason in CANNOT_ALTER_OUTPUTS.items():
        assert (ROOT / path).is_file() and reason, path
