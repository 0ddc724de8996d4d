"""Names of tensors in Hugging Face directories, by architecture.

    parameter table of BERT                          Hugging Face
    -----------------------------------------------  -------------------------------------------
    bert/embeddings/word_embeddings                  bert.embeddings.word_embeddings.weight
    bert/encoder/layer_N/output/dense/kernel         bert.encoder.layer.N.output.dense.weight
    bert/encoder/layer_N/output/LayerNorm/gamma      bert.encoder.layer.N.output.LayerNorm.weight
    cls/predictions/output_bias                      cls.predictions.bias
    cls/seq_relationship/output_weights              cls.seq_relationship.weight

    parameter table of ModernBERT                    Hugging Face
    -----------------------------------------------  -------------------------------------------
    embeddings/tok_embeddings                        model.embeddings.tok_embeddings.weight
    layers/N/attn/Wqkv                               model.layers.N.attn.Wqkv.weight
    layers/N/mlp_norm                                model.layers.N.mlp_norm.weight
    head/dense                                       head.dense.weight
    decoder/bias                                     decoder.bias

and the others accordingly: `weight` is the transposed matrix, and in a LayerNorm `weight` and
`bias` are `gamma` and `beta`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lib.checkpoints.tensors import StoredTensor
from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.modernbert_config import ModernBertConfig
from lib.model.parameters import ENCODER


@dataclass(frozen=True)
class Names:
    """Names of an architecture.

    Attributes:
        stored_tensors: config -> parameter-table name -> tensor.
        encoder: prefix of the encoder's tensors, which a model saved without heads lacks.
        bare: beginnings of their names in such a model.
        tied: parameter of the MLM head -> its second name in a file.
        buffer: a tensor that carries no information.
    """

    stored_tensors: Callable[[Any], dict[str, StoredTensor]]
    encoder: str
    bare: tuple[str, ...]
    tied: Mapping[str, str]
    buffer: str | None = None


def names_of(config: EncoderConfig) -> Names:
    """The names of a model's architecture."""
    return _NAMES_BY_ARCHITECTURE[config.architecture]


_EMBEDDINGS = ("word_embeddings", "token_type_embeddings", "position_embeddings")
# Scope within a layer: parameter table -> Hugging Face.
_LAYER = {
    "attention/self/query": "attention.self.query",
    "attention/self/key": "attention.self.key",
    "attention/self/value": "attention.self.value",
    "attention/output/dense": "attention.output.dense",
    "attention/output/LayerNorm": "attention.output.LayerNorm",
    "intermediate/dense": "intermediate.dense",
    "output/dense": "output.dense",
    "output/LayerNorm": "output.LayerNorm",
}
# Last part of a name.
_LEAF = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
# Scopes outside the layers.
_SCOPES = {
    "cls/predictions/transform/dense": "cls.predictions.transform.dense",
    "cls/predictions/transform/LayerNorm": "cls.predictions.transform.LayerNorm",
    "bert/pooler/dense": "bert.pooler.dense",
    "bert/embeddings/LayerNorm": "bert.embeddings.LayerNorm",
}
# Names that follow no rule.
_NAMES = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    **{f"bert/embeddings/{name}": f"bert.embeddings.{name}.weight" for name in _EMBEDDINGS},
}
# What transformers calls the parts of a name that it keeps of older ones.
LEAVES = _LEAF


def _bert_tensors(config: BertConfig) -> dict[str, StoredTensor]:
    table = {}
    for parameter in config.parameter_table():
        scope, _, leaf = parameter.name.rpartition("/")
        if parameter.name in _NAMES:
            name = _NAMES[parameter.name]
        elif scope in _SCOPES:
            name = f"{_SCOPES[scope]}.{_LEAF[leaf]}"
        else:
            _, _, layer, inner = scope.split("/", 3)
            number = layer.removeprefix("layer_")
            name = f"bert.encoder.layer.{number}.{_LAYER[inner]}.{_LEAF[leaf]}"
        transposed = leaf == "kernel"
        shape = parameter.shape[::-1] if transposed else parameter.shape
        table[parameter.name] = StoredTensor(name, shape, transposed)
    return table


def _modernbert_tensors(config: ModernBertConfig) -> dict[str, StoredTensor]:
    table = {}
    for parameter in config.parameter_table():
        name = parameter.name.replace("/", ".")
        if parameter.part == ENCODER:
            name = f"model.{name}"
        transposed = len(parameter.shape) == 2 and parameter.name != config.token_embeddings
        shape = parameter.shape[::-1] if transposed else parameter.shape
        if parameter.name != config.output_bias:
            name += ".weight"
        table[parameter.name] = StoredTensor(name, shape, transposed)
    return table


_NAMES_BY_ARCHITECTURE = {
    "bert": Names(
        _bert_tensors,
        "bert.",
        ("embeddings.", "encoder.", "pooler."),
        {
            BertConfig.token_embeddings: "cls.predictions.decoder.weight",
            BertConfig.output_bias: "cls.predictions.decoder.bias",
        },
        # The numbers 0, 1, 2, ..., saved by transformers up to version 4.30.
        "bert.embeddings.position_ids",
    ),
    "modernbert": Names(
        _modernbert_tensors,
        "model.",
        ("embeddings.", "layers.", "final_norm."),
        {ModernBertConfig.token_embeddings: "decoder.weight"},
    ),
}
