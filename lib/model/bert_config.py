"""Configuration and parameters of BERT (Devlin et al., 2019)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lib.model.encoder_config import EncoderConfig
from lib.model.parameters import (
    ENCODER,
    MLM_HEAD,
    NSP_HEAD,
    POOLER,
    Parameter,
    dense_parameters,
    layer_norm_parameters,
)

WORDS, OUTPUT_BIAS = "bert/embeddings/word_embeddings", "cls/predictions/output_bias"
SEGMENTS = "bert/embeddings/token_type_embeddings"
POSITIONS = "bert/embeddings/position_embeddings"


@dataclass(frozen=True, kw_only=True)
class BertConfig(EncoderConfig):
    """Sizes and options of a BERT, named as in `bert_config.json` and `config.json`."""

    hidden_act: str
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12

    architecture: ClassVar[str] = "bert"
    title: ClassVar[str] = "BERT"
    huggingface_class: ClassVar[str] = "BertForPreTraining"
    token_embeddings: ClassVar[str] = WORDS
    output_bias: ClassVar[str] = OUTPUT_BIAS
    has_next_sentence: ClassVar[bool] = True
    poolings: ClassVar[tuple[str, ...]] = ("cls",)
    fixed: ClassVar[Mapping[str, Any]] = {
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
        "pruned_heads": {},
    }

    @property
    def segments(self) -> int:
        return self.type_vocab_size

    def attention_span(self, layer: int, length: int) -> int:
        return length

    def description(self) -> list[tuple[str, object]]:
        return [
            ("activation", self.hidden_act),
            ("positions", self.max_position_embeddings),
            ("segment types", self.type_vocab_size),
            ("word embeddings", self.vocab_size),
            ("hidden dropout", f"{self.hidden_dropout_prob:g}"),
            ("attention dropout", f"{self.attention_probs_dropout_prob:g}"),
        ]

    @property
    def classifier_dropout(self) -> float:
        return self.hidden_dropout_prob

    @classmethod
    def from_settings(cls, vocab_size: int, settings: Mapping[str, Any]) -> Self:
        return cls(vocab_size=vocab_size, **cls._fields_of(settings))

    def to_huggingface(self) -> dict[str, Any]:
        return {"position_embedding_type": "absolute", "tie_word_embeddings": True}

    def classifier_parts(self, per_token: bool) -> tuple[str, ...]:
        return (ENCODER,) if per_token else (ENCODER, POOLER)

    def special_ids(self, pad: int, cls: int, sep: int) -> dict[str, int]:
        return {"pad_token_id": pad}

    def parameter_table(self) -> list[Parameter]:
        """All parameters, in a fixed order, under the names of Google's TF1 code."""
        size, inner = self.hidden_size, self.intermediate_size
        table = [
            Parameter(WORDS, (self.vocab_size, size)),
            Parameter(SEGMENTS, (self.type_vocab_size, size)),
            Parameter(POSITIONS, (self.max_position_embeddings, size)),
            *layer_norm_parameters("bert/embeddings", size),
        ]
        for number in range(self.num_hidden_layers):
            layer = f"bert/encoder/layer_{number}"
            for part in ("query", "key", "value"):
                table += dense_parameters(f"{layer}/attention/self/{part}", size, size, matrices=1)
            table += dense_parameters(f"{layer}/attention/output/dense", size, size, matrices=1)
            table += layer_norm_parameters(f"{layer}/attention/output", size)
            table += dense_parameters(f"{layer}/intermediate/dense", size, inner, matrices=1)
            table += dense_parameters(f"{layer}/output/dense", inner, size, matrices=1)
            table += layer_norm_parameters(f"{layer}/output", size)
        return [
            *table,
            *dense_parameters("bert/pooler/dense", size, size, POOLER),
            *dense_parameters("cls/predictions/transform/dense", size, size, MLM_HEAD),
            *layer_norm_parameters("cls/predictions/transform", size, MLM_HEAD),
            Parameter(OUTPUT_BIAS, (self.vocab_size,), "zeros", MLM_HEAD, decays=False),
            Parameter("cls/seq_relationship/output_weights", (2, size), part=NSP_HEAD),
            Parameter("cls/seq_relationship/output_bias", (2,), "zeros", NSP_HEAD, decays=False),
        ]
