"""dvc.yaml lists the code that each stage's outputs depend on: no less, and no more."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent

# What surrounds the work and cannot change an output. lib/params.py is among it because the values
# themselves are dependencies: a new key for one stage must not rerun all others.
BESIDE_THE_POINT = {
    "lib/__init__.py",
    "lib/model/__init__.py",
    "lib/params.py",
    # The page is written beside the outputs, whenever someone asks for it.
    "lib/report/page.py",
    "lib/run/atomic.py",
    "lib/run/errors.py",
    "lib/run/metrics.py",
    "lib/run/pool.py",
    "lib/run/progress.py",
    "lib/run/stage.py",
    "lib/run/validation.py",
    "stages/__init__.py",
}
# Data files that a module reads.
DATA = {"lib/vocab/characters.py": "lib/vocab/characters.json"}


def imported(path: str) -> set[str]:
    """The project's files that a file imports, directly."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = name.replace(".", "/") + ".py"
            if name.startswith("lib.") and (ROOT / file).exists():
                found.add(file)
    return found


def closure(stage: str) -> set[str]:
    """The stage's file and all that it imports, with the data files they read."""
    done: set[str] = set()
    waiting = {stage}
    while waiting:
        path = waiting.pop()
        done.add(path)
        waiting |= imported(path) - done - BESIDE_THE_POINT
    return done | {DATA[path] for path in done if path in DATA}


def declared() -> dict[str, list[str]]:
    """The code among each stage's deps, by the stage's name."""
    found = {}
    for file in ("dvc.yaml", "data/dvc.yaml", "probe/dvc.yaml"):
        stages = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))["stages"]
        for name, stage in stages.items():
            deps = stage.get("do", stage)["deps"]
            found[name] = [dep for dep in deps if dep.startswith(("lib/", "stages/"))]
    return found


@pytest.mark.parametrize("stage", sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py")))
def test_a_stage_depends_on_its_code_and_on_no_other(stage):
    assert declared()[stage] == sorted(closure(f"stages/{stage}.py"))


def test_the_data_stages_start_without_tensorflow():
    for stage in ("demo", "preprocess", "sample5M", "vocab", "split", "records"):
        for path in closure(f"stages/{stage}.py"):
            if path.endswith(".py"):
                assert "import tensorflow" not in (ROOT / path).read_text(encoding="utf-8"), path


def test_layers_import_downwards_only():
    allowed = {
        "run": {"run"},
        "text": {"run", "text", "params"},
        "vocab": {"run", "vocab"},
        "records": {"run", "records", "params"},
        "model": {"run", "model"},
        "train": {"run", "model", "interop", "train", "vocab", "params"},
        "interop": {"run", "model", "records", "interop", "params"},
        "evaluation": {
            "run",
            "text",
            "vocab",
            "records",
            "model",
            "interop",
            "evaluation",
            "params",
        },
        "probe": {"run", "text", "vocab", "model", "probe", "params"},
        "report": {"run", "report", "params"},
    }
    for layer, below in allowed.items():
        for path in (ROOT / "lib" / layer).glob("*.py"):
            for file in imported(path.relative_to(ROOT).as_posix()):
                part = Path(file).relative_to("lib").parts[0].removesuffix(".py")
                assert part in below, f"{path} imports {file}"
