"""Learning rate by optimizer step: a linear warm-up, then one of several decays."""

import math
from collections.abc import Callable


def schedule(
    name: str, peak: float, end: float, warmup_steps: int, steps: int, power: float = 1.0
) -> Callable[[int], float]:
    """The learning rate as a function of the optimizer step, which counts from 1.

    The rate rises in proportion to the step and is `peak` at step `warmup_steps`. The decay is
    measured on the steps after the warm-up, so that the two meet without a jump, and is at `end`
    at step `steps` and beyond. With x the share of those steps that is still to come:

    - polynomial: end + (peak - end) x^power. Power 1 is linear (NeMo's WarmupAnnealing).
    - cosine: end + (peak - end) (1 - cos(pi x)) / 2 (Loshchilov and Hutter, 2017, without
      restarts; NeMo's CosineAnnealing).
    - square_root: peak sqrt(x), but never below `end` (NeMo's SquareRootAnnealing; there x is
      measured on all steps, which makes the rate jump down after a warm-up). With x^2 in place of
      the root it would be SquareAnnealing: for that take polynomial with power 2. Neither is the
      inverse square root of the step (Vaswani et al., 2017), which never reaches an end.
    - constant: peak; there is no `end`.

    Args:
        name: polynomial, cosine, square_root or constant.
        peak: the highest rate.
        end: the rate of the last step, at most `peak`.
        warmup_steps: below `steps`; 0 for none.
        steps: of the whole run, warm-up included; at least 1.
        power: of the polynomial, above 0.

    Raises:
        ValueError: there is no schedule of that name.
    """

    def between(share: float) -> float:
        # Exact at both ends, which end + share * (peak - end) is not.
        return share * peak + (1 - share) * end

    decays: dict[str, Callable[[float], float]] = {
        "polynomial": lambda x: between(x**power),
        "cosine": lambda x: between((1 - math.cos(math.pi * x)) / 2),
        "square_root": lambda x: max(peak * math.sqrt(x), end),
        "constant": lambda x: peak,
    }
    if name not in decays:
        raise ValueError(f"the schedule should be one of {', '.join(decays)}, not {name!r}")
    decay = decays[name]

    def rate(step: int) -> float:
        if step < warmup_steps:
            return peak * step / warmup_steps
        return decay(max(steps - step, 0) / (steps - warmup_steps))

    return rate
