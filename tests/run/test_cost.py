"""Cost of a stage: of this process, and of earlier ones that it resumes."""

import time

from lib.run.cost import Cost
from lib.run.metrics import read_metrics


def test_a_resumed_run_adds_the_cost_of_earlier_processes(tmp_path):
    path = tmp_path / "cost.json"
    (tmp_path / "earlier.json").write_text(
        '{"wall_seconds": 100, "cpu_seconds": 50.5, "peak_memory_mib": 1e6}'
    )
    cost = Cost()
    time.sleep(0.01)
    own = cost.values()
    assert own["wall_seconds"] >= 0.01 and own["cpu_seconds"] > 0
    cost.resume(tmp_path / "earlier.json")
    cost.write(path)
    total = read_metrics(path)
    # The file has six significant digits.
    for name, earlier in (("wall_seconds", 100), ("cpu_seconds", 50.5)):
        assert own[name] + earlier - 0.01 < total[name] < own[name] + earlier + 10, name
    assert total["peak_memory_mib"] == 1e6


def test_without_a_readable_file_nothing_is_added(tmp_path):
    cost = Cost()
    for name, text in (("damaged", "{"), ("other", "[1]"), ("partial", '{"wall_seconds": 5}')):
        (tmp_path / name).write_text(text)
        cost.resume(tmp_path / name)
    cost.resume(tmp_path / "missing")
    assert cost.values()["wall_seconds"] < 5
