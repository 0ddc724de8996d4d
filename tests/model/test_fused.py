"""Fused GELU and cross entropy against closed forms and NumPy in float64."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.model import fused
from lib.model.fused import cross_entropy, gelu, gelu_new


def erf_form(value: float) -> float:
    return 0.5 * value * (1 + math.erf(value / math.sqrt(2)))


def tanh_form(value: float) -> float:
    return 0.5 * value * (1 + math.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))


@pytest.fixture(params=["compiled", "composed"])
def both_ways(request, monkeypatch):
    """Compiled as on CPUs, and composed of operations as on accelerators."""
    monkeypatch.setattr(fused, "_on_cpu", lambda: request.param == "compiled")


@pytest.mark.parametrize(("function", "closed"), [(gelu, erf_form), (gelu_new, tanh_form)])
def test_gelu_and_its_gradient(both_ways, function, closed):
    values = np.linspace(-9, 9, 181)
    expected = [closed(value) for value in values]
    step = 1e-5
    slopes = [(closed(value + step) - closed(value - step)) / (2 * step) for value in values]
    upstream = np.linspace(1, 2, len(values))
    tensor = tf.constant(values)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        found = function(tensor)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    slopes_found = tape.gradient(found, tensor, tf.constant(upstream))
    np.testing.assert_allclose(slopes_found, slopes * upstream, atol=1e-8)


def reference(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-log p of all classes, and of the labels."""
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1, keepdims=True)) - shifted
    return losses, losses[np.arange(len(labels)), labels]


def test_cross_entropy_and_its_gradient(both_ways):
    draw = np.random.default_rng(1)
    logits = draw.normal(0, 3, (7, 11))
    labels = draw.integers(0, 11, 7)
    labels[0] = logits[0].argmax()
    label_upstream, mean_upstream = draw.normal(size=7), draw.normal(size=7)
    tensor = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        losses, means, correct = cross_entropy(tensor, tf.constant(labels, tf.int32))
        total = tf.reduce_sum(losses * label_upstream + means * mean_upstream)
    every, own = reference(logits, labels)
    np.testing.assert_allclose(losses, own, rtol=1e-12)
    np.testing.assert_allclose(means, every.mean(-1), rtol=1e-12)
    assert correct.numpy().tolist() == (logits.argmax(-1) == labels).tolist()
    gradient = tape.gradient(total, tensor).numpy()
    for index in np.ndindex(*logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-6
        ahead, behind = (reference(logits + sign * step, labels) for sign in (1, -1))
        slope = (ahead[1] - behind[1]) @ label_upstream
        slope += (ahead[0] - behind[0]).mean(-1) @ mean_upstream
        assert gradient[index] == pytest.approx(slope / 2e-6, abs=1e-7)


def test_ties_share_one_correct_prediction():
    logits = tf.constant([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    _, _, correct = cross_entropy(logits, tf.constant([1, 0]))
    assert correct.numpy().tolist() == pytest.approx([1 / 3, 0])


@settings(max_examples=20)
@given(arrays(np.float64, (2, 5), elements=st.floats(-1e30, 1e30)), st.integers(0, 4))
def test_large_logits_never_overflow(logits, label):
    logits = logits.astype(np.float32)
    losses, means, _ = cross_entropy(tf.constant(logits), tf.constant([label, 0]))
    every, own = reference(logits.astype(np.float64), np.array([label, 0]))
    np.testing.assert_allclose(losses, own, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(means, every.mean(-1), rtol=1e-3, atol=1e-5)
