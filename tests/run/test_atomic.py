"""Atomic files and folders: failures, killed processes, concurrent writers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lib.run import atomic


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


def test_a_temporary_of_an_earlier_process_with_the_same_id_is_deleted(tmp_path):
    """As of a container that was started again."""
    target = tmp_path / "file"
    leftover = _kill_while_writing(target)
    machine, _, rest = leftover.name.rpartition(".tmp-")[2].split("-", 2)
    leftover.rename(tmp_path / f".file.tmp-{machine}-{os.getpid()}-{rest}")
    with atomic.new_file(target) as own:
        own.touch()
        atomic.write_text(target, "")
        assert sorted(tmp_path.iterdir()) == sorted([own, target])


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
