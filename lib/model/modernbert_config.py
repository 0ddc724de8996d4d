"""Configuration and parameters of ModernBERT (Warner et al., 2024).

transformers decides what the fields mean: configuration_modernbert.py, version 5.23.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from lib.model.encoder_config import EncoderConfig, is_size, is_theta
from lib.model.parameters import ENCODER, HEAD, MLM_HEAD, Parameter

WORDS, OUTPUT_BIAS = "embeddings/tok_embeddings", "decoder/bias"
_FIXED = {
    "norm_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "classifier_bias": False,
    "decoder_bias": True,
    "tie_word_embeddings": True,
}
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_ROPE_KEYS = {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"}


@dataclass(frozen=True, kw_only=True)
class ModernBertConfig(EncoderConfig):
    """Sizes and options of a ModernBERT, named as in its `config.json`.

    Attributes:
        intermediate_size: of the gate and of what it multiplies, each.
        max_position_embeddings: tokens of the longest input; no weights depend on it.
        local_attention: a token of a local layer attends to half as many on either side.
        global_attn_every_n_layers: layers 0, n, 2n, ... are global.
        global_rope_theta, local_rope_theta: the slowest of D / 2 rotations of a head of size D
            turns by theta^(-(D - 2) / D) radians per token, the fastest by 1.
        classifier_dropout, classifier_pooling: for classifiers of transformers on top of the model.
    """

    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    mlp_dropout: float = 0.0
    local_attention: int = 128
    global_attn_every_n_layers: int = 3
    global_rope_theta: float = 160_000.0
    local_rope_theta: float = 10_000.0
    initializer_range: float = 0.02
    norm_eps: float = 1e-5
    classifier_dropout: float = 0.0
    classifier_pooling: str = "cls"

    architecture: ClassVar[str] = "modernbert"
    title: ClassVar[str] = "ModernBERT"
    huggingface_class: ClassVar[str] = "ModernBertForMaskedLM"
    token_embeddings: ClassVar[str] = WORDS
    output_bias: ClassVar[str] = OUTPUT_BIAS
    has_next_sentence: ClassVar[bool] = False
    poolings: ClassVar[tuple[str, ...]] = ("cls", "mean")
    fixed: ClassVar[Mapping[str, Any]] = {**_FIXED, "rope_scaling": None}

    @property
    def segments(self) -> int:
        return 1

    def attention_span(self, layer: int, length: int) -> int:
        return length if self.is_global(layer) else min(length, self.local_attention + 1)

    def description(self) -> list[tuple[str, object]]:
        return [
            ("activation", f"{self.hidden_activation}, gated"),
            ("longest input", self.max_position_embeddings),
            ("global attention", f"every {self.global_attn_every_n_layers} layers"),
            ("window of local attention", self.local_attention),
            ("word embeddings", self.vocab_size),
            ("hidden dropout", f"{self.mlp_dropout:g}"),
            ("attention dropout", f"{self.attention_dropout:g}"),
        ]

    @classmethod
    def from_settings(cls, vocab_size: int, settings: Mapping[str, Any]) -> Self:
        return cls(
            vocab_size=vocab_size,
            hidden_activation=settings["hidden_act"],
            embedding_dropout=settings["hidden_dropout_prob"],
            mlp_dropout=settings["hidden_dropout_prob"],
            attention_dropout=settings["attention_probs_dropout_prob"],
            **cls._fields_of(settings),
        )

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], source: str, problems: Iterable[tuple[str, str]] = ()
    ) -> Self:
        """From transformers' config.json, of version 4 or 5; see the base class."""
        values, problems = dict(values), [*problems]
        activation = values.get("hidden_activation", cls.hidden_activation)
        if values.get("classifier_activation", cls.hidden_activation) != activation:
            problems.append(("classifier_activation", "that of the layers, hidden_activation"))
        if (rope := values.get("rope_parameters")) is not None:
            thetas = _thetas(rope)
            if thetas is None:
                needed = (
                    f"an object for each of {_GLOBAL} and {_LOCAL}, of rope_type default and with "
                    "a rope_theta of at least 1"
                )
                problems.append(("rope_parameters", needed))
            values |= thetas or {}
        if (kinds := values.get("layer_types")) is not None:
            every = _global_every(kinds, values)
            if every is None:
                needed = (
                    f"{_GLOBAL} for every n-th layer from the first and {_LOCAL} for the others, "
                    "as many as num_hidden_layers"
                )
                problems.append(("layer_types", needed))
            values["global_attn_every_n_layers"] = every or cls.global_attn_every_n_layers
        return super().from_dict(values, source, problems)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.head_size % 2:
            yield "hidden_size", "an even number per attention head"
        if self.local_attention % 2:
            yield "local_attention", "an even number"

    def is_global(self, layer: int) -> bool:
        """Whether a layer attends to all tokens; the others attend to neighbours."""
        return layer % self.global_attn_every_n_layers == 0

    @property
    def reach(self) -> int:
        """How many tokens on either side a token of a local layer attends to."""
        return self.local_attention // 2

    def in_bands(self, length: int) -> bool:
        """Whether local layers compute the scores of neighbouring tokens only."""
        return length > 2 * self.local_attention

    def is_banded(self, layer: int, length: int) -> bool:
        """Whether a layer computes the scores of neighbouring tokens only."""
        return self.in_bands(length) and not self.is_global(layer)

    def frequencies(self, layer: int) -> np.ndarray:
        """Radians per token by which positions turn the pairs of a head: float64 [D / 2]."""
        theta = self.global_rope_theta if self.is_global(layer) else self.local_rope_theta
        return theta ** (-np.arange(0, self.head_size, 2) / self.head_size)

    def to_huggingface(self) -> dict[str, Any]:
        """Fields of config.json that this class does not have."""
        thetas = {_GLOBAL: self.global_rope_theta, _LOCAL: self.local_rope_theta}
        return {
            **_FIXED,
            # The head's; this project has one activation function in all.
            "classifier_activation": self.hidden_activation,
            "layer_types": _layer_types(self.num_hidden_layers, self.global_attn_every_n_layers),
            "rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": theta}
                for kind, theta in thetas.items()
            },
        }

    def classifier_parts(self, per_token: bool) -> tuple[str, ...]:
        return ENCODER, HEAD

    def special_ids(self, pad: int, cls: int, sep: int) -> dict[str, int]:
        ids = {"pad": pad, "cls": cls, "bos": cls, "sep": sep, "eos": sep}
        return {f"{name}_token_id": number for name, number in ids.items()}

    def parameter_table(self) -> list[Parameter]:
        """All parameters, in a fixed order, under transformers' names with slashes."""
        size, inner = self.hidden_size, self.intermediate_size
        # Output projections start smaller, as each adds to the same residual stream.
        out = (2 * self.num_hidden_layers) ** -0.5

        def norm(name: str, part: str = ENCODER) -> Parameter:
            return Parameter(name, (size,), "ones", part, decays=False)

        table = [Parameter(WORDS, (self.vocab_size, size)), norm("embeddings/norm")]
        for number in range(self.num_hidden_layers):
            layer = f"layers/{number}"
            if number:
                table.append(norm(f"{layer}/attn_norm"))
            table += [
                Parameter(f"{layer}/attn/Wqkv", (size, 3 * size), matrices=3),
                Parameter(f"{layer}/attn/Wo", (size, size), matrices=1, scale=out),
                norm(f"{layer}/mlp_norm"),
                Parameter(f"{layer}/mlp/Wi", (size, 2 * inner), matrices=2),
                Parameter(f"{layer}/mlp/Wo", (inner, size), matrices=1, scale=out),
            ]
        return [
            *table,
            norm("final_norm"),
            Parameter("head/dense", (size, size), part=HEAD, scale=out),
            norm("head/norm", HEAD),
            Parameter(OUTPUT_BIAS, (self.vocab_size,), "zeros", MLM_HEAD, decays=False),
        ]


def _layer_types(layers: int, every: int) -> list[str]:
    return [_LOCAL if number % every else _GLOBAL for number in range(layers)]


def _thetas(rope: object) -> dict[str, float] | None:
    """The fields that `rope_parameters` state; None if it is not what this project computes."""
    if not isinstance(rope, Mapping) or not set(rope) <= set(_ROPE_KEYS):
        return None
    thetas = {}
    for kind, key in _ROPE_KEYS.items():
        own = rope.get(kind) or {}
        if (
            not isinstance(own, Mapping)
            or own.get("rope_type", "default") != "default"
            or own.get("partial_rotary_factor", 1) != 1
        ):
            return None
        if "rope_theta" in own:
            if not is_theta(own["rope_theta"]):
                return None
            thetas[key] = own["rope_theta"]
    return thetas


def _global_every(kinds: object, values: Mapping[str, Any]) -> int | None:
    """The n for which every n-th layer is global; None if there is none.

    For a model with one global layer, several would do: the one that the file states is preferred.
    """
    if not isinstance(kinds, list) or len(kinds) != values.get("num_hidden_layers", len(kinds)):
        return None
    stated = values.get("global_attn_every_n_layers")
    if is_size(stated) and kinds == _layer_types(len(kinds), stated):
        return stated
    every = kinds.index(_GLOBAL, 1) if _GLOBAL in kinds[1:] else len(kinds)
    return every if kinds and kinds == _layer_types(len(kinds), every) else None
