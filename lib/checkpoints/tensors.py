"""From the tensors of a checkpoint, whoever wrote it, to the parameter table, and back.

Each format has one table beside it: the parameter table's name -> `StoredTensor`. What is missing,
left over or misshapen is found here, the same way for all of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lib.model.config import BertConfig
from lib.model.parameters import parameter_table
from lib.run.errors import UserError

# Head -> how the names of its parameters begin.
_HEADS = {
    "MLM head": "cls/predictions/",
    "NSP head": "cls/seq_relationship/",
    "pooler": "bert/pooler/",
}


@dataclass(frozen=True)
class StoredTensor:
    """How a format keeps one parameter.

    Attributes:
        name: of its tensor there.
        shape: of its tensor there.
        transposed: a matrix [inputs, outputs] stands there as [outputs, inputs].
    """

    name: str
    shape: tuple[int, ...]
    transposed: bool = False

    def to_parameter(self, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The parameter, float32 of its own shape, from the format's tensor."""
        array = tensor.T if self.transposed else tensor.reshape(shape)
        return np.ascontiguousarray(array, np.float32)

    def from_parameter(self, parameter: np.ndarray) -> np.ndarray:
        """The format's tensor from the parameter."""
        array = parameter.T if self.transposed else parameter.reshape(self.shape)
        return np.ascontiguousarray(array)


@dataclass(frozen=True)
class Checkpoint:
    """A model that was read.

    Attributes:
        weights: float32 arrays by the names of the parameter table, but those of `missing_heads`.
        missing_heads: heads that it does not have: "MLM head", "NSP head", "pooler".
        unused_tensors: tensors of it that are no part of a BERT for pretraining.
    """

    config: BertConfig
    weights: dict[str, np.ndarray]
    missing_heads: tuple[str, ...] = ()
    unused_tensors: tuple[str, ...] = ()


def assemble(
    source: str,
    config: BertConfig,
    table: Mapping[str, StoredTensor],
    names: Iterable[str],
    shape_of: Callable[[str], tuple[int, ...]],
    read: Callable[[str], np.ndarray],
    allow_missing_heads: bool = False,
    encoder: str | None = None,
) -> Checkpoint:
    """Reads every parameter of a checkpoint, after all that can be wrong was looked for.

    Args:
        source: the file, for errors.
        table: how the format keeps each parameter.
        names: of the checkpoint's tensors, but those that say nothing (optimizer slots, buffers,
            copies of tied weights).
        shape_of, read: the shape and the values of the tensor of a name.
        allow_missing_heads: the heads may be missing, and tensors that are no BERT's be left out;
            otherwise both are errors.
        encoder: how the names of the encoder's tensors begin; of these none is ever left out,
            because a model with fewer layers than its own would be another one.

    Raises:
        UserError: a tensor is missing, left over or misshapen; it is named.
    """
    here = set(names)
    absent = [ours for ours, stored in table.items() if stored.name not in here]
    heads = []
    for head, prefix in _HEADS.items():
        own = [name for name in table if name.startswith(prefix)]
        if set(own) <= set(absent):
            heads.append(head)
            absent = [name for name in absent if name not in own]
    extra = sorted(here - {stored.name for stored in table.values()})
    beside = f"; beside what it should have it has {some_names(extra)}" if extra else ""
    if absent:
        theirs = some_names([table[name].name for name in absent])
        raise UserError(
            f"{source}: no tensor {theirs}, which a model with {config.num_hidden_layers} layers "
            f"should have{beside}"
        )
    if heads and not allow_missing_heads:
        raise UserError(
            f"{source}: has no {' and no '.join(heads)}: this is not a BERT for pretraining"
            f"{beside}; set pretrain.init_missing_heads: true to let them begin at random"
        )
    beyond = [name for name in extra if encoder is not None and name.startswith(encoder)]
    if wrong := beyond if allow_missing_heads else extra:
        raise UserError(
            f"{source}: {some_names(wrong)}: no part of a BERT with {config.num_hidden_layers} "
            "layers; does its config belong to it?"
        )
    shapes = {parameter.name: parameter.shape for parameter in parameter_table(config)}
    here_of = {ours: stored for ours, stored in table.items() if stored.name in here}
    for stored in here_of.values():
        shape = tuple(shape_of(stored.name))
        if shape != stored.shape:
            raise UserError(
                f"{source}: {stored.name} has shape {list(shape)}, but its config asks for "
                f"{list(stored.shape)}; give the model the config that it was made with"
            )
    weights = {
        ours: stored.to_parameter(read(stored.name), shapes[ours])
        for ours, stored in here_of.items()
    }
    return Checkpoint(config, weights, tuple(heads), tuple(extra))


def as_float32(tensor: np.ndarray, source: str, name: str) -> np.ndarray:
    """The same numbers in float32, which holds them all.

    Raises:
        UserError: they are no float32, float16 or bfloat16.
    """
    if tensor.dtype.name not in ("float32", "float16", "bfloat16"):
        raise UserError(
            f"{source}: {shown(name)} is of type {tensor.dtype.name}; float32, float16 and "
            "bfloat16 are read: save the model in one of them"
        )
    return tensor.astype(np.float32, order="C", copy=False)


def shown(text: object) -> str:
    """What stands in a file, for an error: in one line, short, nothing that a terminal obeys."""
    line = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return line if len(line) <= 100 else f"{line[:100]}..."


def some_names(names: Sequence[str]) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(shown, names[:3])) + more
