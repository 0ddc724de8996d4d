"""Loss checks: the first loss, and a loss that does not fall."""

import math

import pytest

from lib.run.errors import UserError
from lib.train.loss_checks import LossChecks


def test_the_first_loss_must_be_that_of_uniform_guessing():
    checks = LossChecks(30_000, 100)
    checks.check_first_loss(math.log(30_000) + 0.3)
    for loss in (5.0, 14.0, math.nan):
        with pytest.raises(UserError, match=r"from scratch it should be near .* 10\.31"):
            checks.check_first_loss(loss)


def test_a_loss_that_does_not_fall_stops_training():
    checks = LossChecks(30_000, 800)
    checks.check_falling(1599, 10.3)
    checks.check_falling(1600, 9.0)
    with pytest.raises(UserError, match=r"does not fall .*; lower pretrain\.learning_rate"):
        checks.check_falling(1600, 10.3)
