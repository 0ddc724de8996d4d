"""Conversion between the tensors of a checkpoint and the parameter table of `lib.model.config`.

Each format module has one table: name in the parameter table -> `StoredTensor`, which gives the
name and shape that the tensor has in that format. Missing, unexpected and misshapen tensors are
found here, in the same way for all formats.

Example, the first feed-forward kernel of BERT-base in a Hugging Face directory:

    parameter table     bert/encoder/layer_0/intermediate/dense/kernel      [768, 3072]
    Hugging Face        bert.encoder.layer.0.intermediate.dense.weight      [3072, 768]

PyTorch's `nn.Linear` computes x W^T and stores W as [outputs, inputs]; TensorFlow computes x W and
stores [inputs, outputs]. So the table of `lib.checkpoints.huggingface` has the entry

    StoredTensor("bert.encoder.layer.0.intermediate.dense.weight", (3072, 768), transposed=True)

and reading is `to_parameter(tensor)[i, o] == tensor[o, i]`; writing, `from_parameter`, is the
inverse. Vectors and embeddings are only renamed (`LayerNorm.weight` is `LayerNorm/gamma`). The
Model Garden has an axis for the attention heads, so that its query kernel [768, 12, 64] is reshaped
to [768, 768]. No format needs more than a rename, a transpose or a reshape: all bits are kept.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.model.encoder_config import EncoderConfig
from lib.model.parameters import HEAD, MLM_HEAD, NSP_HEAD, POOLER
from lib.run.errors import UserError
from lib.text.names import some_of

NSP_HEADS = (NSP_HEAD, POOLER)
HEADS = (HEAD, MLM_HEAD, NSP_HEAD, POOLER)


@dataclass(frozen=True)
class StoredTensor:
    """One parameter as a format stores it.

    Attributes:
        name: of the tensor in the checkpoint.
        shape: of the tensor in the checkpoint.
        transposed: the parameter [inputs, outputs] is stored as [outputs, inputs].
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    def to_parameter(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The float32 parameter of the given shape, from the checkpoint's tensor."""
        # [O, I] -> [I, O], or e.g. [H, N, D] -> [H, N * D]
        array = tensor.T if self.transposed else tensor.reshape(shape)
        return np.ascontiguousarray(array, np.float32)

    def from_parameter(self, parameter: np.ndarray) -> np.ndarray:
        """The checkpoint's tensor, from the parameter."""
        # [I, O] -> [O, I], or e.g. [H, N * D] -> [H, N, D]
        array = parameter.T if self.transposed else parameter.reshape(self.shape)
        return np.ascontiguousarray(array)


def tensors_to_write(
    directory: Path, table: Mapping[str, StoredTensor], weights: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The tensors that a model directory has to hold, by their names there.

    Args:
        table: parameter-table name -> how the format stores it.
        weights: float32 arrays by parameter-table name.

    Raises:
        UserError: a weight is infinite or NaN: such a model is of no use.
    """
    for name in table:
        if not np.isfinite(weights[name]).all():
            raise UserError(
                f"{directory}: {name} is not finite, so this model is not written; the training "
                "that made it diverged: lower its learning rate or make its warm-up longer"
            )
    return {tensor.name: tensor.from_parameter(weights[name]) for name, tensor in table.items()}


@dataclass(frozen=True)
class StoredModel:
    """A model as its format stores it, with nothing checked yet.

    Attributes:
        source: the file or the prefix of the files, for errors.
        table: parameter-table name -> how the format stores it.
        shapes: of its tensors, by name, without those that carry no information (optimizer slots,
            buffers, copies of tied weights).
        read: gives the values of a tensor by its name.
        encoder: prefix of the encoder's tensor names. These are never ignored: reading only some
            of a model's layers would give another model.
    """

    source: str
    config: EncoderConfig
    table: Mapping[str, StoredTensor]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    encoder: str | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A model read from a checkpoint.

    Attributes:
        weights: float32 arrays by parameter-table name, without those of `missing_heads`.
        missing_heads: heads that the checkpoint lacks: "MLM head", "NSP head", "pooler".
        unused_tensors: names of tensors that are not part of a model for pretraining.
    """

    config: EncoderConfig
    weights: dict[str, np.ndarray]
    missing_heads: tuple[str, ...] = ()
    unused_tensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint whose names and shapes have been checked, and whose weights are read on demand.

    Attributes:
        config, missing_heads, unused_tensors: see `Checkpoint`.
        parameters: names in the parameter table, without those of `missing_heads`.
        read: gives the float32 array of a parameter; a UserError if a file is damaged or a value
            is not finite.
    """

    config: EncoderConfig
    parameters: tuple[str, ...]
    missing_heads: tuple[str, ...]
    unused_tensors: tuple[str, ...]
    read: Callable[[str], np.ndarray]

    def load(self) -> Checkpoint:
        """Reads all weights."""
        weights = {name: self.read(name) for name in self.parameters}
        return Checkpoint(self.config, weights, self.missing_heads, self.unused_tensors)


def open_model(
    model: StoredModel, allow_missing_heads: bool = False, unneeded_heads: Container[str] = ()
) -> OpenCheckpoint:
    """Checks the names and shapes of a model's tensors.

    Args:
        allow_missing_heads: accept a model without heads, and ignore tensors that are not part of
            the model (the classifier of a fine-tuned one); otherwise both are errors.
        unneeded_heads: heads that may be missing in any case.

    Raises:
        UserError: a tensor is missing, unexpected or misshapen; the message names it.
    """
    source, config, table = model.source, model.config, model.table
    missing = [name for name, tensor in table.items() if tensor.name not in model.shapes]
    missing_heads = []
    known = {parameter.name: parameter for parameter in config.parameter_table()}
    for head in HEADS:
        parameters = [name for name in table if known[name].part == head]
        if parameters and set(parameters) <= set(missing):
            missing_heads.append(head)
            missing = [name for name in missing if name not in parameters]
    unexpected = sorted(model.shapes.keys() - {tensor.name for tensor in table.values()})
    also = f"; unexpected tensors: {some_names(unexpected)}" if unexpected else ""
    if missing:
        raise UserError(
            f"{source}: tensors ({some_names([table[name].name for name in missing])}) of a "
            f"{config.title} with {config.num_hidden_layers} layers are missing{also}; use the "
            "config that belongs to these weights"
        )
    needed = [head for head in missing_heads if head not in unneeded_heads]
    if needed and not allow_missing_heads:
        fix = "set pretrain.init_missing_heads: true to initialise missing heads randomly"
        if set(needed) <= set(NSP_HEADS):
            fix += ", or records.next_sentence: false to train without them"
        raise UserError(
            f"{source}: no {' and no '.join(needed)}, so this is not a {config.title} for "
            f"pretraining{also}; {fix}"
        )
    wrong = unexpected
    if allow_missing_heads:
        wrong = [name for name in unexpected if model.encoder and name.startswith(model.encoder)]
    refuse_unexpected(source, config, wrong)
    stored = {name: tensor for name, tensor in table.items() if tensor.name in model.shapes}
    for tensor in stored.values():
        shape = tuple(model.shapes[tensor.name])
        if shape != tensor.shape:
            raise UserError(
                f"{source}: {tensor.name} has shape {list(shape)}, but its config requires "
                f"{list(tensor.shape)}; use the config that the model was trained with"
            )

    def read(name: str) -> np.ndarray:
        values = model.read(stored[name].name)
        refuse_not_finite(values, source, stored[name].name)
        return stored[name].to_parameter(values, known[name].shape)

    return OpenCheckpoint(config, tuple(stored), tuple(missing_heads), tuple(unexpected), read)


def refuse_unexpected(source: str | Path, config: EncoderConfig, names: Sequence[str]) -> None:
    """Raises a UserError if there are tensors that are not part of the model."""
    if names:
        raise UserError(
            f"{source}: tensors ({some_names(names)}) that are not part of a {config.title} with "
            f"{config.num_hidden_layers} layers; use the config that belongs to these weights"
        )


def refuse_not_finite(values: np.ndarray, source: str, name: str) -> None:
    """Raises a UserError if some values of a tensor are NaN or infinite."""
    finite = np.isfinite(values)
    if not finite.all():
        raise UserError(
            f"{source}: {printable(name)} has {finite.size - np.count_nonzero(finite):,} values of "
            f"{finite.size:,} that are NaN or infinite; the training that made it diverged, or the "
            "file is damaged: use an earlier checkpoint, or download it again"
        )


def as_float32(tensor: np.ndarray, source: str, name: str) -> np.ndarray:
    """The same values in float32, which represents float16 and bfloat16 exactly.

    Raises:
        UserError: the values are not float32, float16 or bfloat16.
    """
    if tensor.dtype.name not in ("float32", "float16", "bfloat16"):
        raise UserError(
            f"{source}: {printable(name)} has dtype {tensor.dtype.name}; save the model in "
            "float32, float16 or bfloat16"
        )
    return tensor.astype(np.float32, order="C", copy=False)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Bitwise equality of float32 arrays: NaN equals itself, 0 does not equal -0."""
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def printable(text: object) -> str:
    """Text from a file as shown in an error: one line, short, without terminal escapes."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return line if len(line) <= 100 else f"{line[:100]}..."


def some_names(names: Sequence[str]) -> str:
    """The first three names and the number of the others."""
    return some_of(list(map(printable, names)), 3)
