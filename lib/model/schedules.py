"""Learning rate schedules: a linear warm-up, the peak for a while if asked for, then a decay.

`SCHEDULES` at the end of this file is the registry: params.yaml accepts its names and the trainer
takes its functions. To add a schedule, write its decay and add it there.
"""

import math
from collections.abc import Callable

Decay = Callable[[float, float, float, float], float]
"""(fraction of the decay still to come, peak, end, power) -> learning rate.

The fraction falls from 1 (end of the warm-up) to 0 (last step); the rate from `peak` to `end`.
"""


def schedule(
    name: str,
    peak: float,
    end: float,
    warmup_steps: int,
    steps: int,
    power: float = 1.0,
    decay_steps: int | None = None,
) -> Callable[[int], float]:
    """The learning rate as a function of the optimizer step, which counts from 1.

    The rate rises in proportion to the step and is `peak` at step `warmup_steps`. The decay is
    measured on the steps after the warm-up, so that the two meet without a jump, and is at `end`
    at step `steps` and beyond. With peak 1e-3, end 0, 10 steps of which 2 are warm-up, and
    linear decay:

        step   1       2     3         4        ...  10  11
        rate   0.5e-3  1e-3  0.875e-3  0.75e-3  ...  0   0

    With `decay_steps` 2, it stays at the peak until step 8 (warm-up, stable, decay):

        step   1       2     3     ...  8     9       10  11
        rate   0.5e-3  1e-3  1e-3  ...  1e-3  0.5e-3  0   0

    Args:
        name: one of `SCHEDULES`.
        peak: the highest rate.
        end: the rate of the last step, at most `peak`.
        warmup_steps: below `steps`; 0 for none.
        steps: of the whole run, warm-up included; at least 1.
        power: exponent of the polynomial, above 0.
        decay_steps: number of steps at the end over which the rate falls; at least 1 and at most
            the steps after the warm-up. None: all of these.

    Raises:
        ValueError: there is no schedule of that name.
    """
    if name not in SCHEDULES:
        raise ValueError(f"the schedule should be one of {', '.join(SCHEDULES)}, not {name!r}")
    decay = SCHEDULES[name]
    falling = steps - warmup_steps if decay_steps is None else decay_steps

    def rate(step: int) -> float:
        if step < warmup_steps:
            return peak * step / warmup_steps
        remaining = min(max(steps - step, 0), falling) / falling
        return decay(remaining, peak, end, power)

    return rate


def _polynomial(remaining: float, peak: float, end: float, power: float) -> float:
    """end + (peak - end) remaining^power. Power 1 is linear (NeMo's WarmupAnnealing)."""
    return _interpolate(remaining**power, peak, end)


def _cosine(remaining: float, peak: float, end: float, power: float) -> float:
    """end + (peak - end) (1 - cos(pi remaining)) / 2; NeMo's CosineAnnealing.

    Loshchilov and Hutter (2017), without restarts.
    """
    del power
    return _interpolate((1 - math.cos(math.pi * remaining)) / 2, peak, end)


def _square_root(remaining: float, peak: float, end: float, power: float) -> float:
    """peak sqrt(remaining), but never below `end`; NeMo's SquareRootAnnealing.

    There `remaining` is measured on all steps, which makes the rate jump down after a warm-up. Its
    SquareAnnealing, which has the square in place of the root, is polynomial with power 2 here.
    Neither is the inverse square root of the step (Vaswani et al., 2017), which never reaches an
    end.
    """
    del power
    return max(peak * math.sqrt(remaining), end)


def _one_minus_square_root(remaining: float, peak: float, end: float, power: float) -> float:
    """end + (peak - end) (1 - sqrt(1 - remaining)): "1-sqrt" of Hägele et al. (2024).

    It falls fast at first, and ends slowly.
    """
    del power
    return _interpolate(1 - math.sqrt(1 - remaining), peak, end)


def _constant(remaining: float, peak: float, end: float, power: float) -> float:
    """The peak; there is no `end`."""
    del remaining, end, power
    return peak


def _interpolate(fraction: float, peak: float, end: float) -> float:
    # Exact at both ends, which end + fraction * (peak - end) is not.
    return fraction * peak + (1 - fraction) * end


SCHEDULES: dict[str, Decay] = {
    "polynomial": _polynomial,
    "cosine": _cosine,
    "square_root": _square_root,
    "one_minus_sqrt": _one_minus_square_root,
    "constant": _constant,
}
"""The schedules by the names that `pretrain.schedule` accepts."""
