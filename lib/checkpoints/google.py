"""Checkpoints of Google's TF1 code (google-research/bert), and of NVIDIA's version of it.

A directory has

    bert_config.json                        the sizes; `gelu` means the tanh form
    bert_model.ckpt.index                   tensor name -> shape, dtype and position
    bert_model.ckpt.data-00000-of-00001     the values (there may be several data files)
    bert_model.ckpt.meta                    the graph; not read and not written

The parameter table uses this code's names and shapes, so nothing is renamed or transposed:

    bert/embeddings/{word,token_type,position}_embeddings           [entries, hidden]
    bert/encoder/layer_N/attention/self/{query,key,value}/kernel    [hidden, hidden]
    bert/encoder/layer_N/attention/output/dense/kernel              [hidden, hidden]
    bert/encoder/layer_N/intermediate/dense/kernel                  [hidden, intermediate]
    bert/encoder/layer_N/output/dense/kernel                        [intermediate, hidden]
    bert/pooler/dense/kernel                                        [hidden, hidden]
    cls/predictions/transform/dense/kernel                          [hidden, hidden]
    cls/predictions/output_bias                                     [vocabulary size]
    cls/seq_relationship/output_weights, .../output_bias            [2, hidden], [2]
    .../bias, .../LayerNorm/gamma, .../LayerNorm/beta               [outputs]

Step counters, loss scales and optimizer slots are skipped. Refused: missing, unexpected or
misshapen tensors, missing data files, weights that are not finite, and checkpoints without an
`.index` (TensorFlow before 2016).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lib.checkpoints.tensor_bundle import (
    CONFIG_NAMES,
    TensorBundle,
    find_prefix,
    read_checkpoint_config,
    write_bundle,
)
from lib.checkpoints.tensors import StoredModel, StoredTensor, tensors_to_write
from lib.model.bert_config import BertConfig
from lib.run.atomic import write_text

CHECKPOINT = "bert_model.ckpt"
# Hard-coded in Google's model; its config files do not state it.
_LAYER_NORM_EPS = 1e-12


def _stored_tensors(config: BertConfig) -> dict[str, StoredTensor]:
    """Parameter-table name -> tensor in Google's checkpoints: the same name and shape."""
    return {
        parameter.name: StoredTensor(parameter.name, parameter.shape)
        for parameter in config.parameter_table()
    }


def stored_model(path: Path) -> StoredModel:
    """The model in a checkpoint written by TF1's Saver, with or without optimizer slots.

    Args:
        path: its folder, or the prefix of its file names.

    Raises:
        UserError: a file is missing or damaged.
    """
    prefix = find_prefix(path)
    config = read_checkpoint_config(prefix)
    bundle = TensorBundle(prefix)
    # Some published checkpoints have names of graph outputs, `name:0`, from frozen graphs.
    names = {name.removesuffix(":0"): name for name in bundle.shapes}
    shapes = {name: bundle.shapes[stored] for name, stored in names.items()}
    parameters = {
        name: shape for name, shape in shapes.items() if not _is_training_state(name, shapes)
    }
    return StoredModel(
        str(prefix),
        config,
        _stored_tensors(config),
        parameters,
        lambda name: bundle.read(names[name]),
        encoder="bert/",
    )


def _is_training_state(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a tensor is a step counter, a loss scale or an optimizer slot.

    Any optimizer's slots are named below their parameter: `kernel/adam_m` below `kernel`. Scalars
    are never parameters of a BERT.
    """
    parts = name.split("/")
    scopes = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return shapes[name] == () or any(scope in shapes for scope in scopes)


def write_model(directory: Path, config: BertConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Writes `bert_config.json` and `bert_model.ckpt.*` for Google's code; the weights last.

    Args:
        weights: float32 arrays by parameter-table name.

    Raises:
        UserError: a weight is not finite.
    """
    tensors = tensors_to_write(directory, _stored_tensors(config), weights)
    values = asdict(config)
    # Google's `gelu` is the tanh form. `gelu_form` is a key that only our reader knows.
    if config.hidden_act == "gelu_new":
        values["hidden_act"] = "gelu"
    elif config.hidden_act == "gelu":
        values["gelu_form"] = "erf"
    if config.layer_norm_eps == _LAYER_NORM_EPS:
        del values["layer_norm_eps"]
    write_text(directory / CONFIG_NAMES[0], json.dumps(values, indent=2, sort_keys=True) + "\n")
    write_bundle(directory / CHECKPOINT, tensors)


def compatibility_notes(config: BertConfig) -> list[str]:
    """What Google's code computes differently because its config cannot express it, a line each.

    `write_model` states these values all the same, under keys that Google's code ignores.
    """
    notes = []
    if config.hidden_act == "gelu":
        notes.append(
            "the model was trained with the erf form of GELU, Google's code computes the tanh "
            "form: logits differ by about 0.001"
        )
    if config.layer_norm_eps != _LAYER_NORM_EPS:
        notes.append(
            f"the model was trained with layer_norm_eps {config.layer_norm_eps:g}, Google's code "
            f"uses {_LAYER_NORM_EPS:g}"
        )
    return notes
