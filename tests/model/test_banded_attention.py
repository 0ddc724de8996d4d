"""Local attention in bands against attention to all tokens with a mask."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.model.layers import (
    NO_DROPOUT,
    attended,
    banded_attention,
    masked_scores,
    may_attend,
)


def example_numbers(draw: np.random.Generator, sequences: int, length: int, packed: bool):
    """int32 [B, S]: one example of a random length, or several; then padding."""
    ids = np.zeros((sequences, length), np.int32)
    for sequence in ids:
        filled = draw.integers(1, length + 1)
        starts = draw.random(filled) < (0.3 if packed else 0)
        starts[0] = True
        sequence[:filled] = np.cumsum(starts)
    return ids


@given(
    length=st.integers(1, 23),
    reach=st.integers(1, 6),
    packed=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40)
def test_bands_have_the_values_and_gradients_of_a_mask(length, reach, packed, seed):
    draw = np.random.default_rng(seed)
    ids = example_numbers(draw, 2, length, packed)
    # [B, N, S, D]
    states = [tf.constant(draw.normal(0, 2, (2, 2, length, 4))) for _ in range(3)]
    batch = {"example_ids": tf.constant(ids)}
    if packed:
        batch["position_ids"] = tf.zeros_like(ids)
    places = np.arange(length)
    near = np.abs(places[:, None] - places) <= reach
    bias = masked_scores(may_attend(batch) & near, tf.float64)
    # States of padding are undefined, and do not count.
    weights = draw.normal(size=(2, length, 8)) * (ids > 0)[:, :, None]

    def results(banded: bool) -> list[np.ndarray]:
        with tf.GradientTape() as tape:
            tape.watch(states)
            if banded:
                context = banded_attention(*states, batch, reach, tf.float64, NO_DROPOUT, 0.0)
            else:
                context = attended(*states, bias, NO_DROPOUT, 0.0)
            context = tf.reshape(context, [2, length, 8])  # [B * S, H] -> [B, S, H]
            loss = tf.reduce_sum(context * weights)
        return [context.numpy() * (ids > 0)[:, :, None], *tape.gradient(loss, states)]

    for found, expected in zip(results(True), results(False), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
