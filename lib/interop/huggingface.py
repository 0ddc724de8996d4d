"""Hugging Face directories: `config.json` and `model.safetensors` in the PyTorch layout."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

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


def _renames(config: BertConfig) -> Iterator[tuple[str, str, bool]]:
    """(our name, Hugging Face's name, whether the matrix is transposed) for every parameter."""
    for parameter in parameter_table(config):
        name = parameter.name
        if name in _WHOLE:
            yield name, _WHOLE[name], False
            continue
        scope, _, leaf = name.rpartition("/")
        if scope in _HEADS:
            theirs = _HEADS[scope]
        else:
            _, _, layer, inner = scope.split("/", 3)
            theirs = f"bert.encoder.layer.{layer.removeprefix('layer_')}.{_LAYER[inner]}"
        yield name, f"{theirs}.{_LEAF[leaf]}", leaf == "kernel"


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
        theirs: np.ascontiguousarray(weights[ours].T if transposed else weights[ours])
        for ours, theirs, transposed in _renames(config)
    }
    path = directory / "model.safetensors"
    with new_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as failure:
            raise UserError(
                f"{path}: cannot be written ({failure}); is the disk full? Free some space and "
                "run the same command again"
            ) from None


def read_model(directory: Path) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """Reads a directory as `write_model` or transformers writes it.

    Returns:
        The configuration, and float32 arrays by the names of the parameter table.

    Raises:
        UserError: a file is missing or damaged, or a tensor is missing or misshapen; it is named.
    """
    path = directory / "model.safetensors"
    for file in (directory / "config.json", path):
        if not file.exists():
            raise UserError(f"{file}: no such file; {directory} is not a model directory")
    config = BertConfig.from_dict(
        read_object(directory / "config.json"), str(directory / "config.json")
    )
    try:
        tensors = load_file(path)
    except SafetensorError as failure:
        raise UserError(f"{path}: damaged ({failure}); fetch or train the model again") from None
    shapes = {parameter.name: parameter.shape for parameter in parameter_table(config)}
    weights = {}
    for ours, theirs, transposed in _renames(config):
        if theirs not in tensors:
            raise UserError(f"{path}: no tensor {theirs}; this is not a BERT for pretraining")
        array = tensors[theirs].T if transposed else tensors[theirs]
        if array.shape != shapes[ours]:
            raise UserError(
                f"{path}: {theirs} has shape {tensors[theirs].shape}, but config.json "
                f"asks for {shapes[ours]}{' transposed' if transposed else ''}"
            )
        weights[ours] = np.ascontiguousarray(array, np.float32)
    return config, weights
