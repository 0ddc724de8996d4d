"""Loss checks: a run from scratch begins as it should and learns, and no run stays broken."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from lib.params import Pretrain
from lib.run.errors import UserError
from lib.train.step import SCALE_HALVINGS

_FIRST_LOSS_TOLERANCE = 0.15
# By then any model has learnt at least token frequencies.
_PATIENCE_STEPS = 1000
_STILL_GUESSING = 0.97
_MAX_CONSECUTIVE_SKIPS = 10


class LossChecks:
    """Compares the MLM loss, in nats, with the loss of uniform guessing, ln(vocabulary size)."""

    def __init__(self, vocab_size: int, warmup_steps: int) -> None:
        self._guessing = math.log(vocab_size)
        self._patience = max(_PATIENCE_STEPS, 2 * warmup_steps)

    def check_first_loss(self, loss: float) -> None:
        """Refuses weights that are not initial ones, and records of another vocabulary."""
        if not abs(loss / self._guessing - 1) <= _FIRST_LOSS_TOLERANCE:
            raise UserError(
                f"the first MLM loss is {loss:.2f}; from scratch it should be near ln(vocabulary "
                f"size) = {self._guessing:.2f}: were the records made with this vocabulary? Run "
                "dvc repro records"
            )

    def check_falling(self, step: int, loss: float) -> None:
        """Ends a run whose mean loss since the last line of the log is still that of guessing."""
        if step >= self._patience and loss > _STILL_GUESSING * self._guessing:
            raise UserError(
                f"the MLM loss is {loss:.2f} after {step:,} steps and does not fall (uniform "
                f"guessing has {self._guessing:.2f}); lower pretrain.learning_rate or raise "
                "pretrain.warmup_steps or batch_size"
            )


class SkippedSteps:
    """Ends a run in which step after step is skipped, as its loss or gradient is not finite."""

    def __init__(self, settings: Pretrain, checkpoint: Callable[[], int | None]) -> None:
        """`checkpoint` returns the step of the newest checkpoint, if there is one."""
        self._checkpoint, self._limit = checkpoint, _MAX_CONSECUTIVE_SKIPS
        remedies = ["lower pretrain.learning_rate", "raise pretrain.warmup_steps"]
        if settings.clip_norm is None:
            remedies.append("set pretrain.clip_norm to 1.0")
        if settings.precision == "float16":
            self._limit += SCALE_HALVINGS
            remedies.append("set pretrain.precision to bfloat16 or float32")
        self._remedies = ", or ".join(remedies)

    def check(self, step: int, consecutive: int) -> None:
        """Refuses too many consecutive skipped steps, the last of which is `step`."""
        if consecutive >= self._limit:
            where = "the records or the initial weights may be broken, or " * (consecutive >= step)
            raise UserError(
                f"step {step:,}: {where}training diverged: the loss or its gradient was not finite "
                f"in the last {consecutive} steps, which were skipped; {self._advice()}"
            )

    def check_finite(self, step: int, values: Mapping[str, np.ndarray | float]) -> None:
        """Refuses values of a step, about to be saved or logged, that are infinite or NaN."""
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise UserError(
                    f"step {step:,}: training diverged: {name} is not finite, and nothing is "
                    f"saved; {self._advice()}"
                )

    def _advice(self) -> str:
        newest, step = "there is no checkpoint yet", self._checkpoint()
        if step is not None:
            newest = f"the newest checkpoint, with finite weights, is of step {step:,}"
        return f"{self._remedies}; {newest}"
