"""Every model of a phase at every length that is asked for, as one table."""

from pathlib import Path
from typing import Any

import pandas as pd

from lib.checkpoints.huggingface import read_model
from lib.evaluation.evaluator import Evaluator
from lib.run.errors import UserError

INITIAL, BEST = "initial", "best"
_COLUMNS = (
    "model",
    "step",
    "length",
    "bits_per_character",
    "mlm_loss",
    "mlm_perplexity",
    "mlm_accuracy",
    "mlm_accuracy_at_5",
    "word_accuracy",
)


def saved_models(folder: Path, best_step: int) -> dict[str, int]:
    """The models that pretrain kept, and their steps, in the order of these.

    Args:
        folder: with a folder for each model; the one it started from, if any, is of step 0.
        best_step: of the model of the lowest dev loss.
    """
    steps = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == INITIAL:
            steps[INITIAL] = 0
        elif path.name == BEST:
            steps[BEST] = best_step
        elif path.name.startswith("step-"):
            steps[path.name] = int(path.name.removeprefix("step-"))
    return dict(sorted(steps.items(), key=lambda item: (item[1], item[0])))


def read_evaluator(model: Path, longest: int, next_sentence: bool) -> Evaluator:
    """A model to ask.

    Args:
        longest: tokens of the longest rows that it will be asked about.

    Raises:
        UserError: it has fewer positions.
    """
    config, weights = read_model(model)
    if longest > config.max_position_embeddings:
        raise UserError(
            f"evaluate.lengths: {longest} is more than the {config.max_position_embeddings} "
            f"positions of {model}; take it out"
        )
    return Evaluator(config, weights, next_sentence)


def table(lines: list[dict[str, Any]]) -> pd.DataFrame:
    """One line a model and length: `model`, `step`, `length` and its metrics."""
    columns = [*_COLUMNS, *(name for name in ("nsp_loss", "nsp_accuracy") if name in lines[0])]
    return pd.DataFrame(lines)[columns]
