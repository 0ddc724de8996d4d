"""Updates of the code: what reruns, what is kept, and what an interrupted rerun leaves."""

import contextlib
import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from lib.run import fingerprint
from lib.run.code_digest import CANNOT_ALTER_OUTPUTS, listing, stages
from lib.run.paths import CODE
from tests.helpers.project import Project, write_text
from tests.helpers.stubs import STUBS

pytestmark = pytest.mark.slow
WEIGHTS = "models/main/model.safetensors"
TRAINING = "results/pretrain/main"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project after its first `dvc repro`."""
    return finish(tmp_path_factory.mktemp("finished"))


def finish(folder) -> Project:
    project = Project(folder)
    write_text(project.folder / "data/raw")
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "repro")
    return project


def listings(project: Project) -> dict[str, str]:
    return {stage: listing(project.folder, stage) for stage in stages(project.folder)}


def test_comments_and_docstrings_of_any_file_rerun_nothing(finished):
    files = sorted((finished.folder / "lib").rglob("*.py"))
    files += sorted((finished.folder / "stages").glob("*.py"))
    before = {file: file.read_bytes() for file in files}
    expected = listings(finished)
    try:
        for file in files:
            source = re.sub(rb'(?<=:\n    """)(?=[A-Z])', b"Changed. ", before[file])
            file.write_bytes(b"# A comment.\n" + source + b"\n# Another.\n")
            assert listings(finished) == expected, file
        # All of them at once, by dvc itself.
        assert finished.stages_run() == ["check"]
    finally:
        for file, source in before.items():
            file.write_bytes(source)


def test_a_changed_constant_reruns_what_it_may_change(finished):
    with changed_masking(finished, 0.79):
        assert finished.stages_run() == ["check", "evaluate", "pretrain@main", "records@main"]


def test_after_a_killed_rerun_dvc_checkout_brings_everything_back(finished):
    outputs = ("models", "results/evaluate", f"{TRAINING}/metrics.json", f"{TRAINING}/curves")
    before = {path: fingerprint.of_path(finished.folder / path) for path in outputs}
    with changed_masking(finished, 0.78):
        process = finished.start("dvc", "repro")
        deadline = time.monotonic() + 180
        while not list((finished.folder / ".scratch/pretrain").glob("main/*-*")):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        assert not (finished.folder / TRAINING / "metrics.json").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        while finished.processes("stages.pretrain"):
            time.sleep(0.05)
        finished.run("dvc", "checkout", "-q")
        for path, digest in before.items():
            assert fingerprint.of_path(finished.folder / path) == digest, path


@contextlib.contextmanager
def changed_masking(project: Project, fraction: float) -> Iterator[None]:
    """Another fraction of [MASK] tokens for a while; afterwards the outputs are back, too."""
    file = project.folder / "lib/records/masking.py"
    before = file.read_text(encoding="utf-8")
    limit = "choice < mask_replace_prob"
    assert limit in before
    file.write_text(before.replace(limit, f"choice < {fraction}"), encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(before, encoding="utf-8")
        assert set(project.stages_run()) <= {"check"}


def test_accept_keeps_the_model_after_a_change_of_code(finished):
    weights = fingerprint.of_file(finished.folder / WEIGHTS)
    with changed_masking(finished, 0.77):
        finished.set({"evaluate": {"seed": 2}})
        output = finished.run("python", "-m", "lib.commands.accept")
        assert "records@main: its outputs are kept" in output
        assert "evaluate: will run again" in output and "evaluate.seed" in output
        finished.set({"evaluate": {"seed": 1}})
        output = finished.run("python", "-m", "lib.commands.accept")
        assert "evaluate: its outputs are kept" in output
        assert json.loads(finished.run("dvc", "status", "--json", "dvc.yaml")) == {}
        assert finished.stages_run() == []
        assert fingerprint.of_file(finished.folder / WEIGHTS) == weights


def test_no_output_depends_on_the_modules_left_out_of_the_listings(finished, tmp_path):
    assert STUBS.keys() == CANNOT_ALTER_OUTPUTS.keys() - {"lib/params.py", "lib/run/code_digest.py"}
    project = Project(tmp_path / "stubbed")
    for path, stub in STUBS.items():
        with (project.folder / path).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{stub}")
    write_text(project.folder / "data/raw")
    project.run("dvc", "add", "-q", "data/raw")
    project.run("dvc", "repro")

    def outputs(made: Project) -> dict[str, str]:
        lock = json.loads(made.run("python", "-c", _LOCK))
        return {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}

    found, expected = outputs(project), outputs(finished)
    assert str(CODE) in expected and found.keys() == expected.keys()
    assert {path for path in expected if found[path] != expected[path]} <= {str(CODE)}


_LOCK = "import json, yaml; print(json.dumps(yaml.safe_load(open('dvc.lock'))['stages']))"
