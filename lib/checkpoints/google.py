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
from collections.abc import Container, Mapping
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
from lib.checkpoints.tensors import (
    Checkpoint,
    OpenCheckpoint,
    StoredTensor,
    assemble,
    tensors_to_write,
)
from lib.model.bert_config import BertConfig
from lib.run.atomic import write_text

CHECKPOINT = "bert_model.ckpt"
# Hard-coded in Google's model; its config files do not state it.
_LAYER_NORM_EPS = 1e-12


def stored_tensors(config: BertConfig) -> dict[str, StoredTensor]:
    """Parameter-table name -> tensor in Google's checkpoints: the same name and shape."""
    return {
        parameter.name: StoredTensor(parameter.name, parameter.shape)
        for parameter in config.parameter_table()
    }


def open_checkpoint(
    path: Path, allow_missing_heads: bool = False, unneeded_heads: Container[str] = ()
) -> OpenCheckpoint:
    """Opens a checkpoint written by TF1's Saver, with or without optimizer slots.

    Args:
        path: its folder, or the prefix of its file names.
        allow_missing_heads, unneeded_heads: see `assemble`.

    Raises:
        UserError: a file is missing or damaged, or the tensors do not match the config.
    """
    prefix = find_prefix(path)
    config = read_checkpoint_config(prefix)
    bundle = TensorBundle(prefix)
    # Some published checkpoints have names of graph outputs, `name:0`, from frozen graphs.
    names = {name.removesuffix(":0"): name for name in bundle.shapes}
    parameters = [name for name in names if not _is_training_state(name, names, bundle.shapes)]
    return assemble(
        str(prefix),
        config,
        stored_tensors(config),
        parameters,
        lambda name: bundle.shapes[names[name]],
        lambda name: bundle.read(names[name]),
        allow_missing_heads,
        unneeded_heads,
        encoder="bert/",
    )


def read_checkpoint(path: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """The model in a checkpoint; see `open_checkpoint`."""
    return open_checkpoint(path, allow_missing_heads).load()


def _is_training_state(
    name: str, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether a tensor is a step counter, a loss scale or an optimizer slot.

    Any optimizer's slots are named below their parameter: `kernel/adam_m` below `kernel`. Scalars
    are never parameters of a BERT.
    """
    parts = name.split("/")
    scopes = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return shapes[names[name]] == () or any(scope in names for scope in scopes)


def write_model(directory: Path, config: BertConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Writes `bert_config.json` and `bert_model.ckpt.*` for Google's code; the weights last.

    Args:
        weights: float32 arrays by parameter-table name.

    Raises:
        UserError: a weight is not finite.
    """
    tensors = tensors_to_write(directory, stored_tensors(config), weights)
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

    `write_model` states these values all the same, under keys that Google's code ignores and
    `read_checkpoint` reads.
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
