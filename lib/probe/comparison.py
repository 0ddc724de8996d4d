"""Comparison of models and baselines on one task: scores per run, mean ± deviation over seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

SCORES = ("f1_macro", "f1_micro", "accuracy")


@dataclass(frozen=True)
class Run:
    """One fine-tuning run of one model, or a baseline.

    Attributes:
        model: name of the model among those compared.
        seed: 0 for a baseline that depends on none.
        scores: the result of `lib.probe.scores.scores`, and `train_loss`: the mean loss of the last
            epoch, in nats; None for a baseline without a network.
    """

    model: str
    seed: int
    scores: Mapping[str, Any]


def scores_by_run(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: model, seed, scores, training loss."""
    names = (*SCORES, "train_loss")
    return pd.DataFrame(
        [
            {"model": run.model, "seed": run.seed, **{name: run.scores[name] for name in names}}
            for run in runs
        ]
    )


def scores_by_class(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per model and class: the mean F1 over the seeds."""
    rows = []
    for model, scores in _scores_by_model(runs).items():
        f1_by_class = [each["f1_by_class"] for each in scores]
        # A class that the test part lacks is missing in runs that never predict it.
        for name in sorted({name for each in f1_by_class for name in each}):
            f1 = fmean(each.get(name, 0.0) for each in f1_by_class)
            rows.append({"model": model, "class": name, "f1": f1})
    return pd.DataFrame(rows)


def summarize(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Model -> mean of each score, and its standard deviation as `<score>_sd`.

    It is the sample standard deviation, with n - 1; None for a single seed.
    """
    summary: dict[str, dict[str, Any]] = {}
    for model, scores in _scores_by_model(runs).items():
        values: dict[str, Any] = {}
        for name in SCORES:
            values[name] = fmean(each[name] for each in scores)
            values[f"{name}_sd"] = stdev(each[name] for each in scores) if len(scores) > 1 else None
        summary[model] = values
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


def _scores_by_model(runs: Sequence[Run]) -> dict[str, list[Mapping[str, Any]]]:
    """Model -> scores of its runs, both in the order of the runs."""
    scores: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        scores.setdefault(run.model, []).append(run.scores)
    return scores
