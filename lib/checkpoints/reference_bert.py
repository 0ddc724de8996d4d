"""Reference implementation of BERT, for the verification of exported models."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lib.checkpoints.reference_layers import ACTIVATIONS, TensorReader, normalised, softmax


class ReferenceBert:
    """BERT as in the paper (Devlin et al., 2019), with one layer in memory at a time.

    Shapes: L tokens of an example, H hidden size, N attention heads, D = H / N, V vocabulary size.
    """

    def __init__(self, config: Mapping[str, Any], tensor: TensorReader) -> None:
        self._config, self._tensor = config, tensor
        self._activation = ACTIVATIONS[config["hidden_act"]]
        self._heads = config["num_attention_heads"]
        self._epsilon = config.get("layer_norm_eps", 1e-12)

    def encode(self, examples: list[tuple[np.ndarray, np.ndarray]]) -> list[np.ndarray]:
        """Last hidden states [L, H] of each example, given as (token ids [L], segment ids [L])."""
        embeddings = "bert.embeddings"
        words, segments, positions = (
            self._tensor(f"{embeddings}.{kind}_embeddings.weight")
            for kind in ("word", "token_type", "position")
        )
        hidden = [words[ids] + segments[types] + positions[: len(ids)] for ids, types in examples]
        hidden = self._each(self._norm(f"{embeddings}.LayerNorm"), hidden)
        for number in range(self._config["num_hidden_layers"]):
            layer = f"bert.encoder.layer.{number}"
            attended = self._each(self._attention(f"{layer}.attention"), hidden)
            hidden = self._each(self._feed_forward(layer), attended)
        return hidden

    def mlm_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H] -> [..., V]"""
        scope = "cls.predictions"
        states = self._activation(self._dense(f"{scope}.transform.dense")(hidden))
        states = self._norm(f"{scope}.transform.LayerNorm")(states)
        table = self._tensor("bert.embeddings.word_embeddings.weight")
        # [..., H] x [H, V] -> [..., V]
        return states @ table.T + self._tensor(f"{scope}.bias")

    def nsp_logits(self, hidden: np.ndarray) -> np.ndarray:
        """[..., H], the states of [CLS] -> [..., 2]"""
        pooled = np.tanh(self._dense("bert.pooler.dense")(hidden))
        return self._dense("cls.seq_relationship")(pooled)

    @staticmethod
    def _each(
        function: Callable[[np.ndarray], np.ndarray], arrays: list[np.ndarray]
    ) -> list[np.ndarray]:
        return [function(array) for array in arrays]

    def _dense(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self._tensor(f"{scope}.weight"), self._tensor(f"{scope}.bias")
        # weight is [outputs, inputs].
        return lambda values: values @ weight.T + bias

    def _norm(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        weight, bias = self._tensor(f"{scope}.weight"), self._tensor(f"{scope}.bias")

        def norm(values: np.ndarray) -> np.ndarray:
            return normalised(values, self._epsilon) * weight + bias

        return norm

    def _attention(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        query, key, value = (
            self._dense(f"{scope}.self.{part}") for part in ("query", "key", "value")
        )
        output, norm = self._dense(f"{scope}.output.dense"), self._norm(f"{scope}.output.LayerNorm")

        def attention(hidden: np.ndarray) -> np.ndarray:
            length, size = hidden.shape
            shape = length, self._heads, size // self._heads
            # [L, H] -> [L, N, D] -> [N, L, D]
            queries, keys, values = (
                part(hidden).reshape(shape).swapaxes(0, 1) for part in (query, key, value)
            )
            # [N, L, D] x [N, D, L] -> [N, L, L]
            scores = queries @ keys.swapaxes(1, 2) / math.sqrt(shape[2])
            # [N, L, D] -> [L, N, D] -> [L, H]
            context = (softmax(scores) @ values).swapaxes(0, 1).reshape(length, size)
            return norm(hidden + output(context))

        return attention

    def _feed_forward(self, scope: str) -> Callable[[np.ndarray], np.ndarray]:
        inner = self._dense(f"{scope}.intermediate.dense")
        outer, norm = self._dense(f"{scope}.output.dense"), self._norm(f"{scope}.output.LayerNorm")
        return lambda hidden: norm(hidden + outer(self._activation(inner(hidden))))
