"""Initial weights of a new model.

With `normal`, all tensors start as in BERT or ModernBERT; the others replace some of them:

- `sinusoidal`: position embeddings of a BERT are the sinusoids of Vaswani et al. (2017).
- `neighbors`: each attention head starts by attending to one of the nearest tokens.

Why `neighbors` helps: to predict a masked token, a head must find the tokens next to it. The score
of two positions is the product of a query and a key, which are linear in the sum of token and
position embeddings. With random weights, the part of the tokens outweighs that of the positions, so
that a head attends to tokens of the same kind, wherever they are, and a small model stays close to
the unigram distribution for thousands of steps. Here positions have dimensions of their own, in
which token and segment embeddings are zero; some dimensions of each query and key see nothing else,
and their product depends on the distance alone. Rotary positions turn queries and keys by their
distance, but those of random weights have no direction that all tokens share, so that a ModernBERT
too must first learn to look at neighbours.
"""

import math
from collections.abc import Callable, Container
from typing import Any

import numpy as np

from lib.model.bert_config import POSITIONS, SEGMENTS, WORDS, BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.modernbert_config import ModernBertConfig
from lib.run import random

MAXIMUM_PAIRS = 16
"""Sinusoids of `neighbors`: each takes two dimensions, a sine and a cosine."""
LOWEST_FREQUENCY = 1 / 64
"""Radians per token of the slowest sinusoid of `neighbors`; that of the fastest is 1."""
AMPLITUDE = 1.5
"""Amplitude of the sinusoids of `neighbors`, in deviations of token embeddings."""
SHARPNESS = 6.0
"""Initial attention scores of `neighbors`: the highest, if sinusoids had an amplitude of 1."""
OFFSETS = (-1, 1, -2, 2)
"""Tokens that the heads of `neighbors` look at: in turn, over the heads of all layers."""

CONSTANT = 4.0
"""First dimension of the token embeddings of a ModernBERT with `neighbors`, in deviations."""

Values = dict[str, np.ndarray]


def _truncated_normal(
    generator: np.random.Generator, shape: tuple[int, ...], deviation: float
) -> np.ndarray:
    """Normal values; those beyond two deviations are drawn again, as in TensorFlow."""
    values = generator.standard_normal(shape, np.float32).reshape(-1)
    while len(beyond := np.flatnonzero(np.abs(values) > 2)):
        values[beyond] = generator.standard_normal(len(beyond), np.float32)
    return values.reshape(shape) * np.float32(deviation)


def _sinusoids(positions: int, frequencies: np.ndarray) -> np.ndarray:
    """Sine and cosine in turn, of each frequency: [positions, 2 * frequencies]."""
    angles = np.arange(positions)[:, None] * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(positions, -1)


def _sinusoidal(config: BertConfig, values: Values) -> None:
    """Position embeddings are sinusoids of frequencies from 1 to 1/10000."""
    pairs = (config.hidden_size + 1) // 2
    frequencies = 10000.0 ** (-np.arange(pairs) / pairs)
    table = _sinusoids(config.max_position_embeddings, frequencies)[:, : config.hidden_size]
    values[POSITIONS] = (config.initializer_range * table).astype(np.float32)


def _neighbors(config: BertConfig, values: Values) -> None:
    """Each head attends to one offset: score(i, j) = s * sum over f of cos(f (i + offset - j)).

    The first 2P of the hidden dimensions are P sinusoids of the position. The key of a head copies
    them, its query rotates each by (offset * its frequency). Token embeddings have a norm of about
    1, not 0.02 sqrt(H): updates of the optimizer, which are as large as the learning rate for every
    element, would soon blur smaller ones, and the sinusoids with them.
    """
    head_size = config.hidden_size // config.num_attention_heads
    pairs = min(MAXIMUM_PAIRS, head_size // 4, config.hidden_size // 8)
    width = 2 * pairs
    frequencies = LOWEST_FREQUENCY ** (np.arange(pairs) / max(pairs - 1, 1))
    deviation = 1 / math.sqrt(config.hidden_size)
    values[WORDS] *= np.float32(deviation / config.initializer_range)
    for name in (WORDS, SEGMENTS):
        values[name][:, :width] = 0
    values[POSITIONS][:] = 0
    values[POSITIONS][:, :width] = (
        AMPLITUDE * deviation * _sinusoids(config.max_position_embeddings, frequencies)
    )
    gain = math.sqrt(SHARPNESS * math.sqrt(head_size) / max(pairs, 1))
    for number in range(config.num_hidden_layers * config.num_attention_heads):
        layer, head = divmod(number, config.num_attention_heads)
        columns = slice(head * head_size, head * head_size + width)
        turns = frequencies * OFFSETS[number % len(OFFSETS)]
        for part, angles in (("query", turns), ("key", np.zeros(pairs))):
            kernel = values[f"bert/encoder/layer_{layer}/attention/self/{part}/kernel"]
            kernel[:, columns] = 0
            kernel[:width, columns] = gain * _rotations(angles)


def _rotations(angles: np.ndarray) -> np.ndarray:
    """Matrix, [2P, 2P], by which rows of P pairs (sin a, cos a) get `angles` added to each a."""
    matrix = np.zeros((2 * len(angles), 2 * len(angles)))
    sines, cosines = np.arange(0, len(matrix), 2), np.arange(1, len(matrix), 2)
    matrix[sines, sines] = matrix[cosines, cosines] = np.cos(angles)
    matrix[cosines, sines] = np.sin(angles)
    matrix[sines, cosines] = -np.sin(angles)
    return matrix


def _neighbors_of_rotations(config: ModernBertConfig, values: Values) -> None:
    """The same for rotary positions: a query and a key that are equal everywhere, by head.

    The first dimension of all token embeddings is equal, so that after normalisation it is about
    the same number c in every token. From it each query gets the vector (cos f offset, sin f
    offset) and each key (1, 0) in the pairs of dimensions of the faster rotations f; after the
    rotation by positions their product is the sum over f of cos(f (i + offset - j)).
    """
    hidden, head_size = config.hidden_size, config.head_size
    deviation = 1 / math.sqrt(hidden)
    words = values[ModernBertConfig.token_embeddings]
    words *= np.float32(deviation / config.initializer_range)
    words[:, 0] = CONSTANT * deviation
    c = CONSTANT / math.sqrt(1 + CONSTANT**2 / hidden)
    for number in range(config.num_hidden_layers * config.num_attention_heads):
        layer, head = divmod(number, config.num_attention_heads)
        frequencies = config.frequencies(layer)
        pairs = np.flatnonzero(frequencies >= LOWEST_FREQUENCY)
        gain = math.sqrt(SHARPNESS * math.sqrt(head_size) / len(pairs)) / c
        angles = frequencies[pairs] * OFFSETS[number % len(OFFSETS)]
        from_constant = values[f"layers/{layer}/attn/Wqkv"][0]  # [3 H]
        query, key = (start + head * head_size + pairs for start in (0, hidden))
        from_constant[query] = gain * np.cos(angles)
        from_constant[query + head_size // 2] = gain * np.sin(angles)
        from_constant[key], from_constant[key + head_size // 2] = gain, 0


_CHANGES: dict[str, dict[str, Callable[[Any, Values], None]]] = {
    "normal": {},
    "sinusoidal": {"bert": _sinusoidal},
    "neighbors": {"bert": _neighbors, "modernbert": _neighbors_of_rotations},
}
INITIALIZATIONS = tuple(_CHANGES)
"""Names that `pretrain.initialization` accepts."""


def refuse_initialization(name: str, config: type[EncoderConfig]) -> str | None:
    """What the initialization should be, if a model of this architecture cannot start like that."""
    if name == "normal" or config.architecture in _CHANGES[name]:
        return None
    others = [each for each, changes in _CHANGES.items() if config.architecture in changes]
    return f"should be normal or {' or '.join(others)} for a {config.title}"


def initial_values(
    config: EncoderConfig, seed: int, without: Container[str] = (), initialization: str = "normal"
) -> Values:
    """Random initial weights, float32 by name; each tensor has a random stream of its own.

    Args:
        without: names of parameters to leave out, because the caller has them; for `normal` only.
        initialization: a name in `INITIALIZATIONS`.
    """
    values = {}
    for parameter in config.parameter_table():
        if parameter.name in without:
            continue
        if parameter.initial == "normal":
            generator = random.generator(seed, f"initial {parameter.name}")
            values[parameter.name] = _truncated_normal(
                generator, parameter.shape, config.initializer_range * parameter.scale
            )
        else:
            fill = 1 if parameter.initial == "ones" else 0
            values[parameter.name] = np.full(parameter.shape, fill, np.float32)
    if change := _CHANGES[initialization].get(config.architecture):
        change(config, values)
    return values
