"""The saved models of a phase, and the table that compares models by step and length."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lib.evaluation.metrics import METRICS

INITIAL_MODEL, BEST_MODEL = "initial", "best"


def saved_models(folder: Path, best_step: int) -> dict[str, int]:
    """The models that pretrain saved, with their steps, ordered by step.

    Args:
        folder: one folder for each model; the one that training started from, if any, has step 0.
        best_step: the step of the model with the lowest dev loss.
    """
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == INITIAL_MODEL:
            steps[INITIAL_MODEL] = 0
        elif path.name == BEST_MODEL:
            steps[BEST_MODEL] = best_step
        elif path.name.startswith("step-"):
            steps[path.name] = int(path.name.removeprefix("step-"))
    return dict(sorted(steps.items(), key=lambda item: (item[1], item[0])))


def comparison_table(lines: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One line per model and length: `model`, `step`, `length`, and the metrics it has."""
    columns = ["model", "step", "length", *(name for name in METRICS if name in lines[0])]
    return pd.DataFrame(lines)[columns]
