"""Checkpoints of Google's TF1 code: `bert_config.json` beside `bert_model.ckpt.*`.

The parameter table has that code's names, so there is nothing to rename.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from lib.checkpoints.tensor_bundle import (
    CONFIGS,
    TensorBundle,
    find_prefix,
    read_config_beside,
    write_bundle,
)
from lib.checkpoints.tensors import Checkpoint, StoredTensor, assemble
from lib.model.config import BertConfig
from lib.model.parameters import parameter_table
from lib.run.atomic import write_text

CHECKPOINT = "bert_model.ckpt"
# What Google's code has built in, and its config files do not state.
_LAYER_NORM_EPS = 1e-12


def stored_tensors(config: BertConfig) -> dict[str, StoredTensor]:
    """How Google's code keeps each parameter."""
    return {
        parameter.name: StoredTensor(parameter.name, parameter.shape)
        for parameter in parameter_table(config)
    }


def read_checkpoint(place: Path, allow_missing_heads: bool = False) -> Checkpoint:
    """Reads a checkpoint as TF1's Saver writes it, with or without an optimizer's tensors.

    Args:
        place: its folder, or in it what the names of its files begin with.
        allow_missing_heads: see `assemble`.

    Raises:
        UserError: a file is missing or damaged, or the tensors are not those of its config.
    """
    prefix = find_prefix(place)
    config = read_config_beside(prefix)
    bundle = TensorBundle(prefix)
    # Frozen graphs' names of outputs, `name:0`, got into some people's checkpoints.
    names = {name.removesuffix(":0"): name for name in bundle.shapes}
    own = [name for name in names if not _is_about_training(name, names, bundle.shapes)]
    return assemble(
        str(prefix),
        config,
        stored_tensors(config),
        own,
        lambda name: bundle.shapes[names[name]],
        lambda name: bundle.read(names[name]),
        allow_missing_heads,
        encoder="bert/",
    )


def _is_about_training(
    name: str, names: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    """Whether a tensor is a step counter, a loss scale, or what an optimizer keeps of another.

    The latter stand below the name of the parameter, whatever the optimizer: `kernel/adam_m` below
    `kernel`. No model has parameters that are single numbers.
    """
    parts = name.split("/")
    above = ("/".join(parts[:length]) for length in range(1, len(parts)))
    return shapes[names[name]] == () or any(scope in names for scope in above)


def write_model(directory: Path, config: BertConfig, weights: Mapping[str, np.ndarray]) -> None:
    """Writes `bert_config.json` and `bert_model.ckpt.*` for Google's code; the weights last.

    Args:
        weights: float32 arrays by the names of the parameter table.
    """
    values = asdict(config)
    # Google's gelu is the tanh form; which form it is otherwise, only our reader understands.
    if config.hidden_act == "gelu_new":
        values["hidden_act"] = "gelu"
    elif config.hidden_act == "gelu":
        values["gelu_form"] = "erf"
    if config.layer_norm_eps == _LAYER_NORM_EPS:
        del values["layer_norm_eps"]
    write_text(directory / CONFIGS[0], json.dumps(values, indent=2, sort_keys=True) + "\n")
    table = stored_tensors(config)
    write_bundle(
        directory / CHECKPOINT,
        {own.name: own.from_parameter(weights[name]) for name, own in table.items()},
    )


def differences(config: BertConfig) -> list[str]:
    """What Google's code would compute otherwise, since its config cannot say it; each a line.

    The files state it all the same, under keys that Google's code passes over, for
    `read_checkpoint`.
    """
    found = []
    if config.hidden_act == "gelu":
        found.append(
            "the model was trained with the erf form of gelu, Google's code computes the tanh "
            "form: logits differ by about 0.001"
        )
    if config.layer_norm_eps != _LAYER_NORM_EPS:
        found.append(
            f"the model was trained with layer_norm_eps {config.layer_norm_eps:g}, Google's code "
            f"computes with {_LAYER_NORM_EPS:g}"
        )
    return found
