"""Stage runner: the command line."""

import importlib
import sys

import pytest

from lib.run.stage import run_stage
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
