"""Several models on one task: every run as a row, and mean ± deviation over the seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import pandas as pd

SCORES = ("f1_macro", "f1_micro", "accuracy")


@dataclass(frozen=True)
class Run:
    """One model, fine-tuned once.

    Attributes:
        model: which of the models that are compared.
        scores: what `lib.probe.scores.scores` gives, and `train_loss` of the last epoch, in nats.
    """

    model: str
    seed: int
    scores: Mapping[str, Any]


def as_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a run: model, seed, scores, loss."""
    names = (*SCORES, "train_loss")
    return pd.DataFrame(
        [
            {"model": run.model, "seed": run.seed, **{name: run.scores[name] for name in names}}
            for run in runs
        ]
    )


def summary(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """By model: the mean of each score, and its standard deviation.

    The deviation is that of a sample, with n - 1; None for a single seed.
    """
    found: dict[str, dict[str, Any]] = {}
    for model in dict.fromkeys(run.model for run in runs):
        own = [run.scores for run in runs if run.model == model]
        values: dict[str, Any] = {}
        for name in SCORES:
            values[name] = fmean(each[name] for each in own)
            values[f"{name}_sd"] = stdev(each[name] for each in own) if len(own) > 1 else None
        found[model] = values
    return found


def by_class(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each model and class: the mean of its F1."""
    rows = []
    for model in dict.fromkeys(run.model for run in runs):
        own = [run.scores["f1_by_class"] for run in runs if run.model == model]
        # A class that is not in the test part is missing in runs that do not answer it.
        for name in sorted({name for each in own for name in each}):
            f1 = fmean(each.get(name, 0.0) for each in own)
            rows.append({"model": model, "class": name, "f1": f1})
    return pd.DataFrame(rows)


def table(means: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What `summary` gives for people: a row a model, cells such as `0.812 ± 0.011`."""

    def cell(values: Mapping[str, Any], name: str) -> str:
        deviation = values[f"{name}_sd"]
        return f"{values[name]:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")

    return pd.DataFrame(
        {name: [cell(values, name) for values in means.values()] for name in SCORES},
        index=list(means),
    )
