"""Where tasks run; tests/run/test_dask_pool.py has the contract for all of it."""

import pytest

from lib.run.errors import UserError
from lib.run.pool import choose_workers, shard_map
from tests.helpers.worker_tasks import die_when_idle, square


@pytest.mark.parametrize("workers", [1, 5])
def test_results_are_in_task_order(workers):
    assert shard_map(square, list(range(20)), workers, "test") == [n * n for n in range(20)]


def test_the_task_of_a_worker_that_dies_afterwards_is_not_run_again(tmp_path):
    assert shard_map(die_when_idle, [tmp_path / "mortal", tmp_path / "b"], 2, "test") == [1, 0]
    assert (tmp_path / "mortal").read_text() == "x"


def test_the_parameter_takes_precedence_over_the_variable(monkeypatch):
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    assert choose_workers(3, None) == 3
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tcp://there:1")
    assert choose_workers(3, None) == "tcp://there:1"
    assert choose_workers(3, "tcp://here:2") == "tcp://here:2"
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "there")
    with pytest.raises(UserError, match=r"DASK_SCHEDULER_ADDRESS: should be .* tcp://host:8786"):
        choose_workers(3, None)
