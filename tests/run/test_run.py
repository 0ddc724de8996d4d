"""Atomic files, keyed random streams, copying, metrics, progress."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.run import atomic, copying, random
from lib.run.metrics import read_metrics, write_metrics
from lib.run.progress import duration


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic.new_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_directory_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic.new_directory(target) as temporary:
        (temporary / "half").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for content in ("first", "second"):
        with atomic.new_directory(target) as temporary:
            (temporary / content).touch()
    assert [path.name for path in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_writing_does_not_change_a_hard_linked_file(tmp_path):
    # DVC links workspace files into its cache: writing in place would change the cache.
    cached, target = tmp_path / "cached", tmp_path / "target"
    cached.write_text("cached")
    target.hardlink_to(cached)
    atomic.write_text(target, "new")
    assert (cached.read_text(), target.read_text()) == ("cached", "new")


def test_temporaries_of_a_killed_process_are_deleted(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from lib.run import atomic\n"
        "with atomic.new_directory(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'half').touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    target = tmp_path / "out"
    subprocess.run([sys.executable, "-c", script, target], check=False)
    assert not target.exists() and len(list(tmp_path.iterdir())) == 1
    with atomic.new_directory(target):
        pass
    assert list(tmp_path.iterdir()) == [target]


def _kill_while_writing(target: Path) -> Path:
    """The temporary file that a killed process leaves next to `target`."""
    script = (
        "import os, signal, sys; from pathlib import Path; from lib.run import atomic\n"
        "with atomic.new_file(Path(sys.argv[1])) as temporary:\n"
        "    temporary.touch(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, target], check=False)
    (leftover,) = target.parent.iterdir()
    return leftover


def test_concurrent_writers_of_the_same_file_do_not_interfere(tmp_path):
    target = tmp_path / "file"
    with atomic.new_file(target) as one:
        one.write_text("one")
        with atomic.new_file(target) as two:
            two.write_text("two")
        assert target.read_text() == "two" and one.read_text() == "one"
    assert target.read_text() == "one"
    assert list(tmp_path.iterdir()) == [target]


def test_temporaries_of_another_machine_are_kept_for_a_day(tmp_path):
    target = tmp_path / "file"
    leftover = _kill_while_writing(target)
    machine = leftover.name.rpartition(".tmp-")[2].partition("-")[0]
    foreign = leftover.rename(tmp_path / leftover.name.replace(machine, "0" * 8))
    atomic.write_text(target, "")
    assert foreign.exists()
    os.utime(foreign, (0, time.time() - 90_000))
    atomic.write_text(target, "")
    assert not foreign.exists()


def test_a_finished_folder_has_no_temporaries(tmp_path):
    target = tmp_path / "folder"
    with atomic.new_directory(target) as temporary:
        (temporary / "train").mkdir()
        # Left by a killed worker, possibly on another machine; another worker did its task.
        leftover = _kill_while_writing(temporary / "train/0.txt")
        leftover.rename(leftover.with_name(leftover.name.replace("0.txt", "1.txt")))
        (temporary / "train/.hidden.tmp-of-the-user").touch()
        atomic.write_text(temporary / "train/0.txt", "")
    names = sorted(path.name for path in (target / "train").iterdir())
    assert names == [".hidden.tmp-of-the-user", "0.txt"]


def test_a_late_writer_does_not_recreate_a_finished_folder(tmp_path):
    target = tmp_path / "folder"
    with atomic.new_directory(target) as temporary:
        late = atomic.new_file(temporary / "train/0.txt")
        with late as path:
            path.touch()
        later = atomic.new_file(temporary / "train/1.txt")
        path = later.__enter__()
        path.touch()
    with pytest.raises(FileNotFoundError):
        later.__exit__(None, None, None)
    with pytest.raises(FileNotFoundError, match="the run that writes it has ended"):
        atomic.write_text(temporary / "train/2.txt", "")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "train", "0.txt"]


def test_random_streams_depend_on_every_part_of_their_key_and_nothing_else():
    draws = {
        name: random.generator(*key).integers(1 << 60)
        for name, key in {
            "base": (1, "mask", 0, 0),
            "again": (1, "mask", 0, 0),
            "seed": (2, "mask", 0, 0),
            "purpose": (1, "pairs", 0, 0),
            "shard": (1, "mask", 1, 0),
            "pass": (1, "mask", 0, 1),
        }.items()
    }
    assert draws.pop("again") == draws["base"]
    assert len(set(draws.values())) == len(draws)


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=200), st.integers(0, 2**40))
def test_distinct_ordinals_have_distinct_hashes(ordinals, seed):
    hashes = random.hashes(seed, "test", np.array(ordinals, np.uint64))
    assert len(np.unique(hashes)) == len(ordinals)


def test_hashes_are_uniform():
    hashes = random.hashes(7, "test", np.arange(100_000, dtype=np.uint64))
    counts = np.bincount((hashes >> np.uint64(60)).astype(int), minlength=16)
    # Chi-squared with 15 degrees of freedom: 37.7 is the 0.1 % tail.
    assert ((counts - 6250.0) ** 2 / 6250.0).sum() < 37.7


def test_metrics_are_valid_json_even_with_infinities(tmp_path):
    path = tmp_path / "deep" / "metrics.json"
    write_metrics(path, {"loss": float("nan"), "share": 1 / 3, "count": 10**12, "nested": {"a": 1}})
    assert json.loads(path.read_text(), parse_constant=lambda _: pytest.fail("not JSON"))
    assert read_metrics(path) == {
        "loss": None,
        "share": 0.333333,
        "count": 10**12,
        "nested": {"a": 1},
    }


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (59, "59 s"), (187, "3:07"), (7387, "2:03:07")]
)
def test_durations_are_formatted(seconds, shown):
    assert duration(seconds) == shown


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


@pytest.mark.parametrize("by_kernel", [True, False])
def test_copy_range_appends_a_range(tmp_path, monkeypatch, by_kernel):
    if not by_kernel:  # As between some file systems.

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    monkeypatch.setattr(copying, "_COPY_BYTES", 7)
    data = bytes(range(256))
    (tmp_path / "source").write_bytes(data)
    with (
        (tmp_path / "source").open("rb", buffering=0) as source,
        (tmp_path / "target").open("wb", buffering=0) as target,
    ):
        target.write(b"before")
        copying.copy_range(source, 10, 100, target)
        copying.copy_range(source, 200, 256, target)
        with pytest.raises(OSError, match="ended at byte 256"):
            copying.copy_range(source, 250, 300, target)
    expected = b"before" + data[10:100] + data[200:] + data[250:]
    assert (tmp_path / "target").read_bytes() == expected
