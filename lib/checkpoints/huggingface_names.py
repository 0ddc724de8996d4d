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

from lib.checkpoints.tensors import StoredTensor
from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.modernbert_config import ModernBertConfig
from lib.model.parameters import ENCODER, Parameter

# Ends of the names of matrices that PyTorch stores transposed.
_TRANSPOSED = ("/kernel", "/Wqkv", "/Wo", "/Wi", "/dense")
# Last part of a BERT's name: parameter table -> Hugging Face, where they differ.
_BERT_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "word_embeddings": "word_embeddings.weight",
    "token_type_embeddings": "token_type_embeddings.weight",
    "position_embeddings": "position_embeddings.weight",
    "output_weights": "weight",
    "output_bias": "bias",
}


@dataclass(frozen=True)
class Names:
    """Names of an architecture.

    Attributes:
        name: the name of the tensor that holds a parameter.
        encoder: prefix of the encoder's tensors, which a model saved without heads lacks.
        bare: beginnings of their names in such a model.
        tied: parameter of the MLM head -> its second name in a file.
        buffer: a tensor that carries no information.
    """

    name: Callable[[Parameter], str]
    encoder: str
    bare: tuple[str, ...]
    tied: Mapping[str, str]
    buffer: str | None = None

    def stored_tensors(self, config: EncoderConfig) -> dict[str, StoredTensor]:
        """Parameter-table name -> tensor."""
        table = {}
        for parameter in config.parameter_table():
            transposed = parameter.name.endswith(_TRANSPOSED)
            shape = parameter.shape[::-1] if transposed else parameter.shape
            table[parameter.name] = StoredTensor(self.name(parameter), shape, transposed)
        return table


def names_of(config: EncoderConfig) -> Names:
    """The names of a model's architecture."""
    return _NAMES[config.architecture]


def _bert_name(parameter: Parameter) -> str:
    scope, _, leaf = parameter.name.replace("/layer_", "/layer/").rpartition("/")
    return f"{scope}/{_BERT_LEAVES.get(leaf, leaf)}".replace("/", ".")


def _modernbert_name(parameter: Parameter) -> str:
    name = parameter.name.replace("/", ".")
    if parameter.part == ENCODER:
        name = f"model.{name}"
    return name if parameter.name == ModernBertConfig.output_bias else f"{name}.weight"


_NAMES = {
    "bert": Names(
        _bert_name,
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
        _modernbert_name,
        "model.",
        ("embeddings.", "layers.", "final_norm."),
        {ModernBertConfig.token_embeddings: "decoder.weight"},
    ),
}
