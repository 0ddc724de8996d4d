"""Initial weights of a new model.

All tensors start as in BERT; the initialisations other than `normal` replace some of them:

- `sinusoidal`: position embeddings are the sinusoids of Vaswani et al. (2017).
- `neighbors`: each attention head starts by attending to one of the nearest tokens.

Why `neighbors` helps: to predict a masked token, a head must find the tokens next to it. The score
of two positions is the product of a query and a key, which are linear in the sum of token and
position embeddings. With random weights, the part of the tokens outweighs that of the positions, so
that a head attends to tokens of the same kind, wherever they are, and a small model stays close to
the unigram distribution for thousands of steps. Here positions have dimensions of their own, in
which token and segment embeddings are zero; some dimensions of each query and key see nothing else,
and their product depends on the distance alone.
"""

import math
from collections.abc import Callable, Container

import numpy as np

from lib.model.bert_config import POSITIONS, SEGMENTS, WORDS, BertConfig
from lib.model.encoder_config import EncoderConfig
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


_CHANGES: dict[str, Callable[[BertConfig, Values], None]] = {
    "sinusoidal": _sinusoidal,
    "neighbors": _neighbors,
}
INITIALIZATIONS = ("auto", "normal", *_CHANGES)
"""Names that `pretrain.initialization` accepts; `auto` is what is best for the architecture."""


def refuse_initialization(name: str, config: type[EncoderConfig]) -> str | None:
    """What is wrong with starting a model of an architecture like this; None if nothing is."""
    if name in _CHANGES and not issubclass(config, BertConfig):
        return f"should be auto or normal, as a {config.title} has no position embeddings"
    return None


def initial_values(
    config: EncoderConfig, seed: int, without: Container[str] = (), initialization: str = "normal"
) -> Values:
    """Random initial weights, float32 by name; each tensor has a random stream of its own.

    Args:
        without: names of parameters to leave out, because the caller has them; for `normal` only.
        initialization: a name in `INITIALIZATIONS`; `auto` is `neighbors` for a BERT.
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
    if isinstance(config, BertConfig):
        change = _CHANGES.get("neighbors" if initialization == "auto" else initialization)
        if change:
            change(config, values)
    return values
