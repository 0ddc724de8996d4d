"""The checkpoint formats that are read, and how the format of a model is recognised.

    format             weights                       config               written by
    -----------------  ----------------------------  -------------------  ------------------------
    Hugging Face       model.safetensors, else       config.json          transformers,
                       pytorch_model.bin;                                 this project
                       whole or sharded
    Google TF1         NAME.index, NAME.data-*       bert_config.json     google-research/bert,
                                                                          NVIDIA, this project
    Model Garden TF2   NAME.index, NAME.data-*,      bert_config.json,    tensorflow/models,
                       with an object graph          else params.yaml     keras_bert, CT-BERT

The first two are written, too. A ModernBERT has the first; the other formats are BERT's.

The two TensorFlow formats consist of the same files; only TF2's have an object graph. A folder that
has PyTorch weights and a TensorFlow checkpoint is read as the one that its config belongs to; if
that is `config.json`, the PyTorch weights, unless they lack heads that the checkpoint has.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

from lib.checkpoints import google, huggingface, model_garden
from lib.checkpoints.tensor_bundle import (
    OBJECT_GRAPH,
    TensorBundle,
    checkpoint_prefixes,
    find_prefix,
)
from lib.checkpoints.tensors import Checkpoint, OpenCheckpoint, StoredModel, open_model
from lib.checkpoints.weight_files import PICKLED, SAFETENSORS, WEIGHT_FILES
from lib.run.errors import UserError

HUGGING_FACE, GOOGLE, MODEL_GARDEN = "Hugging Face", "Google TF1", "Model Garden TF2"

_READERS: dict[str, Callable[[Path], StoredModel]] = {
    HUGGING_FACE: huggingface.stored_model,
    GOOGLE: google.stored_model,
    MODEL_GARDEN: model_garden.stored_model,
}
# Files of formats that are not read -> how to make them readable.
_OTHER_FILES = {
    "tf_model.h5": "load it with transformers 4 (from_tf=True) and save it with save_pretrained",
    "flax_model.msgpack": "load it with transformers 4 (from_flax=True) and save it with "
    "save_pretrained",
    "adapter_model.safetensors": "merge the adapter into its base model and save that",
    "adapter_model.bin": "merge the adapter into its base model and save that",
    "model.onnx": "use the model that it was exported from",
}


@dataclass(frozen=True)
class ModelFiles:
    """The model in a folder, or at the prefix of a checkpoint.

    Attributes:
        format: "Hugging Face", "Google TF1" or "Model Garden TF2".
        path: the folder, or the prefix of the checkpoint.
        passed_over: a note on another model in the same folder, or empty.
    """

    format: str
    path: Path
    passed_over: str = ""


def find_model(path: Path) -> ModelFiles:
    """Finds a model and its format.

    Args:
        path: the model's folder, or the prefix of a TensorFlow checkpoint's file names, or its
            `.index` file.

    Raises:
        UserError: there is no model, or there are several checkpoints and no state file that
            names one of them.
    """
    if not path.is_dir():
        return _checkpoint(path)
    weights = next((name for name in WEIGHT_FILES if _is_present(path / name)), None)
    checkpoints = checkpoint_prefixes(path)
    if weights is None:
        if not checkpoints:
            raise _no_model(path)
        return _checkpoint(path)
    hugging_face = ModelFiles(HUGGING_FACE, path)
    if not checkpoints:
        return hugging_face
    if not (path / huggingface.CONFIG_NAMES[0]).exists():
        found = _checkpoint(path)
        note = f"its {weights} is not read: the config belongs to {found.path.name}"
        return ModelFiles(found.format, found.path, note)
    missing = _missing_heads(hugging_face)
    if missing:
        try:
            found = _checkpoint(path)
            lacks = _missing_heads(found)
        except UserError:
            return hugging_face
        if len(lacks) < len(missing):
            note = f"its {weights} is not read: it has no {' and no '.join(missing)}"
            return ModelFiles(found.format, found.path, note)
    return ModelFiles(HUGGING_FACE, path, f"its checkpoint {checkpoints[-1]} is not read")


def _checkpoint(path: Path) -> ModelFiles:
    prefix = find_prefix(path)
    shapes = TensorBundle(prefix).shapes
    return ModelFiles(MODEL_GARDEN if OBJECT_GRAPH in shapes else GOOGLE, prefix)


def _missing_heads(model: ModelFiles) -> tuple[str, ...]:
    return open_model(_READERS[model.format](model.path), True).missing_heads


def _is_present(path: Path) -> bool:
    """Whether there is a file, or a link to one that is missing."""
    return path.exists() or path.is_symlink()


def _no_model(folder: Path) -> UserError:
    """The error for a folder without a model, with the nearest thing that it has."""
    for name, fix in _OTHER_FILES.items():
        if (folder / name).exists():
            return UserError(f"{folder}: its weights, {name}, are not in a format read here; {fix}")
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any((inner / name).exists() for name in WEIGHT_FILES) or checkpoint_prefixes(inner):
            return UserError(f"{folder}: no model found, but there is one in {inner}; name that")
    return UserError(
        f"{folder}: no model found; it should have {SAFETENSORS} or {PICKLED} with a config.json "
        "(Hugging Face), or *.ckpt.index and *.ckpt.data-* with a bert_config.json (Google, Model "
        "Garden)"
    )


def detect_format(path: Path) -> str:
    """The format of a model; see `find_model`."""
    return find_model(path).format


def compatibility_notes(path: Path) -> list[str]:
    """What a user should know of a model and of the code that trained it, a line each."""
    model = find_model(path)
    notes = [f"{path}: {model.passed_over}"] if model.passed_over else []
    if model.format == MODEL_GARDEN:
        notes += model_garden.compatibility_notes(model.path)
    return notes


def open_checkpoint(
    path: Path, allow_missing_heads: bool = False, unneeded_heads: Container[str] = ()
) -> OpenCheckpoint:
    """Opens a model in any of these formats; see `find_model` and `open_model`.

    Raises:
        UserError: there is no model, a file is missing or damaged, or the tensors are not those
            of a model with its config.
    """
    model = find_model(path)
    return open_model(_READERS[model.format](model.path), allow_missing_heads, unneeded_heads)


def read_checkpoint(path: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a model in any of these formats; see `open_checkpoint`."""
    return open_checkpoint(path, allow_missing_heads).load()
