"""Reference implementation of ModernBERT, for the verification of exported models."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lib.checkpoints.reference_layers import ACTIVATIONS, TensorReader, normalised, softmax

# Queries whose scores are in memory at a time: those of 8,192 tokens would take gigabytes.
_BLOCK = 256


class ReferenceModernBert:
    """ModernBERT as in transformers (Warner et al., 2024).

    Rotary positions are written as complex numbers: dimensions d and d + D / 2 of a head are the
    real and the imaginary part of a number that a position p turns by p / theta^(2 d / D) radians.

    Shapes: L tokens of an example, H hidden size, N attention heads, D = H / N, I intermediate
    size, V vocabulary size.
    """

    def __init__(self, config: Mapping[str, Any], tensor: TensorReader) -> None:
        self._config, self._tensor = config, tensor

    def encode(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Last hidden states [L, H] of each example, given as (token ids [L], anything)."""
        words = self._tensor("model.embeddings.tok_embeddings.weight")
        hidden = [self._norm("model.embeddings.norm", words[ids]) for ids, _ in examples]
        for number in range(self._config["num_hidden_layers"]):
            hidden = [self._layer(number, states) for states in hidden]
        return [self._norm("model.final_norm", states) for states in hidden]

    def mlm_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] -> [..., V]"""
        activation = ACTIVATIONS[self._config["classifier_activation"]]
        states = activation(hidden @ self._tensor("head.dense.weight").T)
        table = self._tensor("model.embeddings.tok_embeddings.weight")
        # [..., H] x [H, V] -> [..., V]
        return self._norm("head.norm", states) @ table.T + self._tensor("decoder.bias")

    def _norm(self, scope: str, values: np.ndarray) -> np.ndarray:
        return normalised(values, self._config["norm_eps"]) * self._tensor(f"{scope}.weight")

    def _layer(self, number: int, hidden: np.ndarray) -> np.ndarray:
        """[L, H] -> [L, H]"""
        scope = f"model.layers.{number}"
        # The weights are [outputs, inputs].
        qkv, output, inner, outer = (
            self._tensor(f"{scope}.{name}.weight")
            for name in ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")
        )
        # The embeddings are normalised already.
        values = self._norm(f"{scope}.attn_norm", hidden) if number else hidden
        hidden = hidden + self._attention(number, values @ qkv.T) @ output.T
        # [L, 2 I] -> 2 x [L, I]
        gated, gate = np.split(self._norm(f"{scope}.mlp_norm", hidden) @ inner.T, 2, axis=1)
        activation = ACTIVATIONS[self._config["hidden_activation"]]
        return hidden + (activation(gated) * gate) @ outer.T

    def _attention(self, number: int, projected: np.ndarray) -> np.ndarray:
        """[L, 3 H] -> [L, H]"""
        kind, heads = self._config["layer_types"][number], self._config["num_attention_heads"]
        length, size = len(projected), projected.shape[1] // 3
        # [L, 3 H] -> [L, 3, N, D] -> [3, N, L, D]
        queries, keys, values = projected.reshape(length, 3, heads, -1).transpose(1, 2, 0, 3)
        theta = self._config["rope_parameters"][kind]["rope_theta"]
        queries, keys = _turned(queries, theta), _turned(keys, theta)
        reach = length
        if kind == "sliding_attention":
            reach = self._config["local_attention"] // 2
        positions = np.arange(length)
        context = np.empty_like(queries)
        for start in range(0, length, _BLOCK):
            own = slice(start, start + _BLOCK)
            near = slice(max(0, start - reach), start + _BLOCK + reach)
            # [N, Q, D] x [N, D, K] -> [N, Q, K]
            scores = queries[:, own] @ keys[:, near].swapaxes(1, 2) / math.sqrt(size // heads)
            distances = np.abs(positions[own, None] - positions[near])  # [Q, K]
            context[:, own] = (
                softmax(np.where(distances <= reach, scores, -np.inf)) @ values[:, near]
            )
        # [N, L, D] -> [L, N, D] -> [L, H]
        return context.swapaxes(0, 1).reshape(length, size)


def _turned(states: np.ndarray, theta: float) -> np.ndarray:
    """Queries or keys of all positions, turned by their angles: [N, L, D] -> [N, L, D].

    Angles are rounded to float32, as in transformers: at position 8,000 it changes them by 4e-4.
    """
    real, imaginary = np.split(states, 2, axis=2)
    pairs = real.shape[2]
    frequencies = (theta ** (-np.arange(pairs) / pairs)).astype(np.float32)
    positions = np.arange(states.shape[1], dtype=np.float32)
    angles = (positions[:, None] * frequencies).astype(np.float64)  # [L, D / 2]
    turned = (real + 1j * imaginary) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=2)
