"""Hugging Face directories: `config.json` and the weights in the PyTorch layout."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lib.checkpoints.tensors import Checkpoint, StoredTensor, assemble, shown
from lib.checkpoints.weight_files import SAFETENSORS, Tensors, open_weights
from lib.model.config import BertConfig
from lib.model.parameters import parameter_table
from lib.run.atomic import new_file, write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object

_EMBEDDINGS = ("word_embeddings", "token_type_embeddings", "position_embeddings")
# Google's scope inside a layer -> Hugging Face's.
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
_LEAF = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
_HEADS = {
    "cls/predictions/transform/dense": "cls.predictions.transform.dense",
    "cls/predictions/transform/LayerNorm": "cls.predictions.transform.LayerNorm",
    "bert/pooler/dense": "bert.pooler.dense",
    "bert/embeddings/LayerNorm": "bert.embeddings.LayerNorm",
}
_WHOLE = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    **{f"bert/embeddings/{name}": f"bert.embeddings.{name}.weight" for name in _EMBEDDINGS},
}
# Not a parameter: the numbers 0, 1, 2, ..., which transformers kept up to version 4.30.
_POSITIONS = "bert.embeddings.position_ids"
# The MLM head's output layer, which is tied: second names of the embeddings and of the bias.
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
_WORDS, _BIAS = "bert/embeddings/word_embeddings", "cls/predictions/output_bias"


def stored_tensors(config: BertConfig) -> dict[str, StoredTensor]:
    """Where and how the PyTorch layout keeps each parameter of the parameter table."""
    table = {}
    for parameter in parameter_table(config):
        scope, _, leaf = parameter.name.rpartition("/")
        if parameter.name in _WHOLE:
            theirs = _WHOLE[parameter.name]
        elif scope in _HEADS:
            theirs = f"{_HEADS[scope]}.{_LEAF[leaf]}"
        else:
            _, _, layer, inner = scope.split("/", 3)
            number = layer.removeprefix("layer_")
            theirs = f"bert.encoder.layer.{number}.{_LAYER[inner]}.{_LEAF[leaf]}"
        transposed = leaf == "kernel"
        shape = parameter.shape[::-1] if transposed else parameter.shape
        table[parameter.name] = StoredTensor(theirs, shape, transposed)
    return table


def write_model(
    directory: Path,
    config: BertConfig,
    weights: Mapping[str, np.ndarray],
    specials: Mapping[str, int],
) -> None:
    """Writes `config.json` and `model.safetensors`, each atomically, the weights last.

    The decoder matrix of the MLM head is left out: it is the word embedding table.

    Args:
        weights: float32 arrays by the names of the parameter table.
        specials: `pad_token_id` and other ids that config.json states.
    """
    values = {
        "architectures": ["BertForPreTraining"],
        "model_type": "bert",
        **asdict(config),
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "dtype": "float32",
        **specials,
    }
    write_text(directory / "config.json", json.dumps(values, indent=2, sort_keys=True) + "\n")
    tensors = {
        theirs.name: theirs.from_parameter(weights[ours])
        for ours, theirs in stored_tensors(config).items()
    }
    path = directory / SAFETENSORS
    with new_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
            # safetensors makes files that nobody else can read, whatever the umask.
            shutil.copymode(directory / "config.json", temporary)
        except SafetensorError as failure:
            raise UserError(
                f"{path}: cannot be written ({failure}); is the disk full? Free some space and "
                "run the same command again"
            ) from None


def read_model(directory: Path) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """A model with all its heads, as `write_model` or transformers writes it.

    Returns:
        The configuration, and float32 arrays by the names of the parameter table.

    Raises:
        UserError: see `read_checkpoint`.
    """
    checkpoint = read_checkpoint(directory)
    return checkpoint.config, checkpoint.weights


def read_checkpoint(directory: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a directory of transformers': safetensors or pickles, in one file or in several.

    A model that was saved without its heads has names without `bert.`; models of 2018 have
    `gamma` and `beta`; both are read. So are float16 and bfloat16, as float32.

    Args:
        allow_missing_heads: accept a model without heads, and ignore tensors that are not part of a
            BERT (those of a fine-tuned model).

    Raises:
        UserError: there is no model, a file is damaged or asks for code, the config and the
            weights disagree, a tensor is missing, misshapen or left over, or the output layer of
            the MLM head is not tied to the word embeddings.
    """
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; {directory} is not a model directory")
    config = BertConfig.from_dict(read_object(path), str(path))
    tensors = open_weights(directory)
    source = str(tensors.source)
    own = _known_names(tensors)
    own.pop(_POSITIONS, None)
    table = stored_tensors(config)
    copies = {}
    for ours, second in ((_WORDS, _DECODER), (_BIAS, _DECODER_BIAS)):
        if second in own:
            copies[ours] = own.pop(second)
            # A file may have tied tensors under one of their names only.
            own.setdefault(table[ours].name, copies[ours])
    checkpoint = assemble(
        source,
        config,
        table,
        own,
        lambda name: tensors.shapes[own[name]],
        lambda name: tensors.read(own[name]),
        allow_missing_heads,
        encoder="bert.",
    )
    for ours, copy in copies.items():
        if not _same_bits(tensors, copy, checkpoint.weights[ours]):
            raise UserError(
                f"{source}: {copy} differs from {table[ours].name}; a model whose output layer is "
                "not tied to its word embeddings is not supported"
            )
    return checkpoint


def _known_names(tensors: Tensors) -> dict[str, str]:
    """Today's name of each tensor -> the one that it has in the file."""
    bare = not any(name.startswith("bert.") for name in tensors.shapes)
    names: dict[str, str] = {}
    for name in tensors.shapes:
        scope, _, leaf = name.rpartition(".")
        known = f"{scope}.{_LEAF[leaf]}" if scope.endswith("LayerNorm") and leaf in _LEAF else name
        if bare and known.startswith(("embeddings.", "encoder.", "pooler.")):
            known = f"bert.{known}"
        if known in names:
            raise UserError(
                f"{tensors.source}: has {shown(names[known])} and {shown(name)}, which are the "
                "same; take out one of them"
            )
        names[known] = name
    return names


def _same_bits(tensors: Tensors, name: str, array: np.ndarray) -> bool:
    return tensors.shapes[name] == array.shape and np.array_equal(
        tensors.read(name).view(np.uint32), array.view(np.uint32)
    )
