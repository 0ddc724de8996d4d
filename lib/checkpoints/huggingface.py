"""Hugging Face model directories: `config.json` and the weights in PyTorch's layout.

transformers writes them (`save_pretrained`), and so does this project. A directory has

    config.json               the sizes; `gelu` means the erf form, `gelu_new` the tanh form
    model.safetensors         the weights; see `lib.checkpoints.weight_files` for other files

`lib.checkpoints.huggingface_names` has the names of the tensors. The output matrix of the MLM head,
`cls.predictions.decoder.weight` in BERT, is tied to the word embeddings: it is not written, and a
copy that is read must be equal to them.

Older files are read too: names without `bert.` (a model saved without heads), `LayerNorm.gamma` and
`.beta` (2018), `bert_config.json` in place of `config.json`, names that all begin with `module.` (a
model saved inside DataParallel), float16 and bfloat16 (as float32). Refused: a model type other
than bert and modernbert, an untied output matrix, missing, unexpected or misshapen tensors, and
weights that are not finite.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lib.checkpoints.huggingface_names import Names, names_of
from lib.checkpoints.tensors import (
    StoredModel,
    open_model,
    printable,
    same_bits,
    tensors_to_write,
)
from lib.checkpoints.weight_files import SAFETENSORS, TensorFile, open_weights
from lib.model.config import read_config
from lib.model.encoder_config import EncoderConfig
from lib.run.atomic import new_file, write_text
from lib.run.errors import UserError

# In order of preference; before 2019, files for PyTorch had Google's name.
CONFIG_NAMES = ("config.json", "bert_config.json")
# Ends of names before 2019.
_OLD_LEAVES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
# What DataParallel, torch.compile and Lightning put before the names of a model inside them.
_WRAPPERS = re.compile(r"((module|_orig_mod|model)\.)*")


def write_model(
    directory: Path,
    config: EncoderConfig,
    weights: Mapping[str, np.ndarray],
    special_ids: Mapping[str, int],
) -> None:
    """Writes `config.json` and `model.safetensors`, each atomically, the weights last.

    Args:
        weights: float32 arrays by parameter-table name.
        special_ids: `pad_token_id` and other ids for config.json.

    Raises:
        UserError: a weight is not finite, or the disk is full.
    """
    tensors = tensors_to_write(directory, names_of(config).stored_tensors(config), weights)
    values = {
        "architectures": [config.huggingface_class],
        "model_type": config.architecture,
        **asdict(config),
        **config.to_huggingface(),
        "dtype": "float32",
        **special_ids,
    }
    write_text(directory / "config.json", json.dumps(values, indent=2, sort_keys=True) + "\n")
    path = directory / SAFETENSORS
    with new_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
            # safetensors creates files that only their owner can read, whatever the umask.
            shutil.copymode(directory / "config.json", temporary)
        except SafetensorError as failure:
            raise UserError(
                f"{path}: cannot be written ({failure}); is the disk full? Free some space and "
                "run the same command again"
            ) from None


def read_model(directory: Path) -> tuple[EncoderConfig, dict[str, np.ndarray]]:
    """Reads a model with all its heads, as `write_model` or transformers writes it.

    Returns:
        The configuration, and float32 arrays by parameter-table name.

    Raises:
        UserError: see `stored_model` and `open_model`.
    """
    checkpoint = open_model(stored_model(directory)).load()
    return checkpoint.config, checkpoint.weights


def stored_model(directory: Path) -> StoredModel:
    """The model in a directory: safetensors or PyTorch files, whole or sharded.

    Raises:
        UserError: there is no model, or a file is damaged or a pickle with code. Reading weights
            raises one if the output layer of the MLM head is not tied to the word embeddings.
    """
    path = config_path(directory)
    if path is None:
        raise UserError(
            f"{directory / CONFIG_NAMES[0]}: no such file, and no {CONFIG_NAMES[1]} either; put "
            "the config that belongs to the weights there"
        )
    config = read_config(path, hugging_face=True)
    file = open_weights(directory)
    known = names_of(config)
    names = _current_names(file, known)
    names.pop(known.buffer or "", None)
    table = known.stored_tensors(config)
    copies = {}
    for parameter, second_name in known.tied.items():
        if second_name in names:
            first_name = table[parameter].name
            copies[first_name] = names.pop(second_name)
            # A file may have a tied tensor under its second name only.
            names.setdefault(first_name, copies[first_name])

    def read(name: str) -> np.ndarray:
        array = file.read(names[name])
        if name in copies and not same_bits(array, file.read(copies[name])):
            raise UserError(
                f"{file.source}: {copies[name]} differs from {name}; models whose output layer is "
                "not tied to the word embeddings are not supported; use another model"
            )
        return array

    shapes = {name: file.shapes[stored] for name, stored in names.items()}
    return StoredModel(str(file.source), config, table, shapes, read, known.encoder)


def config_path(directory: Path) -> Path | None:
    """The config of a directory's PyTorch weights, or None if it has none."""
    return next((directory / name for name in CONFIG_NAMES if (directory / name).exists()), None)


def _current_names(file: TensorFile, known: Names) -> dict[str, str]:
    """The name that each tensor has in today's transformers -> its name in the file."""
    wrappers = _WRAPPERS.match(os.path.commonprefix([*file.shapes]))  # noqa: RUF071
    prefix = wrappers[0] if wrappers else ""
    bare = not any(name.startswith(prefix + known.encoder) for name in file.shapes)
    names: dict[str, str] = {}
    for name in file.shapes:
        current = name.removeprefix(prefix)
        for old, new in _OLD_LEAVES.items():
            if current.endswith(old):
                current = current.removesuffix(old) + new
        if bare and current.startswith(known.bare):
            current = known.encoder + current
        if current in names:
            raise UserError(
                f"{file.source}: {printable(names[current])} and {printable(name)} are two names "
                "of the same parameter; remove one of them"
            )
        names[current] = name
    return names
