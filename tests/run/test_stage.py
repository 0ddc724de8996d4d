"""Stage runner: the command line."""

import importlib
import os
import pickle
import subprocess
import sys
import time

import pytest

from lib.run.stage import has_force, pickled_force, run_stage
from tests.conftest import ROOT

STAGES = sorted(path.stem for path in (ROOT / "stages").glob("[a-z]*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help(stage, monkeypatch, capsys):
    main = importlib.import_module(f"stages.{stage}").main
    monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        run_stage(main)
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python -m stages.{stage}" in shown and main.__doc__.splitlines()[0] in shown


@pytest.mark.parametrize("by_dvc", [False, True])
def test_a_stage_outlives_its_shell_only_if_dvc_did_not_start_it(tmp_path, by_dvc):
    code = (
        "import stages, time, pathlib; pathlib.Path('started').touch();"
        "time.sleep(1); pathlib.Path('ended').touch()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    environment |= {"PYTHONPATH": str(ROOT), **({"DVC_STAGE": "split"} if by_dvc else {})}
    # The shell exits when the stage has started.
    script = f'nohup "{sys.executable}" -c "{code}" & while [ ! -e started ]; do sleep 0.05; done'
    subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, check=True, timeout=60)
    deadline = time.monotonic() + (3 if by_dvc else 60)
    while not (tmp_path / "ended").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (tmp_path / "ended").exists() != by_dvc


@pytest.mark.parametrize(
    ("words", "forced"),
    [
        ("repro -f", True),
        ("repro --force pretrain@main", True),
        ("repro --force-downstream split", True),
        ("repro -qfs", True),
        ("-v exp run -f -S pretrain.steps=9", True),
        ("repro", False),
        ("repro -s fast", False),
        ("exp run -Spretrain.clip_norm=0.5 -n foo -nfast", False),
        ("exp run --queue", False),
    ],
)
def test_force_is_recognised_in_the_arguments_of_dvc(words, forced):
    assert bool(has_force(words.split())) is forced


def test_force_is_recognised_in_the_arguments_of_a_queued_experiment():
    for words, forced in (
        ({"force": True}, True),
        ({"force_downstream": True, "dry": False}, True),
        ({"dry": True, "force": False, "pull": True}, False),
    ):
        pickled = pickle.dumps({"args": (), "kwargs": words})
        assert pickled_force(pickled) is forced
        pickled_force(pickled[:-9])  # Damaged: no exception.


def test_the_arguments_of_the_dvc_that_runs_a_stage_are_found(tmp_path):
    """Through shells, as dvc runs its stages; of several, the innermost dvc counts."""
    stage = "from lib.run.stage import forced_by_dvc; print(forced_by_dvc())"
    dvc = tmp_path / "dvc"
    dvc.write_text(
        "import subprocess, sys\n"
        "command = f\"'{sys.executable}' -c '{sys.argv[1]}'; true\"\n"
        "subprocess.run(command, shell=True, check=True)\n"
    )
    for words, expected in ((["-f"], "True"), ([], "False")):
        command = [sys.executable, str(dvc), stage, "repro", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout.strip() == expected
