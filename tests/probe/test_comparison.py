"""Means and standard deviations over seeds."""

import pytest

from lib.probe.comparison import (
    Run,
    format_summary,
    scores_by_class,
    scores_by_run,
    summarize,
)


def test_means_and_sample_standard_deviations():
    def run(model: str, seed: int, score: float, **by_class: float) -> Run:
        values = dict.fromkeys(("f1_macro", "f1_micro", "accuracy"), score)
        named = {"model": model, "seed": seed, "f1_by_class": by_class, "train_loss": 0.5}
        return {**named, **values}

    runs = [run("model", 1, 0.5, a=1.0), run("model", 2, 0.7, a=0.5, b=0.5), run("other", 1, 0.9)]
    summary = summarize(runs)
    assert summary["model"]["f1_macro"] == pytest.approx(0.6)
    # Two values, each 0.1 from their mean: the root of 2 x 0.1² / (2 - 1).
    assert summary["model"]["f1_macro_sd"] == pytest.approx(0.02**0.5)
    assert scores_by_class(runs).values.tolist() == [["model", "a", 0.75], ["model", "b", 0.25]]
    assert summary["other"]["accuracy_sd"] is None
    assert format_summary(summary).loc["model", "f1_macro"] == "0.600 ± 0.141"
    assert format_summary(summary).loc["other", "accuracy"] == "0.900"
    assert scores_by_run(runs)["f1_micro"].tolist() == [0.5, 0.7, 0.9]
