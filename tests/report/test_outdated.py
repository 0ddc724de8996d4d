"""Which stages are outdated, by dvc.lock, params.yaml and the files on disk."""

import shutil
from pathlib import Path

import pytest
import yaml

from lib.report.outdated import NOT_RECORDED, OUTDATED, outdated_stages
from lib.run import fingerprint
from lib.run.errors import UserError

PARAMS = {
    "preprocess": {"input": "data/raw", "format": "auto"},
    "vocab": {"size": 300, "rate": "2e-3"},
    "phases": {"main": {"init": "data/vocab"}},
    "cluster": {"workers": 1},
}
DVC_YAML = """
stages:
  check: {cmd: c, deps: [lib, params.yaml], outs: [data/code]}
  preprocess: {cmd: c, deps: [data/code/p.txt, "${preprocess.input}"], outs: [data/corpus]}
  vocab: {cmd: c, deps: [data/code/v.txt, data/corpus], outs: [data/vocab]}
  pretrain:
    foreach: ${phases}
    do: {cmd: c, deps: [data/vocab/vocab.txt, "${item.init}"], outs: ["models/${key}"]}
  evaluate: {cmd: c, deps: [models/main, data/corpus/test], outs: [results/evaluate/metrics.json]}
"""


def recorded(root: Path, path: str) -> dict:
    """A file as DVC records it."""
    content = root / path
    size = content.stat().st_size
    return {"path": path, "hash": "md5", "md5": fingerprint.of_file(content), "size": size}


@pytest.fixture
def root(tmp_path) -> Path:
    """A project in which all stages have finished."""
    files = (
        "data/raw",
        "data/corpus",
        "data/vocab",
        "models/main",
        "results/evaluate/metrics.json",
    )
    for path in files:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    raw, corpus, vocab, model, metrics = (recorded(tmp_path, path) for path in files)
    code = {"path": "data/code/p.txt", "md5": "0"}
    of_params = {
        "preprocess": {"preprocess.format": "auto"},
        "vocab": {"vocab.size": 300, "vocab.rate": 0.002},
        "pretrain@main": {"phases.main": {"init": "data/vocab"}},
    }
    stages = {
        "check": {"deps": [{"path": "params.yaml", "md5": "0"}], "outs": [{"path": "data/code"}]},
        "preprocess": {"deps": [code, raw], "outs": [corpus]},
        "vocab": {"deps": [code | {"path": "data/code/v.txt"}, corpus], "outs": [vocab]},
        "pretrain@main": {
            "deps": [{"path": "data/vocab/vocab.txt", "md5": "1"}, vocab],
            "outs": [model],
        },
        "evaluate": {"deps": [model, {"path": "data/corpus/test"}], "outs": [metrics]},
    }
    for name, values in of_params.items():
        stages[name]["params"] = {"params.yaml": values}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return tmp_path


def change(path: Path, keys: str, value: object) -> None:
    """Sets a value in a YAML file; `keys` are joined by slashes."""
    values = yaml.safe_load(path.read_text())
    *parents, last = keys.split("/")
    section = values
    for key in parents:
        section = section[key]
    section[last] = value
    path.write_text(yaml.safe_dump(values))


@pytest.mark.parametrize(
    ("keys", "value", "outdated"),
    [
        # The same number; a section that results do not depend on.
        ("vocab/rate", 0.002, []),
        ("cluster/workers", 8, []),
        ("preprocess/format", "text", ["evaluate", "preprocess", "pretrain@main", "vocab"]),
        # Another folder of text, which is only a dependency.
        ("preprocess/input", "data/mine", ["evaluate", "preprocess", "pretrain@main", "vocab"]),
        ("vocab/size", 400, ["evaluate", "pretrain@main", "vocab"]),
        ("phases/main/init", "models/base/x", ["evaluate", "pretrain@main"]),
    ],
)
def test_a_changed_parameter_makes_its_stage_and_all_later_ones_outdated(
    root, keys, value, outdated
):
    assert outdated_stages(root) == {}
    change(root / "params.yaml", keys, value)
    assert sorted(outdated_stages(root)) == outdated
    assert set(outdated_stages(root).values()) <= {OUTDATED}


def test_changed_text_makes_everything_outdated(root):
    (root / "data/raw").write_text("data/RAW")  # As many bytes.
    assert len(outdated_stages(root)) == 4
    (root / "data/raw").write_text("more text")
    assert len(outdated_stages(root)) == 4
    # On a machine without the raw text the results still belong to it.
    (root / "data/raw").unlink()
    assert outdated_stages(root) == {}


def test_after_a_run_that_stopped_half_way_later_stages_are_outdated(root):
    # vocab ran again with another size; pretrain did not.
    change(root / "params.yaml", "vocab/size", 400)
    (root / "data/vocab").write_text("larger")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    lock["stages"]["vocab"]["params"]["params.yaml"]["vocab.size"] = 400
    lock["stages"]["vocab"]["outs"] = [recorded(root, "data/vocab")]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert outdated_stages(root) == {"pretrain@main": OUTDATED, "evaluate": OUTDATED}


def test_a_stage_that_dvc_did_not_record_is_unverified(root):
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    del lock["stages"]["pretrain@main"]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    found = outdated_stages(root)
    assert found["pretrain@main"] == NOT_RECORDED and "vocab" not in found
    (root / "dvc.lock").unlink()
    assert set(outdated_stages(root).values()) == {NOT_RECORDED}


def test_results_of_a_stage_that_was_run_by_hand_are_unverified(root):
    (root / "results/evaluate/metrics.json").write_text("of another model")
    assert outdated_stages(root) == {"evaluate": NOT_RECORDED}


def test_a_damaged_lock_is_one_line(root):
    (root / "dvc.lock").write_text("<<<<<<< HEAD\nstages: [\n")
    with pytest.raises(UserError, match=r"dvc\.lock: not valid YAML \(.*\); fix it") as caught:
        outdated_stages(root)
    assert "\n" not in str(caught.value)


def test_folders_are_compared_as_dvc_does(root):
    folder = root / "data/raw"
    folder.unlink()
    (folder / "b").mkdir(parents=True)
    (folder / "b/one.txt").write_text("1")
    (folder / "a.txt").write_text("22")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    # As `dvc add` writes it for this folder.
    md5 = "0b1d6f835f84317bd091e53047ef009c.dir"
    lock["stages"]["preprocess"]["deps"][1] = {
        "path": "data/raw",
        "md5": md5,
        "size": 3,
        "nfiles": 2,
    }
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert outdated_stages(root) == {}
    (folder / "a.txt").write_text("23")
    assert "preprocess" in outdated_stages(root)
    shutil.rmtree(folder / "b")
    assert "preprocess" in outdated_stages(root)
