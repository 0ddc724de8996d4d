"""`params.yaml`: the config that the Model Garden's `train.py` leaves beside its checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lib.model.config import BertConfig
from lib.run.errors import UserError

PARAMS = "params.yaml"
# Our field -> the Model Garden's.
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_activation",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
}
_ENCODERS = ("bert", "bert_v2")


class _Loader(yaml.SafeLoader):
    """Passes over objects of Python's: none of them says anything of the encoder."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def read_params(path: Path) -> BertConfig:
    """The config of the encoder that a run trained.

    Raises:
        UserError: the file is damaged, or that was no BERT.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        model = values["task"]["model"]
        encoder = model["encoder"]
        kind: str = encoder["type"]
        fields: dict[str, Any] = encoder.get(kind) or {}
        known = {own: fields[name] for own, name in _FIELDS.items() if name in fields}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path}: says nothing of task.model.encoder; put a bert_config.json beside it"
        ) from None
    if kind not in _ENCODERS:
        raise UserError(
            f"{path}: encoder.type should be {' or '.join(_ENCODERS)}. Received: {kind}"
        )
    if fields.get("norm_first"):
        raise UserError(f"{path}: norm_first: true is no BERT's; use another model")
    if fields.get("embedding_size") not in (None, known.get("hidden_size")):
        raise UserError(f"{path}: embedding_size should be hidden_size; use another model")
    if model.get("mlm_activation", known.get("hidden_act")) != known.get("hidden_act"):
        raise UserError(f"{path}: mlm_activation should be hidden_activation; use another model")
    config = BertConfig.from_dict(known, str(path))
    # The Model Garden's gelu is the tanh form.
    return replace(config, hidden_act="gelu_new") if config.hidden_act == "gelu" else config
