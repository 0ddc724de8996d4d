"""TensorFlow is imported in one place: late, and without its log lines."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))
# Five traces of one function make TensorFlow warn of the sixth; XLA reports that it starts.
WORK = """
from lib.run import tf

@tf.function(jit_compile=True)
def double(values):
    return values + values

for size in range(8):
    double(tf.zeros([size]))
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess:
    """Runs code in a process without TensorFlow's environment variables."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )


def test_only_one_module_imports_tensorflow():
    pattern = re.compile(r"^\s*(import tensorflow|from tensorflow\b)", re.MULTILINE)
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in ("lib", "stages")
        for path in (ROOT / folder).rglob("*.py")
        if pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_importing_the_stages_and_using_tensorflow_prints_nothing_and_imports_no_keras():
    stages = f"import {', '.join(f'stages.{name}' for name in STAGES)}"
    keras = "import sys\nassert 'keras' not in sys.modules"
    done = run("\n".join([stages, WORK, keras]))
    assert done.stdout + done.stderr == ""


@pytest.mark.slow
def test_log_lines_are_shown_at_the_log_level_that_the_user_sets():
    assert "retracing" in run(WORK, TF_CPP_MIN_LOG_LEVEL="0").stderr


def test_the_data_stages_do_not_import_tensorflow():
    modules = [
        "lib.params",
        "lib.train.base_models",
        "lib.commands.recipe",
        "lib.model.optimizers",
        "lib.model.flops",
    ]
    modules += [
        f"stages.{name}" for name in ("preprocess", "sample5M", "vocab", "split", "records")
    ]
    code = f"import sys, {', '.join(modules)}; print('tensorflow' in sys.modules)"
    assert run(code).stdout == "False\n"


@pytest.mark.slow
def test_keras_can_still_be_imported():
    run("from lib.run import tf; tf.keras.layers; import keras")


def test_an_import_that_fails_is_shown(tmp_path):
    broken = tmp_path / "tensorflow/__init__.py"
    broken.parent.mkdir()
    broken.write_text("import os; os.write(2, b'no AVX here'); raise ImportError('broken')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from lib.run import tf; tf.Tensor"
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run(code)
    assert "no AVX here" in failure.value.stderr and "broken" in failure.value.stderr
