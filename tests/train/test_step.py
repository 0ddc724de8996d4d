"""The training step: lower precision, several steps per call."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from lib.model.parameters import initial_values
from lib.params import parse_params
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from tests.helpers.tiny_bert import TINY, random_batch


def trainer(values: dict, **changes) -> Trainer:
    values["pretrain"] |= {"batch_size": 8, "warmup_steps": 0, **changes}
    config = replace(TINY, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    settings = parse_params(values).pretrain
    return Trainer(config, settings, True, initial_values(config, 1), make_strategy("one"))


def losses(one: Trainer, steps: int) -> list[float]:
    batch = random_batch(1, sequences=8)
    found = []
    for number in range(1, steps + 1):
        results = one.step(batch, tf.constant(number), tf.constant(0.01))
        found.append(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
    return found


def test_lower_precision_learns_as_float32_does(values):
    exact = losses(trainer(values), 25)
    assert exact[-1] < 0.7 * exact[0]
    for precision in ("bfloat16", "float16"):
        rough = losses(trainer(values, precision=precision), 25)
        assert rough != exact
        np.testing.assert_allclose(rough, exact, rtol=0.05, atol=0.05)


def test_a_step_with_float16_overflow_is_skipped_and_the_loss_scale_halved(values):
    one = trainer(values, precision="float16")
    before = one.state()
    scale = before["scaling/scale"]
    one.restore(before | {"scaling/scale": np.float32(2.0**24)})
    results = one.step(random_batch(1, sequences=8), tf.constant(1), tf.constant(0.01))
    assert float(results["skipped"]) == 1
    after = one.state()
    assert after["scaling/scale"] == 2.0**23
    for name, values_before in before.items():
        if not name.startswith("scaling/"):
            assert np.array_equal(after[name], values_before), name
    one.restore(after | {"scaling/scale": scale, "scaling/since": np.float32(1999)})
    results = one.step(random_batch(1, sequences=8), tf.constant(1), tf.constant(0.01))
    assert float(results["skipped"]) == 0
    assert one.state()["scaling/scale"] == 2 * scale
    assert one.state()["scaling/since"] == 0


def test_several_steps_in_one_call_equal_single_steps(values):
    batches = [random_batch(seed, sequences=8) for seed in range(5)]
    rates = [0.01, 0.02, 0.03, 0.02, 0.01]

    def dataset() -> tf.data.Dataset:
        whole = {name: tf.stack([batch[name] for batch in batches]) for name in batches[0]}
        return tf.data.Dataset.from_tensor_slices(whole)

    one = trainer(values)
    each = [
        one.step(batch, tf.constant(number), tf.constant(rates[number - 1]))
        for number, batch in enumerate(batches, 1)
    ]
    several = trainer(values)
    iterator = iter(dataset())
    no = tf.constant(0.0)
    first = several.steps(iterator, tf.constant(1), tf.constant(rates[:3]), no, tf.constant(3))
    rest = several.steps(
        iterator, tf.constant(4), tf.constant([*rates[3:], 9.9]), no, tf.constant(2)
    )
    for name, value in one.weights().items():
        np.testing.assert_allclose(several.weights()[name], value, rtol=1e-6, err_msg=name)
    for name in ("masked_lm_loss", "gradient_norm", "tokens"):
        expected = sum(float(results[name]) for results in each)
        assert float(first[name]) + float(rest[name]) == pytest.approx(expected, rel=1e-5)
