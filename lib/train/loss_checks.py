"""Loss checks of training from scratch: the initial loss is right, and it falls."""

import math

from lib.run.errors import UserError

_FIRST_LOSS_TOLERANCE = 0.15
# By then any model has learnt at least token frequencies.
_PATIENCE_STEPS = 1000
_STILL_GUESSING = 0.97


class LossChecks:
    """Compares the MLM loss, in nats, with the loss of uniform guessing, ln(vocabulary size)."""

    def __init__(self, vocab_size: int, warmup_steps: int) -> None:
        self._guessing = math.log(vocab_size)
        self._patience = max(_PATIENCE_STEPS, 2 * warmup_steps)

    def check_first_loss(self, loss: float) -> None:
        """Checks the loss of the first step.

        Raises:
            UserError: the weights are not initial ones, or the records are of another vocabulary.
        """
        if not abs(loss / self._guessing - 1) <= _FIRST_LOSS_TOLERANCE:
            raise UserError(
                f"the first MLM loss is {loss:.2f}; from scratch it should be near ln(vocabulary "
                f"size) = {self._guessing:.2f}: were the records made with this vocabulary? Run "
                "dvc repro records"
            )

    def check_falling(self, step: int, loss: float) -> None:
        """Checks the mean loss since the last line of the log.

        Raises:
            UserError: after many steps it is still the loss of guessing.
        """
        if step >= self._patience and loss > _STILL_GUESSING * self._guessing:
            raise UserError(
                f"the MLM loss is {loss:.2f} after {step:,} steps and does not fall (uniform "
                f"guessing has {self._guessing:.2f}); lower pretrain.learning_rate or raise "
                "pretrain.warmup_steps or batch_size"
            )
