"""Throughput: rates, utilisation and memory, line by line."""

import pytest

from lib.train.logging.throughput import Throughput


def test_throughput_is_logged_and_continued_by_a_resumed_run(tmp_path):
    path = tmp_path / "cost/training.csv"

    def throughput(first: int) -> Throughput:
        return Throughput(path, first, 8, 5e9, lambda: 1e12)

    one = throughput(0)
    shown = one.log(10, 100.0)
    one.log(20, 100.0)
    throughput(20).log(30, 50.0)
    heading, *lines = path.read_text(encoding="utf-8").splitlines()
    rows = [
        dict(zip(heading.split(","), map(float, line.split(",")), strict=True)) for line in lines
    ]
    assert [row["step"] for row in rows] == [10, 20, 30]
    for row, tokens in zip(rows, (100, 100, 50), strict=True):
        steps = row["steps_per_second"]
        assert row["sequences_per_second"] == pytest.approx(8 * steps, rel=0.01, abs=0.1)
        assert row["tokens_per_second"] == pytest.approx(tokens * steps, rel=0.01, abs=1)
        assert row["flops_per_second"] == pytest.approx(5e9 * steps, rel=0.01)
        assert row["fraction_of_peak"] == pytest.approx(5e-3 * steps, rel=0.01, abs=1e-4)
        assert 10 < row["memory_mib"] < 100_000
    speed, fraction = rows[0]["tokens_per_second"], rows[0]["fraction_of_peak"]
    assert shown == f"{speed:,.0f} tokens/s ({fraction:.0%} of peak)"
