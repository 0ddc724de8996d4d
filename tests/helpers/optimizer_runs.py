"""A few small tensors, gradients for them, and a run of an optimizer over these."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from lib.model.optimizers import OPTIMIZERS, Optimizer
from lib.model.parameters import Parameter

TABLE = [
    Parameter("bert/embeddings/word_embeddings", (11, 6)),
    Parameter("bert/embeddings/LayerNorm/gamma", (6,), "ones", decays=False),
    Parameter("bert/encoder/layer_0/output/dense/kernel", (7, 6), matrices=1),
    Parameter("bert/encoder/layer_0/output/dense/bias", (6,), "zeros", decays=False),
    Parameter("cls/seq_relationship/output_weights", (2, 6)),
    Parameter("bert/encoder/layer_1/intermediate/dense/kernel", (6, 7), matrices=1),
    Parameter("bert/encoder/layer_1/output/dense/kernel", (7, 6), matrices=1),
    Parameter("bert/encoder/layer_1/attention/self/query/kernel", (6, 6), matrices=1),
]
DECAYING = {p.name for p in TABLE if len(p.shape) == 2}
MATRICES = {p.name for p in TABLE if "/encoder/" in p.name and len(p.shape) == 2}
NAMES = tuple(OPTIMIZERS)
SIZES = (1.0, 1e-3, 1e-1, 1e-5, 1e2, 1e-2, 10.0, 1.0)
STEPS = 14
Arrays = dict[str, np.ndarray]


def settings(name: str, bias_correction: bool = True, weight_decay: float = 0.1) -> dict:
    return {
        "name": name,
        "weight_decay": weight_decay,
        "beta1": 0.95 if name == "novograd" else 0.9,
        "beta2": 0.98 if name == "novograd" else 0.999,
        "epsilon": 1e-6,
        "bias_correction": bias_correction,
    }


def initial() -> Arrays:
    """Weights as small as real ones, so that errors of the steps are not lost in rounding."""
    draw = np.random.default_rng(1)
    return {p.name: draw.normal(0, 0.02, p.shape).astype(np.float32) for p in TABLE}


def gradients(seed: int = 0) -> Iterator[Arrays]:
    """A set for each step, of very different sizes; one tensor has gradients of 0 at first."""
    draw = np.random.default_rng(seed)
    sizes = dict(zip((p.name for p in TABLE), SIZES, strict=True))
    for step in range(STEPS):
        yield {
            p.name: draw.normal(0, sizes[p.name], p.shape).astype(np.float32)
            * (p.name != TABLE[2].name or step >= 3)
            for p in TABLE
        }


def learning_rate(step: int) -> float:
    return 2e-3 * step


def make(name: str, **values) -> Optimizer:
    return OPTIMIZERS[name](TABLE, **values)


def run(
    optimizer: Optimizer,
    weights: Arrays,
    sets: list[Arrays],
    first: int = 1,
    jit_compile: bool = False,
    dtype: tf.DType = tf.float32,
) -> Arrays:
    """The weights after these gradients; `first` is the number of the first step."""
    variables = {name: tf.Variable(array) for name, array in weights.items()}

    @tf.function(jit_compile=jit_compile)
    def apply(given: dict, rate: tf.Tensor, step: tf.Tensor) -> None:
        optimizer.apply(variables, optimizer.prepare(given), rate, step)

    for step, each in enumerate(sets, first):
        given = {name: tf.cast(array, dtype) for name, array in each.items()}
        apply(given, tf.constant(learning_rate(step)), tf.constant(step))
    assert all(variable.dtype == tf.float32 for variable in variables.values())
    return {name: variable.numpy() for name, variable in variables.items()}
