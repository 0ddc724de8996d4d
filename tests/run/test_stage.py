"""Stage runner: the command line."""

import subprocess
import sys
from pathlib import Path


def test_every_stage_has_help():
    for stage in sorted((Path(__file__).parents[2] / "stages").glob("[a-z]*.py")):
        done = subprocess.run(
            [sys.executable, "-m", f"stages.{stage.stem}", "--help"],
            capture_output=True,
            text=True,
            cwd=stage.parent.parent,
            check=False,
        )
        assert done.returncode == 0 and f"stages.{stage.stem}" in done.stdout
