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
import shutil
from collections.abc import Collection, Container, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from lib.checkpoints.huggingface_names import LEAVES, Names, names_of
from lib.checkpoints.tensors import (
    Checkpoint,
    OpenCheckpoint,
    assemble,
    printable,
    tensors_to_write,
)
from lib.checkpoints.weight_files import SAFETENSORS, TensorFile, open_weights
from lib.model.config import read_config
from lib.model.encoder_config import EncoderConfig
from lib.run.atomic import new_file, write_text
from lib.run.errors import UserError

# In order of preference; before 2019, files for PyTorch had Google's name.
CONFIG_NAMES = ("config.json", "bert_config.json")
# What DataParallel, torch.compile and Lightning put before the names of a model inside them.
_WRAPPERS = ("module.", "_orig_mod.", "model.")


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
        UserError: see `read_checkpoint`.
    """
    checkpoint = read_checkpoint(directory)
    return checkpoint.config, checkpoint.weights


def read_checkpoint(directory: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """The model in a directory; see `open_checkpoint`."""
    return open_checkpoint(directory, allow_missing_heads).load()


def open_checkpoint(
    directory: Path, allow_missing_heads: bool = False, unneeded_heads: Container[str] = ()
) -> OpenCheckpoint:
    """Opens a Hugging Face directory: safetensors or PyTorch files, whole or sharded.

    Args:
        allow_missing_heads: accept a model without heads, and ignore tensors that are not part of
            the model (the classifier of a fine-tuned model).
        unneeded_heads: see `assemble`.

    Raises:
        UserError: there is no model, a file is damaged or a pickle with code, the config and the
            weights disagree, a tensor is missing, misshapen or unexpected. Reading weights raises
            one if they are not finite, or if the output layer of the MLM head is not tied to the
            word embeddings.
    """
    path = config_path(directory)
    if path is None:
        raise UserError(
            f"{directory / CONFIG_NAMES[0]}: no such file, and no {CONFIG_NAMES[1]} either; put "
            "the config that belongs to the weights there"
        )
    config = read_config(path, hugging_face=True)
    file = open_weights(directory)
    source = str(file.source)
    known = names_of(config)
    names = _current_names(file, known)
    names.pop(known.buffer or "", None)
    table = known.stored_tensors(config)
    copies = {}
    for parameter, second_name in known.tied.items():
        if second_name in names:
            copies[parameter] = names.pop(second_name)
            # A file may have a tied tensor under its second name only.
            names.setdefault(table[parameter].name, copies[parameter])
    checkpoint = assemble(
        source,
        config,
        table,
        names,
        lambda name: file.shapes[names[name]],
        lambda name: file.read(names[name]),
        allow_missing_heads,
        unneeded_heads,
        encoder=known.encoder,
    )

    def read(parameter: str) -> np.ndarray:
        array = checkpoint.read(parameter)
        copy = copies.get(parameter)
        if copy is not None and not _same_bits(file, copy, array):
            raise UserError(
                f"{source}: {copy} differs from {table[parameter].name}; models whose output layer "
                "is not tied to the word embeddings are not supported; use another model"
            )
        return array

    return replace(checkpoint, read=read)


def config_path(directory: Path) -> Path | None:
    """The config of a directory's PyTorch weights, or None if it has none."""
    return next((directory / name for name in CONFIG_NAMES if (directory / name).exists()), None)


def _current_names(file: TensorFile, known: Names) -> dict[str, str]:
    """The name that each tensor has in today's transformers -> its name in the file."""
    prefix = _common_prefix(file.shapes)
    bare = not any(name.startswith(prefix + known.encoder) for name in file.shapes)
    names: dict[str, str] = {}
    for name in file.shapes:
        current = name.removeprefix(prefix)
        scope, _, leaf = current.rpartition(".")
        if scope.endswith("LayerNorm") and leaf in LEAVES:
            current = f"{scope}.{LEAVES[leaf]}"
        if bare and current.startswith(known.bare):
            current = known.encoder + current
        if current in names:
            raise UserError(
                f"{file.source}: {printable(names[current])} and {printable(name)} are two names "
                "of the same parameter; remove one of them"
            )
        names[current] = name
    return names


def _common_prefix(names: Collection[str]) -> str:
    """The prefix that a wrapper around the model has given to all names, such as `module.`."""
    prefix = ""
    while names and (
        longer := next(
            (
                prefix + wrapper
                for wrapper in _WRAPPERS
                if all(name.startswith(prefix + wrapper) for name in names)
            ),
            None,
        )
    ):
        prefix = longer
    return prefix


def _same_bits(file: TensorFile, name: str, array: np.ndarray) -> bool:
    return file.shapes[name] == array.shape and np.array_equal(
        file.read(name).view(np.uint32), array.view(np.uint32)
    )
