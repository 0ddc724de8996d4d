"""Any model that people have, recognised by its files."""

from collections.abc import Callable
from pathlib import Path

from lib.checkpoints import google, huggingface, model_garden
from lib.checkpoints.tensor_bundle import OBJECT_GRAPH, TensorBundle, find_prefix, prefixes
from lib.checkpoints.tensors import Checkpoint
from lib.run.errors import UserError

HUGGING_FACE, GOOGLE, MODEL_GARDEN = "Hugging Face", "Google TF1", "Model Garden TF2"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


_READERS: dict[str, Callable[[Path, bool], Checkpoint]] = {
    HUGGING_FACE: huggingface.read_checkpoint,
    GOOGLE: google.read_checkpoint,
    MODEL_GARDEN: model_garden.read_checkpoint,
}


def detect_format(place: Path) -> str:
    """Who wrote a model: "Hugging Face", "Google TF1" or "Model Garden TF2".

    Args:
        place: its folder, or what the names of a TensorFlow checkpoint's files begin with.

    Raises:
        UserError: there is no model, or several checkpoints and nothing says which.
    """
    if place.is_dir():
        # Large models are in several files, which an index lists.
        weights = (f"{name}{end}" for name in _WEIGHTS for end in ("", ".index.json"))
        if any((place / name).exists() for name in weights):
            return HUGGING_FACE
        if not prefixes(place):
            raise UserError(
                f"{place}: no model in it; it should have {' or '.join(_WEIGHTS)} beside a "
                "config.json (Hugging Face's), or *.ckpt.index and *.ckpt.data-* beside a "
                "bert_config.json (Google's, the Model Garden's)"
            )
    shapes = TensorBundle(find_prefix(place)).shapes
    return MODEL_GARDEN if OBJECT_GRAPH in shapes else GOOGLE


def compatibility_notes(place: Path) -> list[str]:
    """What the code that a model was made by computes otherwise, each a line for people."""
    return model_garden.compatibility_notes(place) if detect_format(place) == MODEL_GARDEN else []


def read_checkpoint(place: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a model of any of these formats; see `detect_format`.

    Args:
        allow_missing_heads: accept a model without heads, and ignore tensors that are not part of a
            BERT; otherwise both are errors.

    Raises:
        UserError: there is no model, a file is missing or damaged, or the tensors are not those
            of a BERT with its config.
    """
    return _READERS[detect_format(place)](place, allow_missing_heads)
