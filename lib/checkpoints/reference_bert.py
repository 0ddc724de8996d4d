"""Reference implementation of BERT, for the verification of exported models."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lib.checkpoints.reference_layers import ACTIVATIONS, TensorReader, normalised, softmax


class ReferenceBert:
    """BERT as in the paper (Devlin et al., 2019).

    Shapes: L tokens of an example, H hidden size, N attention heads, D = H / N, V vocabulary size.
    """

    def __init__(self, config: Mapping[str, Any], tensor: TensorReader) -> None:
        self._config, self._tensor = config, tensor
        self._activation = ACTIVATIONS[config["hidden_act"]]

    def encode(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Last hidden states [L, H] of each example, given as (token ids [L], segment ids [L])."""
        words, segments, positions = (
            self._tensor(f"bert.embeddings.{kind}_embeddings.weight")
            for kind in ("word", "token_type", "position")
        )
        hidden = [
            self._norm("bert.embeddings", words[ids] + segments[types] + positions[: len(ids)])
            for ids, types in examples
        ]
        for number in range(self._config["num_hidden_layers"]):
            hidden = [self._layer(f"bert.encoder.layer.{number}", states) for states in hidden]
        return hidden

    def mlm_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] -> [..., V]"""
        scope = "cls.predictions.transform"
        states = self._norm(scope, self._activation(self._dense(f"{scope}.dense", hidden)))
        table = self._tensor("bert.embeddings.word_embeddings.weight")
        # [..., H] x [H, V] -> [..., V]
        return states @ table.T + self._tensor("cls.predictions.bias")

    def nsp_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H], the states of [CLS] -> [..., 2]"""
        return self._dense(
            "cls.seq_relationship", np.tanh(self._dense("bert.pooler.dense", hidden))
        )

    def _dense(self, scope: str, values: np.ndarray) -> np.ndarray:
        # weight is [outputs, inputs].
        return values @ self._tensor(f"{scope}.weight").T + self._tensor(f"{scope}.bias")

    def _norm(self, scope: str, values: np.ndarray) -> np.ndarray:
        weight, bias = (self._tensor(f"{scope}.LayerNorm.{part}") for part in ("weight", "bias"))
        return normalised(values, self._config.get("layer_norm_eps", 1e-12)) * weight + bias

    def _layer(self, scope: str, hidden: np.ndarray) -> np.ndarray:
        """[L, H] -> [L, H]"""
        context = self._attention(f"{scope}.attention.self", hidden)
        attended = self._dense(f"{scope}.attention.output.dense", context)
        hidden = self._norm(f"{scope}.attention.output", hidden + attended)
        inner = self._activation(self._dense(f"{scope}.intermediate.dense", hidden))
        return self._norm(f"{scope}.output", hidden + self._dense(f"{scope}.output.dense", inner))

    def _attention(self, scope: str, hidden: np.ndarray) -> np.ndarray:
        """[L, H] -> [L, H]"""
        length, size = hidden.shape
        shape = length, self._config["num_attention_heads"], -1
        # [L, H] -> [L, N, D] -> [N, L, D]
        queries, keys, values = (
            self._dense(f"{scope}.{part}", hidden).reshape(shape).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        # [N, L, D] x [N, D, L] -> [N, L, L]
        scores = queries @ keys.swapaxes(1, 2) / math.sqrt(queries.shape[2])
        # [N, L, D] -> [L, N, D] -> [L, H]
        return (softmax(scores) @ values).swapaxes(0, 1).reshape(length, size)
