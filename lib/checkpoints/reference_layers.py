"""Functions that the reference models have in common: NumPy, in double precision."""

import math
from collections.abc import Callable

import numpy as np

TensorReader = Callable[[str], np.ndarray]
"""Reads a tensor by its Hugging Face name, as float64."""

# erf and its derivative at the points of a grid; beyond 6, erf is 1 in double precision.
_STEP, _END = 1 / 512, 6.0
_GRID = np.arange(0, _END + _STEP, _STEP)
_ERF = np.array([math.erf(point) for point in _GRID])
_SLOPE = 2 / math.sqrt(math.pi) * np.exp(-(_GRID**2))


def erf(values: np.ndarray) -> np.ndarray:
    """The error function, accurate to 1e-12: a Taylor series around the nearest grid point.

    NumPy has none, and `math.erf` takes one number at a time.
    """
    magnitudes = np.minimum(np.abs(values), _END)
    # NaN gets an arbitrary grid point and stays NaN.
    nearest = np.rint(np.nan_to_num(magnitudes) / _STEP).astype(np.intp)
    start = _GRID[nearest]
    beyond = magnitudes - start
    series = 1 - start * beyond + (2 * start**2 - 1) * beyond**2 / 3
    return np.copysign(_ERF[nearest] + _SLOPE[nearest] * beyond * series, values)


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def normalised(values: np.ndarray, epsilon: float) -> np.ndarray:
    """Values less their mean, divided by their standard deviation, over the last axis."""
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    result: np.ndarray = (values - mean) / np.sqrt(variance + epsilon)
    return result


def softmax(scores: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis."""
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    result: np.ndarray = probabilities / probabilities.sum(-1, keepdims=True)
    return result
