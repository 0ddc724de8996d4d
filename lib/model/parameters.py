"""One tensor of a model; the `parameter_table` of its configuration lists them.

Importers and exporters are lists of renames and transposes over this table.
"""

from dataclasses import dataclass

ENCODER, POOLER, HEAD = "encoder", "pooler", "prediction head"
MLM_HEAD, NSP_HEAD = "MLM head", "NSP head"


@dataclass(frozen=True)
class Parameter:
    """One tensor of a model.

    Attributes:
        initial: "normal" (truncated at two deviations), "zeros" or "ones".
        part: of the model that it belongs to: encoder, pooler, prediction head (what the MLM head
            and classifiers of a ModernBERT have in common), MLM head or NSP head.
        decays: whether weight decay applies: not to biases nor to layer normalisation.
        matrices: it is this many matrices of the encoder's dense layers, side by side, each
            [inputs, outputs]; 0 for embeddings, biases, normalisation and heads.
        scale: of the standard deviation of its initial values, in those of the others.
    """

    name: str
    shape: tuple[int, ...]
    initial: str = "normal"
    part: str = ENCODER
    decays: bool = True
    matrices: int = 0
    scale: float = 1.0

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """[inputs, outputs] of each of its matrices."""
        inputs, outputs = self.shape
        return inputs, outputs // self.matrices


def dense_parameters(
    scope: str, inputs: int, outputs: int, part: str = ENCODER, matrices: int = 0
) -> list[Parameter]:
    """Kernel and bias of a dense layer."""
    return [
        Parameter(f"{scope}/kernel", (inputs, outputs), part=part, matrices=matrices),
        Parameter(f"{scope}/bias", (outputs,), "zeros", part, decays=False),
    ]


def layer_norm_parameters(scope: str, size: int, part: str = ENCODER) -> list[Parameter]:
    """Gamma and beta of layer normalisation."""
    return [
        Parameter(f"{scope}/LayerNorm/gamma", (size,), "ones", part, decays=False),
        Parameter(f"{scope}/LayerNorm/beta", (size,), "zeros", part, decays=False),
    ]
