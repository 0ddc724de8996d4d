"""Training settings of a phase, and the number of its optimizer steps."""

import math
from typing import Protocol, TypeVar

from pydantic import BaseModel

Settings = TypeVar("Settings", bound=BaseModel)


class RunSettings(Protocol):
    """Settings that decide how long a run is.

    Attributes:
        steps: optimizer steps, or None.
        epochs: passes over the training sequences, where steps is None.
        batch_size: sequences per optimizer step.
        warmup_steps: steps; below 1, a fraction of all steps.
    """

    @property
    def steps(self) -> int | None: ...
    @property
    def epochs(self) -> float | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def warmup_steps(self) -> float: ...


def training_settings(pretrain: Settings, phase: BaseModel) -> Settings:
    """The settings of one phase: those of `pretrain`, with the keys that the phase sets.

    A phase that sets steps replaces inherited epochs, and vice versa: with
    `pretrain: {steps: 8000, epochs: null}` and `phase: {epochs: 3}` steps is None.

    Raises:
        ValueError: the phase sets both.
    """
    own = phase.model_dump(include=set(type(pretrain).model_fields), exclude_none=True)
    if "steps" in own and "epochs" in own:
        raise ValueError("should be null where steps are given")
    if "epochs" in own:
        own["steps"] = None
    elif "steps" in own:
        own["epochs"] = None
    return pretrain.model_copy(update=own)


def run_length(settings: RunSettings, sequences: int) -> tuple[int, int]:
    """Optimizer steps of a run, and of its warm-up.

    Args:
        sequences: training sequences in the records; epochs are counted in them.

    Raises:
        ValueError: no steps are left after the warm-up.
    """
    steps = settings.steps or math.ceil((settings.epochs or 0) * sequences / settings.batch_size)
    warmup = settings.warmup_steps if settings.warmup_steps >= 1 else settings.warmup_steps * steps
    if round(warmup) >= steps:
        raise ValueError(f"should be below the {steps} steps")
    return steps, round(warmup)
