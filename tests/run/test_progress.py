"""Progress lines: one on a terminal, a few in a log, none if they are turned off."""

import os
import pty
import re
import subprocess
import sys

import pytest

from lib.run.progress import Progress
from tests.conftest import ROOT

LINE = r"work:  50% 50/100 \[00:25<00:41,  1\.20 files/s, loss 3\.2\]"


def show(seconds: float) -> None:
    """Counts half of the work, 30 files in this time and 20 in an earlier run."""
    with Progress("work", 100, "files") as progress:
        progress.skip(20)
        progress.advance(10)
        progress._started -= seconds
        progress.advance(20, "loss 3.2")


def test_a_log_has_plain_lines_after_20_seconds(capsys):
    show(19)
    assert capsys.readouterr().err == ""
    show(25)
    # The rate is without the earlier run, and the rest takes 42 seconds at that rate.
    assert re.fullmatch(rf"({LINE}\n)+", capsys.readouterr().err)


@pytest.mark.parametrize("disable", ["", "1"])
def test_a_terminal_of_any_size_has_one_line_that_can_be_turned_off(disable):
    ours, theirs = pty.openpty()  # Its size is 0, as in some containers.
    code = "from tests.run.test_progress import show; show(25)"
    environment = {**os.environ, "TQDM_DISABLE": disable}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=environment, cwd=ROOT)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # On Linux the end is an error.
        pass
    os.close(ours)
    expected = rf"(\r{LINE} *)+\r\n"
    assert not shown if disable else re.fullmatch(expected, shown.decode())
