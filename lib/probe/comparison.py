"""Comparison of models and baselines on one task: scores per run, mean ± deviation over seeds.

A run is a row: `model`, its name among those compared; `seed`, 0 for a baseline that depends on
none; the result of `lib.probe.scores.scores`; and `train_loss`, the mean loss of the last epoch in
nats, None for a baseline without a network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

SCORES = ("f1_macro", "f1_micro", "accuracy")
Run = Mapping[str, Any]


def scores_by_run(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: model, seed, scores, training loss."""
    return pd.DataFrame(runs)[["model", "seed", *SCORES, "train_loss"]]


def scores_by_class(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per model and class: the mean F1 over the seeds."""
    rows = []
    for model, own in pd.DataFrame(runs).groupby("model", sort=False):
        # A class that the test part lacks is missing in runs that never predict it.
        means = pd.DataFrame(own["f1_by_class"].tolist()).fillna(0.0).mean().sort_index()
        rows += [{"model": model, "class": name, "f1": f1} for name, f1 in means.items()]
    return pd.DataFrame(rows)


def summarize(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Model -> mean of each score, and its standard deviation as `<score>_sd`.

    It is the sample standard deviation, with n - 1; None for a single seed.
    """
    summary: dict[str, dict[str, Any]] = {}
    for model, own in pd.DataFrame(runs).groupby("model", sort=False):
        values = summary[str(model)] = {}
        for name in SCORES:
            values[name] = own[name].mean()
            values[f"{name}_sd"] = own[name].std() if len(own) > 1 else None
    return summary


def better_without_pretraining(summary: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the baselines without pretraining whose macro F1 is not below that of `model`."""
    return [
        name
        for name, values in summary.items()
        if name not in ("model", "baseline") and values[SCORES[0]] >= summary["model"][SCORES[0]]
    ]


def format_summary(summary: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The summary as a table to print: one row per model, cells such as `0.812 ± 0.011`."""

    def cell(values: Mapping[str, Any], name: str) -> str:
        deviation = values[f"{name}_sd"]
        return f"{values[name]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")

    return pd.DataFrame(
        {name: [cell(values, name) for values in summary.values()] for name in SCORES},
        index=list(summary),
    )
