"""Metrics that later stages need: what the check asks for is what evaluate and the card read."""

import json

import pytest

from lib.run.contracts import NEEDED_KEYS, check_metrics, read_needed
from lib.run.errors import UserError


def write(folder, stage: str, without: str = "") -> None:
    """Metrics with the keys that are needed, but one."""
    values: dict = {}
    for key in NEEDED_KEYS[stage.partition("/")[0]]:
        if key != without:
            *outer, last = key.split(".")
            inner = values
            for part in outer:
                inner = inner.setdefault(part, {})
            inner[last] = 1
    path = folder / stage / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values), encoding="utf-8")


@pytest.mark.parametrize("stage", ["preprocess", "vocab", "split", "records/main"])
def test_a_missing_key_is_named_by_the_next_stage(tmp_path, monkeypatch, stage):
    monkeypatch.chdir(tmp_path)
    for key in NEEDED_KEYS[stage.partition("/")[0]]:
        write(tmp_path / "results", stage, key)
        check_metrics(stage)  # Run by hand: it may be anything.
        with monkeypatch.context() as dvc:
            dvc.setenv("DVC_STAGE", "sample5M")
            with pytest.raises(UserError, match=f"results/{stage}/metrics.json: has no `{key}`"):
                check_metrics(stage)
    write(tmp_path / "results", stage)
    monkeypatch.setenv("DVC_STAGE", "sample5M")
    check_metrics(stage)
    assert read_needed(tmp_path / "results", stage)


def test_metrics_that_no_stage_writes_are_missed_and_those_not_pulled_are_not(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "split")
    (tmp_path / "dvc.yaml").write_text("metrics: [results/preprocess/metrics.json]")
    check_metrics("preprocess")
    with pytest.raises(UserError, match=r"dvc\.yaml: no stage writes results/split/metrics\.json"):
        check_metrics("split")
