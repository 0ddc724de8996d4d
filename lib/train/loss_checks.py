"""Two questions to a training run from scratch: does it begin where it must, and does it learn?"""

import math

from lib.run.errors import UserError

_FIRST_LOSS_TOLERANCE = 0.15
# By then any model knows at least which pieces are frequent.
_PATIENCE_STEPS = 1000
_STILL_GUESSING = 0.97


class Sanity:
    """Checks of the MLM loss, in nats, against that of guessing: ln(vocabulary)."""

    def __init__(self, vocab_size: int, warmup_steps: int) -> None:
        self._guessing = math.log(vocab_size)
        self._patience = max(_PATIENCE_STEPS, 2 * warmup_steps)

    def check_first(self, loss: float) -> None:
        """The first step's loss.

        Raises:
            UserError: the weights are not those of a fresh model, or the records not of this
                vocabulary.
        """
        if not abs(loss / self._guessing - 1) <= _FIRST_LOSS_TOLERANCE:
            raise UserError(
                f"the first MLM loss is {loss:.2f}; from scratch it should be near ln(vocabulary) "
                f"= {self._guessing:.2f}: are the records of this vocabulary? Run dvc repro records"
            )

    def check_falls(self, step: int, loss: float) -> None:
        """The mean loss of the last steps.

        Raises:
            UserError: it is still that of guessing after many steps.
        """
        if step >= self._patience and loss > _STILL_GUESSING * self._guessing:
            raise UserError(
                f"the MLM loss is {loss:.2f} after {step:,} steps, that of guessing is "
                f"{self._guessing:.2f}: it does not move; lower pretrain.learning_rate or raise "
                "pretrain.warmup_steps or batch_size"
            )
