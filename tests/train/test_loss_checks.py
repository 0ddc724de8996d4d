"""Loss checks: the first loss, and a loss that does not fall."""

import math

import numpy as np
import pytest

from lib.params import parse_params
from lib.run.errors import UserError
from lib.train.loss_checks import LossChecks, SkippedSteps


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


def skipped_steps(values: dict, checkpoint: int | None = None, **changes) -> SkippedSteps:
    values["pretrain"] |= changes
    return SkippedSteps(parse_params(values).pretrain, lambda: checkpoint)


def test_too_many_consecutive_skipped_steps_stop_training(values):
    skipped_steps(values).check(1009, 9)
    with pytest.raises(UserError) as failure:
        skipped_steps(values, 1000).check(1010, 10)
    message = str(failure.value)
    assert message.startswith("step 1,010: training diverged: ") and "the last 10 steps" in message
    assert "lower pretrain.learning_rate, or raise pretrain.warmup_steps; " in message
    assert message.endswith("the newest checkpoint, with finite weights, is of step 1,000")
    with pytest.raises(UserError, match=r"records or the initial weights .* no checkpoint yet$"):
        skipped_steps(values).check(10, 10)
    with pytest.raises(UserError, match=r"set pretrain\.clip_norm to 1\.0"):
        skipped_steps(values, clip_norm=None).check(1010, 10)


def test_the_loss_scale_may_fall_all_the_way_before_training_stops(values):
    checks = skipped_steps(values, precision="float16")
    halvings = 24  # from 2^24 to 1
    checks.check(halvings + 1, halvings + 1)
    with pytest.raises(UserError, match=r"set pretrain\.precision to bfloat16 or float32"):
        checks.check(halvings + 10, halvings + 10)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_values_that_are_not_finite_are_not_saved(values, value):
    checks = skipped_steps(values, 4)
    good = np.arange(3.0)
    checks.check_finite(7, {"one": good, "two": 2.0})
    with pytest.raises(UserError, match=r"^step 7: .*: two is not finite.* of step 4$"):
        checks.check_finite(7, {"one": good, "two": np.array([1, value])})
