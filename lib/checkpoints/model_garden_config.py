"""`params.yaml`: the config that the Model Garden's `train.py` writes next to its checkpoints.

    task:
      model:
        encoder:
          type: bert              # or bert_v2
          bert: {num_layers: 12, hidden_size: 768, hidden_activation: gelu, ...}
        mlm_activation: gelu

Its `gelu` is the tanh form. Refused: encoders other than bert and bert_v2, `norm_first: true`, an
`embedding_size` other than `hidden_size`, and an MLM activation other than the encoder's.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lib.model.bert_config import BertConfig
from lib.run.errors import UserError

PARAMS = "params.yaml"
# BertConfig's field -> the Model Garden's.
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
    """Safe YAML loader that reads Python objects as None; the encoder's values have none."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def read_params(path: Path) -> BertConfig:
    """The config of the encoder that a Model Garden run trained.

    Raises:
        UserError: the file is damaged, or the encoder is not a BERT.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        model = values["task"]["model"]
        encoder = model["encoder"]
        kind: str = encoder["type"]
        fields: dict[str, Any] = encoder.get(kind) or {}
        known = {field: fields[theirs] for field, theirs in _FIELDS.items() if theirs in fields}
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path}: no task.model.encoder in it; put a bert_config.json in the same folder"
        ) from None
    if kind not in _ENCODERS:
        raise UserError(
            f"{path}: encoder.type should be {' or '.join(_ENCODERS)}. Received: {kind}"
        )
    if fields.get("norm_first"):
        raise UserError(f"{path}: norm_first: true is not BERT's architecture; use another model")
    if fields.get("embedding_size") not in (None, known.get("hidden_size")):
        raise UserError(f"{path}: embedding_size should be equal to hidden_size; use another model")
    if model.get("mlm_activation", known.get("hidden_act")) != known.get("hidden_act"):
        raise UserError(
            f"{path}: mlm_activation should be equal to hidden_activation; use another model"
        )
    config = BertConfig.from_dict(known, str(path))
    # The Model Garden's gelu is the tanh form.
    return replace(config, hidden_act="gelu_new") if config.hidden_act == "gelu" else config
