"""Learning rate by optimizer step."""

from collections.abc import Callable


def linear(peak: float, end: float, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """Linear warm-up to `peak`, then linear decay to `end`; they meet without a jump.

    Steps count from 1. Step `warmup_steps` has the peak rate, step `steps` the end rate.
    """

    def rate(step: int) -> float:
        if step < warmup_steps:
            return peak * step / warmup_steps
        done = (step - warmup_steps) / max(steps - warmup_steps, 1)
        return peak + (end - peak) * min(done, 1.0)

    return rate
