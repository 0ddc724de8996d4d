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

    format             modules of lib.checkpoints                         can be written
    -----------------  -------------------------------------------------  --------------
    Hugging Face       huggingface, weight_files; for pytorch_model.bin   yes
                       also pytorch_files, restricted_unpickler
    Google TF1         google, tensor_bundle                              yes
    Model Garden TF2   model_garden, model_garden_config, tensor_bundle   no

A folder that has one of Hugging Face's weight files is a Hugging Face model, whatever else is in
it. The two TensorFlow formats consist of the same files; only TF2's have an object graph.
"""

from collections.abc import Callable
from pathlib import Path

from lib.checkpoints import google, huggingface, model_garden
from lib.checkpoints.tensor_bundle import (
    OBJECT_GRAPH,
    TensorBundle,
    checkpoint_prefixes,
    find_prefix,
)
from lib.checkpoints.tensors import Checkpoint
from lib.checkpoints.weight_files import PICKLED, SAFETENSORS, WEIGHT_FILES
from lib.run.errors import UserError

HUGGING_FACE, GOOGLE, MODEL_GARDEN = "Hugging Face", "Google TF1", "Model Garden TF2"

_READERS: dict[str, Callable[[Path, bool], Checkpoint]] = {
    HUGGING_FACE: huggingface.read_checkpoint,
    GOOGLE: google.read_checkpoint,
    MODEL_GARDEN: model_garden.read_checkpoint,
}


def detect_format(path: Path) -> str:
    """The format of a model: "Hugging Face", "Google TF1" or "Model Garden TF2".

    Args:
        path: the model's folder, or the prefix of a TensorFlow checkpoint's file names.

    Raises:
        UserError: there is no model, or there are several checkpoints and no state file that
            names one of them.
    """
    if path.is_dir():
        if any((path / name).exists() for name in WEIGHT_FILES):
            return HUGGING_FACE
        if not checkpoint_prefixes(path):
            raise UserError(
                f"{path}: no model found; it should have {SAFETENSORS} or {PICKLED} with a "
                "config.json (Hugging Face), or *.ckpt.index and *.ckpt.data-* with a "
                "bert_config.json (Google, Model Garden)"
            )
    shapes = TensorBundle(find_prefix(path)).shapes
    return MODEL_GARDEN if OBJECT_GRAPH in shapes else GOOGLE


def compatibility_notes(path: Path) -> list[str]:
    """What the code that trained a model computes differently from this project, a line each."""
    if detect_format(path) == MODEL_GARDEN:
        return model_garden.compatibility_notes(path)
    return []


def read_checkpoint(path: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a model in any of these formats; see `detect_format`.

    Args:
        allow_missing_heads: accept a model without heads, and ignore tensors that are not part of a
            BERT; otherwise both are errors.

    Raises:
        UserError: there is no model, a file is missing or damaged, or the tensors are not those
            of a BERT with its config.
    """
    return _READERS[detect_format(path)](path, allow_missing_heads)
