"""The training step: lower precision, skipped steps, several steps per call, compilation."""

import math

import numpy as np
import pytest
import tensorflow as tf

from lib.model.initialization import initial_values
from lib.model.losses import loss_sums
from lib.params import parse_params
from lib.train.saving import checkpoint
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from tests.helpers.tiny_bert import random_batch, tiny_model

ARCHITECTURES = pytest.mark.parametrize("architecture", ["bert", "modernbert"])


def trainer(
    values: dict, architecture: str = "bert", dropout: float = 0.0, **changes: object
) -> Trainer:
    values["pretrain"] |= {"batch_size": 8, "warmup_steps": 0, **changes}
    config = tiny_model(architecture, dropout)
    settings, pairs = parse_params(values).pretrain, config.has_next_sentence
    return Trainer(config, settings, pairs, initial_values(config, 1), make_strategy("one"))


def losses(one: Trainer, steps: int) -> list[float]:
    batch = random_batch(1, sequences=8)
    found = []
    for number in range(1, steps + 1):
        results = one.step(batch, tf.constant(number), tf.constant(0.01))
        found.append(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
    return found


@pytest.mark.slow
@ARCHITECTURES
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_as_float32_does(values, precision, architecture):
    exact = losses(trainer(values, architecture), 25)
    assert exact[-1] < 0.7 * exact[0]
    rough = losses(trainer(values, architecture, precision=precision), 25)
    assert rough != exact
    np.testing.assert_allclose(rough, exact, rtol=0.05, atol=0.05)


@pytest.mark.slow
@ARCHITECTURES
def test_a_step_with_float16_overflow_is_skipped_and_the_loss_scale_halved(values, architecture):
    one = trainer(values, architecture, precision="float16")
    before = one.state()
    scale = before["scaling/scale"]
    one.restore(before | {"scaling/scale": np.float32(2.0**24)})
    results = one.step(random_batch(1, sequences=8), tf.constant(1), tf.constant(0.01))
    assert float(results["skipped"]) == 1
    after = one.state()
    assert after["scaling/scale"] == 2.0**23
    for name, values_before in before.items():
        if not name.startswith(("scaling/", "skipped/")):
            assert np.array_equal(after[name], values_before), name
    one.restore(after | {"scaling/scale": scale, "scaling/since": np.float32(1999)})
    results = one.step(random_batch(1, sequences=8), tf.constant(1), tf.constant(0.01))
    assert float(results["skipped"]) == 0
    assert one.state()["scaling/scale"] == 2 * scale
    assert one.state()["scaling/since"] == 0


@pytest.mark.parametrize(
    "architecture", ["bert", pytest.param("modernbert", marks=pytest.mark.slow)]
)
def test_microbatches_add_up_to_the_whole_batch(values, architecture):
    whole, parts = (
        losses(trainer(values, architecture, microbatch_size=size), 3) for size in (None, 2)
    )
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def broken(batch: dict, value: float = math.nan) -> dict:
    """A batch in which one weight of a masked token is not finite."""
    weights = batch["masked_lm_weights"].numpy()
    weights[3, 1] = value
    return batch | {"masked_lm_weights": tf.constant(weights)}


@pytest.mark.parametrize(
    ("architecture", "precision", "optimizer", "changes"),
    [
        ("bert", "float32", "adamw", {}),
        *(
            pytest.param(architecture, *case, marks=pytest.mark.slow)
            for architecture in ("bert", "modernbert")
            for case in (
                ("bfloat16", "lamb", {"clip_norm": None}),
                ("float16", "novograd", {}),
                ("float32", "muon", {"microbatch_size": 4}),
                ("bfloat16", "muon", {}),
            )
        ),
    ],
)
def test_a_step_that_is_not_finite_is_as_if_its_batch_had_not_been_there(
    values, architecture, precision, optimizer, changes
):
    batches = [random_batch(seed, sequences=8) for seed in range(5)]
    first, second = sorted(np.random.default_rng().choice(7, 2, replace=False).tolist())
    given = batches.copy()
    given.insert(first, broken(batches[0]))
    given.insert(second, broken(batches[1], math.inf))
    one = trainer(values, architecture, precision=precision, optimizer=optimizer, **changes)
    initial = one.state()

    def train(batches: list[dict]) -> tuple[list[dict], dict]:
        one.restore(initial)
        results = [
            one.step(batch, tf.constant(number), tf.constant(0.01))
            for number, batch in enumerate(batches, 1)
        ]
        return results, one.state()

    expected, state = train(batches)
    assert one.skipped_steps == 0
    found, state_found = train(given)
    assert one.skipped_steps == 2
    skipped = [bool(results["skipped"]) for results in found]
    assert [number for number, was in enumerate(skipped) if was] == [first, second]
    run = 0
    for results, was in zip(found, skipped, strict=True):
        run = run + 1 if was else 0
        assert float(results["consecutive_skips"]) == run
        assert all(np.isfinite(value) for value in results.values())
    # The loss scale, which a skipped step halves, is a power of two: it changes no digit unless
    # numbers are very small.
    tolerance = 1e-2 if precision == "float16" else 0
    for name in ("masked_lm_loss", "masked_lm_weight", "gradient_norm"):
        sums = [sum(float(results[name]) for results in each) for each in (found, expected)]
        assert sums[0] == pytest.approx(sums[1], rel=tolerance or 1e-12), name
    for name, value in state.items():
        # The gradient of a key's bias is noise.
        if not name.startswith(("scaling/", "skipped/")) and not name.endswith("key/bias"):
            error = np.linalg.norm(state_found[name] - value)
            assert error <= tolerance * np.linalg.norm(value), name


@pytest.mark.slow
@ARCHITECTURES
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_evaluation_is_in_the_precision_of_training_unless_that_overflows(
    values, precision, architecture
):
    one = trainer(values, architecture, precision=precision)
    pairs = one.config.has_next_sentence
    batch = random_batch(2, sequences=8)
    name = "masked_lm_loss"
    for variable in one.variables.values():
        variable.assign(5 * variable)  # initial weights hardly differ from 0

    def sums(given: str) -> float:
        @tf.function(autograph=False)
        def loss() -> tf.Tensor:
            return loss_sums(one.variables, one.config, batch, pairs, precision=given)[name]

        return float(loss())

    assert one.evaluate(batch)[name] == pytest.approx(sums(precision), rel=1e-6)
    assert sums(precision) != pytest.approx(sums("float32"), rel=1e-5)
    if precision == "float16":
        wide = {"bert": "bert/encoder/layer_0/intermediate/dense/kernel"}
        kernel = one.variables[wide.get(architecture, "layers/0/mlp/Wi")]
        kernel.assign(kernel * 1e7)
        assert not math.isfinite(sums(precision))
        assert one.evaluate(batch)[name] == pytest.approx(sums("float32"), rel=1e-6)


def compiled_parts(made: Trainer, batch: dict) -> tuple[set[str], set[str]]:
    """The operations of a step outside of functions that XLA compiles, and inside them.

    Without those of the branches of a condition, which are functions of their own.
    """
    step = made.step.get_concrete_function(batch, tf.constant(1), tf.constant(0.01))
    graph = step.graph.as_graph_def()
    inside = {
        node.op
        for function in graph.library.function
        if function.attr["_XlaMustCompile"].b
        for node in function.node_def
    }
    return {node.op for node in graph.node}, inside


@pytest.mark.parametrize("xla", ["auto", pytest.param(False, marks=pytest.mark.slow), True])
def test_xla_compiles_gradients_clipping_and_update_where_asked(values, xla):
    outside, inside = compiled_parts(trainer(values, xla=xla), random_batch(1, sequences=8))
    # Of clipping and of the decision on the update; this machine has no accelerator.
    update = {"L2Loss", "IsFinite", "If"}
    assert update <= (inside if xla is True else outside)
    assert not update & (outside if xla is True else inside)


@pytest.mark.slow  # XLA compiles for ten seconds.
@ARCHITECTURES
def test_a_compiled_run_skips_and_evaluates_as_any_other(values, architecture):
    batches = [random_batch(seed, sequences=8) for seed in range(4)]
    batches.insert(2, broken(batches[0]))
    one, other = (trainer(values, architecture, xla=xla, optimizer="lamb") for xla in (True, False))
    for number, batch in enumerate(batches, 1):
        for each in (one, other):
            each.step(batch, tf.constant(number), tf.constant(0.01))
    assert one.skipped_steps == other.skipped_steps == 1
    for name, value in other.weights().items():
        if not name.endswith("key/bias"):  # noise
            np.testing.assert_allclose(one.weights()[name], value, rtol=2e-3, atol=1e-4)
    for name, value in other.evaluate(batches[0]).items():
        assert one.evaluate(batches[0])[name] == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "count"), [("bert", 12), ("modernbert", 16)])
def test_muon_goes_on_from_a_checkpoint_bit_for_bit(values, tmp_path, architecture, count):
    (tmp_path / "logs").mkdir()
    one, other = (
        trainer(values, architecture, 0.1, optimizer="muon", microbatch_size=4) for _ in range(2)
    )
    for number in range(1, 7):
        results = one.step(random_batch(number, sequences=8), *numbers(number))
        assert float(results["skipped"]) == 0
        if number == 3:
            checkpoint.save(tmp_path / "run", 3, one.state(), tmp_path / "logs", keep=1)
    found = checkpoint.latest(tmp_path / "run")
    matrices = [p.name for p in one.config.parameter_table() if p.matrices]
    assert len(matrices) == count
    assert all(np.any(found.arrays[f"m/{name}"]) for name in matrices)
    assert not any(f"v/{name}" in found.arrays for name in matrices)
    other.restore(found.arrays)
    for number in range(4, 7):
        other.step(random_batch(number, sequences=8), *numbers(number))
    expected = one.state()
    assert all(np.array_equal(value, expected[name]) for name, value in other.state().items())


def numbers(step: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The number of a step, and its learning rate."""
    return tf.constant(step), tf.constant(0.01)


@pytest.mark.slow
def test_several_steps_in_one_call_equal_single_steps(values):
    batches = [random_batch(seed, sequences=8) for seed in range(5)]
    batches[1] = broken(batches[1])
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
    assert float(first["consecutive_skips"]) == 1 and float(rest["consecutive_skips"]) == 0
    for name in ("masked_lm_loss", "gradient_norm", "tokens", "skipped"):
        expected = sum(float(results[name]) for results in each)
        assert float(first[name]) + float(rest[name]) == pytest.approx(expected, rel=1e-5)
