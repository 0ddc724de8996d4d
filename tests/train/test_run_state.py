"""State of a run: nothing that is not finite gets into a checkpoint."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from lib.params import parse_params
from lib.run.errors import UserError
from lib.train.run_state import RunState
from lib.train.saving import checkpoint


def run_state(values: dict, folder: Path, weights: np.ndarray) -> RunState:
    """The state of a run with these weights, of one worker."""
    state = {"weights": weights}
    best = {"best/step": np.array(0), "best/loss": np.array(math.inf)}  # before an evaluation
    return RunState(
        SimpleNamespace(state=lambda: state),
        parse_params(values).pretrain,
        SimpleNamespace(state=lambda: best, digests={}),
        SimpleNamespace(index=0, count=1, broadcast=lambda arrays: arrays),
        folder / "run",
        folder / "logs",
        copies=None,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_checkpoint_that_is_not_finite_is_not_written(values, tmp_path, value):
    weights = np.ones([2, 3], np.float32)
    state = run_state(values, tmp_path, weights)
    state.save(10)
    weights[1, 2] = value
    with pytest.raises(UserError, match=r"^step 20: .*weights is not finite.* of step 10$"):
        state.save(20)
    assert checkpoint.steps(tmp_path / "run") == [10]


def test_no_checkpoint_is_written_after_too_many_skipped_steps(values, tmp_path):
    state = run_state(values, tmp_path, np.ones([2, 3], np.float32))
    state.add(29, {"skipped": tf.constant(9.0), "consecutive_skips": tf.constant(9.0)})
    state.save(29)
    state.add(30, {"skipped": tf.constant(1.0), "consecutive_skips": tf.constant(10.0)})
    for refused in (
        lambda: state.save(30),
        state.sums_since_log,
        lambda: state.add(31, {"skipped": tf.constant(0.0), "consecutive_skips": tf.constant(0.0)}),
    ):
        with pytest.raises(UserError, match=r"^step 30: .* the last 10 steps"):
            refused()
    assert checkpoint.steps(tmp_path / "run") == [29]
