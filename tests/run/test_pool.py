"""Process pool: results in order, tasks of killed workers retried, errors reported."""

import os
import signal
from pathlib import Path

import pytest

from lib.run.errors import UserError
from lib.run.pool import choose_workers, shard_map


def square(number: int) -> int:
    return number * number


def die_once(marker: str) -> str:
    """Kills its own process the first time it is called for a marker."""
    path = Path(marker)
    if path.name.startswith("mortal") and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def die(task: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(task: str) -> None:
    raise UserError(f"{task}: not good")


def divide_by_zero(task: str) -> None:
    raise ZeroDivisionError(task)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_are_in_task_order(workers):
    assert shard_map(square, list(range(20)), workers, "test") == [n * n for n in range(20)]


def test_no_tasks_give_no_results():
    assert shard_map(square, [], 2, "test") == []


def test_the_task_of_a_killed_worker_is_retried(tmp_path):
    tasks = [str(tmp_path / name) for name in ("a", "mortal-b", "c", "mortal-d", "e")]
    assert shard_map(die_once, tasks, 2, "test") == ["a", "mortal-b", "c", "mortal-d", "e"]
    assert (tmp_path / "mortal-b").exists()


def test_a_task_that_always_kills_its_worker_is_named():
    with pytest.raises(UserError, match=r"shard-7: its worker died 3 times .* cluster\.workers"):
        shard_map(die, ["shard-7", "shard-7"], 2, "test")


def test_a_user_error_in_a_worker_is_raised_unchanged():
    with pytest.raises(UserError, match=r"shard-[12]: not good"):
        shard_map(refuse, ["shard-1", "shard-2"], 2, "test")


def test_an_unexpected_error_in_a_worker_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        shard_map(divide_by_zero, ["a", "b"], 2, "test")


def test_the_parameter_takes_precedence_over_the_variable(monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    assert choose_workers(3, None) == 3
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://there:1")
    assert choose_workers(3, None) == "tcp://there:1"
    assert choose_workers(3, "tcp://here:2") == "tcp://here:2"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "there")
    with pytest.raises(UserError, match=r"DASK_SCHEDULER_ADDRESS: should be .* tcp://host:8786"):
        choose_workers(3, None)
