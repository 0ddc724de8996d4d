"""Metrics files."""

import json

import pytest

from lib.run.metrics import read_metrics, write_metrics


def test_metrics_are_valid_json_even_with_infinities(tmp_path):
    path = tmp_path / "deep" / "metrics.json"
    write_metrics(
        path, {"loss": float("nan"), "fraction": 1 / 3, "count": 10**12, "nested": {"a": 1}}
    )
    assert json.loads(path.read_text(), parse_constant=lambda _: pytest.fail("not JSON"))
    assert read_metrics(path) == {
        "loss": None,
        "fraction": 0.333333,
        "count": 10**12,
        "nested": {"a": 1},
    }
