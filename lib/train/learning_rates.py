"""The learning rate of each step of a run, by its settings."""

from collections.abc import Callable

from lib.model.schedules import schedule
from lib.params import Pretrain
from lib.run.phases import decay_length


def learning_rates(settings: Pretrain, steps: int, warmup_steps: int) -> Callable[[int], float]:
    """The learning rate as a function of the step, which counts from 1.

    `steps` and `warmup_steps` are those of `lib.run.phases.run_length`. A ValueError if the decay
    is longer than the steps after the warm-up.
    """
    return schedule(
        settings.schedule,
        settings.learning_rate,
        settings.end_learning_rate,
        warmup_steps,
        steps,
        settings.power,
        decay_length(settings, steps, warmup_steps),
    )
