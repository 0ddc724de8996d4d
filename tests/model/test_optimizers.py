"""Optimizers and clipping against float64 references written from the papers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lib.model.clipping import clip_by_global_norm
from lib.model.optimizers import OPTIMIZERS, _orthogonalised
from lib.model.parameters import Parameter
from tests.helpers.optimizer_runs import (
    DECAYING,
    MATRICES,
    NAMES,
    TABLE,
    Arrays,
    gradients,
    initial,
    learning_rate,
    make,
    run,
    settings,
)


def reference(
    name: str,
    weight_decay: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    bias_correction: bool,
    weights: Arrays,
    sets: list[Arrays],
) -> Arrays:
    """The weights after the same steps in float64, tensor by tensor."""
    result = {}
    for key, start in weights.items():
        w = start.astype(np.float64)
        m, v = np.zeros_like(w), np.zeros_like(w)
        decay = weight_decay if key in DECAYING else 0.0
        for t, each in enumerate(sets, 1):
            g, rate = each[key].astype(np.float64), float(np.float32(learning_rate(t)))
            if name == "novograd":
                norm = np.linalg.norm(g)
                v = norm**2 if np.all(v == 0) else beta2 * v + (1 - beta2) * norm**2
                m = beta1 * m + g / (np.sqrt(v) + epsilon) + decay * w
                w = w - rate * m
                continue
            if name == "muon" and key in MATRICES:
                m = 0.95 * m + 0.05 * g
                update = 0.2 * max(w.shape) ** 0.5 * orthogonalised(0.95 * m + 0.05 * g)
                w = w - rate * decay * w - rate * update
                continue
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
            if bias_correction:
                r = m / (1 - beta1**t) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
            else:
                r = m / (np.sqrt(v) + epsilon)
            update = r + decay * w
            if name == "lamb" and key in DECAYING:
                norms = np.linalg.norm(w), np.linalg.norm(update)
                update = update * (norms[0] / norms[1] if min(norms) > 0 else 1.0)
            w = w - rate * update
        result[key] = w
    return result


def orthogonalised(matrix: np.ndarray) -> np.ndarray:
    """U p(p(p(p(p(S / |S|))))) V^T, from the singular value decomposition U S V^T."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / max(np.linalg.norm(s), 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u * s @ v


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference, relative."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


CASES = [
    ("adamw", True),
    ("adamw", False),
    ("lamb", True),
    ("lamb", False),
    ("novograd", True),
    ("muon", True),
]


@pytest.mark.parametrize(("name", "bias_correction"), CASES)
def test_steps_follow_the_float64_reference(name, bias_correction):
    values, sets = settings(name, bias_correction), list(gradients())
    expected = reference(**values, weights=initial(), sets=sets)
    found = run(make(**values), initial(), sets)
    for key, array in expected.items():
        assert error(found[key], array) <= 1e-6, key
        # It moved: the comparison is of more than the initial weights.
        assert error(initial()[key], array) > 0.1, key


@pytest.mark.parametrize(
    ("name", "bias_correction"),
    [CASES[0], *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES[1:])],
)
def test_steps_compiled_by_xla_follow_the_float64_reference(name, bias_correction):
    values, sets = settings(name, bias_correction), list(gradients())
    expected = reference(**values, weights=initial(), sets=sets)
    found = run(make(**values), initial(), sets, jit_compile=True)
    assert max(error(found[key], array) for key, array in expected.items()) <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_restored_state_continues_bit_for_bit(name):
    sets = list(gradients())
    straight = make(**settings(name))
    weights = run(straight, initial(), sets)
    first, second = make(**settings(name)), make(**settings(name))
    middle = run(first, initial(), sets[:5])
    second.restore({**first.state(), "another/slot": np.zeros(3)})
    continued = run(second, middle, sets[5:], first=6)
    for key, array in weights.items():
        assert np.array_equal(continued[key], array), key
    for key, array in straight.state().items():
        assert array.dtype == np.float32
        assert np.array_equal(second.state()[key], array), key


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_gradients_are_used_as_float32(name, dtype):
    sets = [
        {key: array * (1e-2 if array.max() > 10 else 1) for key, array in each.items()}
        for each in gradients()
    ][:4]
    rounded = [
        {key: tf.cast(tf.cast(array, dtype), tf.float32).numpy() for key, array in each.items()}
        for each in sets
    ]
    half = run(make(**settings(name)), initial(), sets, dtype=dtype)
    full = run(make(**settings(name)), initial(), rounded)
    for key, array in full.items():
        assert np.array_equal(half[key], array), key


def zeros() -> Arrays:
    return {p.name: np.zeros(p.shape, np.float32) for p in TABLE}


def test_lamb_has_trust_ratio_one_for_weights_of_zero():
    values, sets = settings("lamb", weight_decay=0.0), list(gradients())[:1]
    found = run(make(**values), zeros(), sets)
    adamw = run(make(**settings("adamw", weight_decay=0.0)), zeros(), sets)
    for key, array in found.items():
        assert np.allclose(array, adamw[key], rtol=1e-6, atol=0), key


@pytest.mark.parametrize("name", NAMES)
def test_with_gradients_of_zero_only_decay_changes_weights(name):
    sets = [zeros(), zeros()]
    without = run(make(**settings(name, weight_decay=0.0)), initial(), sets)
    decayed = run(make(**settings(name)), initial(), sets)
    for key, array in initial().items():
        assert np.array_equal(without[key], array), key
        assert np.isfinite(decayed[key]).all()
        assert np.array_equal(decayed[key], array) == (key not in DECAYING), key


def test_lamb_steps_have_the_length_of_the_weights():
    """That is the purpose of the trust ratio: the size of the gradients does not matter."""
    found = run(make(**settings("lamb")), initial(), list(gradients())[3:4])
    for key in DECAYING:
        moved = np.linalg.norm(found[key] - initial()[key])
        assert moved == pytest.approx(learning_rate(1) * np.linalg.norm(initial()[key]), rel=1e-5)


def test_lamb_and_muon_treat_all_other_tensors_as_adamw_does():
    names, sets = ("adamw", "lamb", "muon"), list(gradients())[:5]
    found = {name: run(make(**settings(name)), initial(), sets) for name in names}
    for key, array in found["adamw"].items():
        assert np.array_equal(found["lamb"][key], array) == (key not in DECAYING), key
        assert np.array_equal(found["muon"][key], array) == (key not in MATRICES), key


def test_first_novograd_step_has_length_one_whenever_gradients_begin():
    """Not 1 / sqrt(1 - beta2), seven times as long, for a tensor whose gradient was 0 before."""
    sets = list(gradients())[:4]
    values = settings("novograd", weight_decay=0.0)
    optimizer = make(**values)
    before = run(optimizer, initial(), sets[:3])
    key = TABLE[2].name
    assert np.array_equal(before[key], initial()[key])
    after = run(optimizer, before, sets[3:], first=4)
    assert np.linalg.norm(after[key] - before[key]) == pytest.approx(learning_rate(4), rel=1e-4)


def test_novograd_has_one_second_moment_per_tensor():
    state = make(**settings("novograd")).state()
    assert {array.shape for key, array in state.items() if key.startswith("v/")} == {()}
    assert all(state[f"m/{p.name}"].shape == p.shape for p in TABLE)


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 16, 64), (2, 1, 9)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(tf.float32, 1e-4), (tf.bfloat16, 0.1), (tf.float16, 0.02)]
)
def test_singular_values_of_orthogonalised_matrices_are_about_one(shape, dtype, tolerance):
    draw = np.random.default_rng(3)
    given = draw.normal(0, [[[1e-3]], [[1.0]], [[50.0]]][: shape[0]], shape)
    # A spread of singular values up to 1 : 100.
    u, s, v = np.linalg.svd(given, full_matrices=False)
    given = u * (s.max(1, keepdims=True) * np.geomspace(1, 0.01, shape[1]))[:, None] @ v
    found = _orthogonalised(tf.constant(given, tf.float32), dtype).numpy()
    values = np.linalg.svd(found, compute_uv=False)
    assert values.min() > 0.68 - tolerance and values.max() < 1.21 + tolerance
    for matrix, expected in zip(found, map(orthogonalised, given), strict=True):
        assert error(matrix, expected) <= tolerance


def test_muon_orthogonalises_in_the_precision_of_training():
    given = list(gradients())[3:4]
    found = {
        precision: run(make(**settings("muon"), precision=precision), initial(), given)
        for precision in ("float32", "bfloat16", "float16")
    }
    for key, array in found["float32"].items():
        for precision, bound in [("bfloat16", 0.2), ("float16", 0.02)]:
            other = found[precision][key]
            assert np.array_equal(other, array) == (key not in MATRICES), key
            moved = np.linalg.norm(array - initial()[key])
            assert np.linalg.norm(other - array) <= bound * moved, key


def test_muon_treats_a_matrix_and_its_transpose_alike():
    wide, tall = TABLE[5], TABLE[6]
    each = dict(next(gradients()))
    each[tall.name] = each[wide.name].T
    weights = initial() | {tall.name: initial()[wide.name].T}
    found = run(make(**settings("muon")), weights, [each])
    assert np.array_equal(found[tall.name], found[wide.name].T)


def test_muon_orthogonalises_matrices_that_are_stored_side_by_side_each_by_itself():
    """Like parameters of their own, and like the float64 formula; wide, square and tall ones."""
    joint = [
        Parameter("layers/0/attn/Wqkv", (6, 18), matrices=3),
        Parameter("layers/0/mlp/Wi", (6, 16), matrices=2),
        Parameter("layers/1/mlp/Wi", (9, 12), matrices=2),
    ]
    apart = [
        Parameter(f"{p.name}/{number}", p.matrix_shape, matrices=1)
        for p in joint
        for number in range(p.matrices)
    ]

    def split(arrays: dict) -> dict:
        return {
            f"{p.name}/{number}": part
            for p in joint
            for number, part in enumerate(np.split(arrays[p.name], p.matrices, axis=1))
        }

    draw = np.random.default_rng(5)
    weights, *sets = (
        {p.name: draw.normal(0, 0.02, p.shape).astype(np.float32) for p in joint} for _ in range(6)
    )
    values = settings("muon")
    make_muon = OPTIMIZERS[values.pop("name")]
    found = split(run(make_muon(joint, **values), weights, sets))
    alone = run(make_muon(apart, **values), split(weights), [split(each) for each in sets])
    for name, start in split(weights).items():
        w, m = start.astype(np.float64), 0.0
        for step, each in enumerate(sets, 1):
            g, rate = split(each)[name].astype(np.float64), learning_rate(step)
            m = 0.95 * m + 0.05 * g
            update = 0.2 * max(w.shape) ** 0.5 * orthogonalised(0.95 * m + 0.05 * g)
            w = w - rate * values["weight_decay"] * w - rate * update
        assert error(found[name], w) <= 1e-6, name
        assert error(alone[name], w) <= 1e-6, name
        assert error(start, w) > 0.01, name


def test_muon_steps_have_the_size_of_adamw_steps_whatever_the_gradient():
    sets = list(gradients())[3:4]
    values = settings("muon", weight_decay=0.0)
    found = run(make(**values), initial(), sets)
    sizes = [np.sqrt(np.mean((found[key] - initial()[key]) ** 2)) for key in sorted(MATRICES)]
    # About 0.2 times the learning rate: singular values of 0.68 to 1.21 instead of 1.
    assert all(0.13 <= size / learning_rate(1) <= 0.25 for size in sizes)


def test_muon_has_no_second_moment_of_matrices():
    state = make(**settings("muon")).state()
    names = {p.name for p in TABLE}
    assert state.keys() == {f"m/{n}" for n in names} | {f"v/{n}" for n in names - MATRICES}
    assert all(state[f"m/{p.name}"].shape == p.shape for p in TABLE)


@pytest.mark.parametrize("name", NAMES)
def test_prepare_changes_no_slot(name):
    optimizer = make(**settings(name))
    run(optimizer, initial(), list(gradients())[:4])
    before = optimizer.state()
    optimizer.prepare({key: tf.constant(array) for key, array in next(gradients(1)).items()})
    assert all(np.array_equal(array, before[key]) for key, array in optimizer.state().items())


def test_beta_zero_does_not_average():
    values = settings("adamw") | {"beta1": 0.0, "beta2": 0.0, "weight_decay": 0.0}
    sets = list(gradients())[3:6]
    expected = initial()
    for step, each in enumerate(sets, 1):
        for key, g in each.items():
            expected[key] = expected[key] - learning_rate(step) * g / (np.abs(g) + 1e-6)
    for key, array in run(make(**values), initial(), sets).items():
        # The kernel adds the difference to the old moment, which rounds where the new is smaller.
        assert error(array, expected[key]) <= 2e-5, key


MIRRORED = """
import numpy as np, sys, tensorflow as tf
from tests.helpers.optimizer_runs import NAMES, gradients, initial, learning_rate, make, run
from tests.helpers.optimizer_runs import settings
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
sets = list(gradients())[:6]
for name in NAMES:
    with strategy.scope():
        variables = {key: tf.Variable(array) for key, array in initial().items()}
        optimizer = make(**settings(name))

    @tf.function
    def step(given, rate, number):
        strategy.run(
            lambda: optimizer.apply(variables, optimizer.prepare(given), rate, number)
        )

    for number, each in enumerate(sets, 1):
        if number == 4:
            state = optimizer.state()
            with strategy.scope():
                optimizer = make(**settings(name))
            optimizer.restore(state)
            step = tf.function(step.python_function)
        arguments = each, tf.constant(learning_rate(number)), tf.constant(number)
        step(*arguments)
    graph = step.get_concrete_function(*arguments).graph
    kinds = {operation.type for operation in graph.get_operations()}
    found = [kind for kind in kinds if "Collective" in kind or "Reduce" in kind]
    assert bool(found) == optimizer.communicates, kinds
    alone = make(**settings(name))
    expected = run(alone, initial(), sets)
    for key, array in [*expected.items(), *alone.state().items()]:
        found = variables[key] if key in variables else optimizer.slots[key]
        for copy in strategy.experimental_local_results(found):
            # Another number of matrices at a time may round differently.
            tolerance = 1e-6 if optimizer.communicates else 0
            difference = np.linalg.norm(copy.numpy() - array)
            assert difference <= tolerance * np.linalg.norm(array), (name, key)
        first, second = strategy.experimental_local_results(found)
        assert np.array_equal(first.numpy(), second.numpy()), (name, key)
print("equal")
"""


@pytest.mark.slow
def test_replicas_make_equal_steps():
    done = subprocess.run(
        [sys.executable, "-c", MIRRORED],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 1e6])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_clipping_uses_the_norm_over_all_tensors(clip_norm, jit_compile):
    given = list(next(gradients()).values())
    norm = float(np.sqrt(sum((array.astype(np.float64) ** 2).sum() for array in given)))
    clip = tf.function(clip_by_global_norm, jit_compile=jit_compile)
    clipped, found = clip([tf.constant(array) for array in given], clip_norm)
    assert float(found) == pytest.approx(norm, rel=1e-6)
    for array, tensor in zip(given, clipped, strict=True):
        expected = array.astype(np.float64) * min(1.0, clip_norm / norm)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6)
        if clip_norm > norm:
            assert np.array_equal(tensor.numpy(), array)


def test_the_norm_is_summed_from_the_first_gradient_to_the_last():
    # In float32 2^24 + 1 is 2^24, but 2^24 + 8 is more: any other order gives another sum.
    given = [tf.constant([2.0**12] * 2), *[tf.constant([1.0, 1.0])] * 99]
    clip = tf.function(lambda values: clip_by_global_norm(values, None)[1])
    assert float(clip(given)) == np.float32(2**12.5)


def test_clipping_can_be_off():
    given = list(next(gradients()).values())
    clipped, norm = clip_by_global_norm([tf.constant(array) for array in given], None)
    assert float(norm) == pytest.approx(np.sqrt(sum((array**2).sum() for array in given)), 1e-6)
    for array, tensor in zip(given, clipped, strict=True):
        assert np.array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_norm_that_is_not_finite_is_returned_and_gradients_stay(bad, clip_norm):
    clipped, norm = clip_by_global_norm([tf.constant([bad, 2.0]), tf.constant([3.0])], clip_norm)
    assert not np.isfinite(float(norm))
    assert clipped[0].numpy()[1] == 2 and clipped[1].numpy() == 3


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_the_norm_of_half_precision_gradients_is_computed_in_float32(dtype):
    # In float16 the squares overflow; in bfloat16 a sum of this many would stop growing.
    clipped, norm = clip_by_global_norm([tf.fill([4096], tf.constant(1024.0, dtype))], 64.0)
    assert float(norm) == 65536
    assert clipped[0].dtype == tf.float32 and set(clipped[0].numpy()) == {1.0}
