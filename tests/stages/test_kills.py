"""Data stages killed at random moments: the next run writes the same bytes."""

import random
import shutil
import signal
import time

import pytest

from lib.run import fingerprint
from tests.helpers.project import Project, write_text

STAGES = {
    "preprocess": ["data/raw", "data/corpus"],
    "sample5M": ["data/corpus", "data/sample"],
    "split": ["data/corpus", "data/shards"],
    "vocab": ["data/sample", "data/sample", "data/vocab"],
    "records": ["main", "data/shards", "data/vocab", "data/records"],
}
_KILLS, _MAX_RUNS = 8, 40


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_outputs_after_kills_are_identical(tmp_path, workers):
    project = Project(tmp_path / "project")
    # Chunks of 4 MiB, shards of 1 MiB: all passes have several tasks.
    write_text(project.folder / "data/raw", 40_000)
    project.set(
        {
            "cluster": {"workers": workers},
            "split": {"lines_per_shard": 20_000},
            "records": {"dupe_factor": 5},
        }
    )
    draw = random.Random(workers)
    for stage, arguments in STAGES.items():
        target = project.folder / arguments[-1]
        started = time.monotonic()
        project.stage(stage, *arguments)
        # How long a run takes, with and without the cleaned chunks that preprocess keeps.
        seconds = dict.fromkeys((False, True), time.monotonic() - started)
        expected = fingerprint.of_path(target)
        shutil.rmtree(target)
        killed = 0
        for _ in range(_MAX_RUNS):
            if killed == _KILLS:
                break
            if stage == "preprocess" and draw.random() < 0.5:
                shutil.rmtree(project.folder / ".scratch", ignore_errors=True)
            cached = (project.folder / ".scratch").exists()
            started = time.monotonic()
            process = project.start("python", "-m", f"stages.{stage}", *arguments)
            time.sleep(draw.uniform(0, seconds[cached]))
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                killed += 1
            else:
                seconds[cached] = time.monotonic() - started
            process.stdout.close()
            # Nothing or the complete output, never a part under the final name.
            if target.exists():
                assert fingerprint.of_path(target) == expected
                shutil.rmtree(target)
        assert killed == _KILLS
        project.stage(stage, *arguments)
        assert fingerprint.of_path(target) == expected, stage
        leftovers = [path for path in target.parent.iterdir() if ".tmp" in path.name]
        assert not leftovers, leftovers
