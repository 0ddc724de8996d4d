"""Parameter table: every tensor of BERT for pretraining, under the names of Google's TF1 code.

Importers and exporters are lists of renames and transposes over this table.
"""

from dataclasses import dataclass

from lib.model.config import BertConfig


@dataclass(frozen=True)
class Parameter:
    """One tensor of the model: name, shape and initialiser."""

    name: str
    shape: tuple[int, ...]
    initial: str  # "normal" (truncated), "zeros" or "ones"

    @property
    def decays(self) -> bool:
        """Whether weight decay applies: not to biases nor to layer normalisation."""
        return "LayerNorm" not in self.name and not self.name.endswith("bias")

    @property
    def is_layer_matrix(self) -> bool:
        """Whether it is the kernel of a dense layer in the encoder: no embedding, bias or head."""
        return self.name.startswith("bert/encoder/") and self.name.endswith("/kernel")


def _dense(scope: str, inputs: int, outputs: int) -> list[Parameter]:
    return [
        Parameter(f"{scope}/kernel", (inputs, outputs), "normal"),
        Parameter(f"{scope}/bias", (outputs,), "zeros"),
    ]


def _layer_norm(scope: str, size: int) -> list[Parameter]:
    return [
        Parameter(f"{scope}/LayerNorm/gamma", (size,), "ones"),
        Parameter(f"{scope}/LayerNorm/beta", (size,), "zeros"),
    ]


def parameter_table(config: BertConfig) -> list[Parameter]:
    """All parameters of encoder and heads, in a fixed order."""
    size = config.hidden_size
    table = [
        Parameter("bert/embeddings/word_embeddings", (config.vocab_size, size), "normal"),
        Parameter(
            "bert/embeddings/token_type_embeddings", (config.type_vocab_size, size), "normal"
        ),
        Parameter(
            "bert/embeddings/position_embeddings", (config.max_position_embeddings, size), "normal"
        ),
        *_layer_norm("bert/embeddings", size),
    ]
    for number in range(config.num_hidden_layers):
        layer = f"bert/encoder/layer_{number}"
        for part in ("query", "key", "value"):
            table += _dense(f"{layer}/attention/self/{part}", size, size)
        table += _dense(f"{layer}/attention/output/dense", size, size)
        table += _layer_norm(f"{layer}/attention/output", size)
        table += _dense(f"{layer}/intermediate/dense", size, config.intermediate_size)
        table += _dense(f"{layer}/output/dense", config.intermediate_size, size)
        table += _layer_norm(f"{layer}/output", size)
    return [
        *table,
        *_dense("bert/pooler/dense", size, size),
        *_dense("cls/predictions/transform/dense", size, size),
        *_layer_norm("cls/predictions/transform", size),
        Parameter("cls/predictions/output_bias", (config.vocab_size,), "zeros"),
        Parameter("cls/seq_relationship/output_weights", (2, size), "normal"),
        Parameter("cls/seq_relationship/output_bias", (2,), "zeros"),
    ]
