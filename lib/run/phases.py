"""Training settings of a phase, and the number of its optimizer steps."""

import math
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel

from lib.run.paths import STATES

Settings = TypeVar("Settings", bound=BaseModel)


class RunSettings(Protocol):
    """Settings that decide how long a run and the parts of its schedule are."""

    steps: int | None  # optimizer steps
    epochs: float | None  # passes over the training sequences, where steps is None
    batch_size: int  # sequences per optimizer step
    warmup_steps: float  # steps; below 1, a fraction of all steps
    decay_steps: float | None  # the same; None: all after the warm-up


def training_settings(pretrain: Settings, phase: BaseModel) -> Settings:
    """The settings of one phase: those of `pretrain`, with the keys that the phase sets.

    A phase that sets steps replaces inherited epochs, and vice versa: with
    `pretrain: {steps: 8000, epochs: null}` and `phase: {epochs: 3}` steps is None. A phase that
    starts from the state of another one has no warm-up unless it sets one itself.

    Raises:
        ValueError: the phase sets both.
    """
    own = own_values(pretrain, phase)
    if "steps" in own and "epochs" in own:
        raise ValueError("should be null where steps are given")
    if "epochs" in own:
        own["steps"] = None
    elif "steps" in own:
        own["epochs"] = None
    if "warmup_steps" not in own and starts_from_state(getattr(phase, "init", "")):
        own["warmup_steps"] = 0
    return pretrain.model_copy(update=own)


def starts_from_state(init: str) -> bool:
    """Whether initial weights come with a training state: `models/state/PHASE`."""
    return PurePosixPath(init).is_relative_to(STATES)


def overridden(section: Settings, phase: BaseModel) -> Settings:
    """A section of params.yaml with the values that a phase sets itself.

    With `records: {masked_lm_prob: 0.15}` and `phase: {masked_lm_prob: 0.3}` it has 0.3.
    """
    return section.model_copy(update=own_values(section, phase))


def own_values(section: BaseModel, phase: BaseModel) -> dict[str, Any]:
    """The values of a section's keys that a phase sets itself."""
    return phase.model_dump(include=set(type(section).model_fields), exclude_none=True)


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


def decay_length(settings: RunSettings, steps: int, warmup_steps: int) -> int | None:
    """Number of steps at the end over which the learning rate falls; None: all after the warm-up.

    Args:
        steps, warmup_steps: what `run_length` returned.

    Raises:
        ValueError: there are not so many after the warm-up.
    """
    if settings.decay_steps is None:
        return None
    if settings.decay_steps >= 1:
        decay = round(settings.decay_steps)
    else:
        decay = max(1, round(settings.decay_steps * steps))
    if decay > steps - warmup_steps:
        raise ValueError(f"should be at most the {steps - warmup_steps} steps after the warm-up")
    return decay
