"""Architectures by name, and readers of `config.json` and `bert_config.json`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.modernbert_config import ModernBertConfig
from lib.run.errors import UserError
from lib.run.json_files import read_object

ARCHITECTURES: dict[str, type[BertConfig] | type[ModernBertConfig]] = {
    config.architecture: config for config in (BertConfig, ModernBertConfig)
}
"""Class of the configuration, by the name that `pretrain.model.architecture` accepts."""

# Keys that transformers writes into every config.json and that Google's files do not have.
_HUGGING_FACE = ("model_type", "architectures", "transformers_version")
# Defaults of BertConfig in transformers, for keys that its file leaves out; sizes have none here.
_BERT_DEFAULTS = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
}
# Default of type_vocab_size in BertConfig of Google's TF1 code.
_GOOGLE_SEGMENTS = 16


def new_config(vocab_size: int, settings: Mapping[str, Any]) -> EncoderConfig:
    """The config of a new model from `pretrain.model` of params.yaml."""
    return ARCHITECTURES[settings["architecture"]].from_settings(vocab_size, settings)


def config_from_record(values: Mapping[str, Any]) -> EncoderConfig:
    """The config that `config_record` turned into JSON values."""
    values = {"architecture": "bert", **values}  # Earlier versions had BERT only.
    return ARCHITECTURES[values.pop("architecture")](**values)


def config_record(config: EncoderConfig) -> dict[str, Any]:
    """A config as JSON values."""
    return {"architecture": config.architecture, **asdict(config)}


def architecture_of(values: Mapping[str, Any], source: str) -> str:
    """The architecture that a config states; BERT if it does not, as files before 2020."""
    kind, classes = values.get("model_type"), values.get("architectures")
    if kind is None and isinstance(classes, list) and classes:
        for name, config in ARCHITECTURES.items():
            beginning = config.__name__.removesuffix("Config")
            if any(str(each).startswith(beginning) for each in classes):
                return name
        raise UserError(
            f"{source}: architectures should have a class of BERT or ModernBERT. Received: "
            f"{classes!r:.60}, another architecture; use a BERT or a ModernBERT"
        )
    if kind is not None and not (isinstance(kind, str) and kind in ARCHITECTURES):
        raise UserError(
            f"{source}: model_type should be bert or modernbert. Received: {kind!r:.60}, another "
            "architecture; use a BERT or a ModernBERT"
        )
    return kind or BertConfig.architecture


def read_config(path: Path, hugging_face: bool = False) -> EncoderConfig:
    """Reads Google's `bert_config.json` or Hugging Face's `config.json`.

    Unknown fields are ignored. In Google's files `gelu` is the tanh form, which Hugging Face calls
    `gelu_new`, unless the file has `"gelu_form": "erf"`, a key of this project. Their
    `type_vocab_size` is 16 by default.

    Args:
        hugging_face: the config belongs to PyTorch weights, and has Hugging Face's meaning whatever
            its name (before 2019 it was `bert_config.json`); otherwise its keys decide.
    """
    values, source = read_object(path), str(path)
    if hugging_face or any(key in values for key in _HUGGING_FACE):
        config_class = ARCHITECTURES[architecture_of(values, source)]
        defaults = _BERT_DEFAULTS if config_class is BertConfig else {}
        return config_class.from_dict({**defaults, **values}, source)
    config = BertConfig.from_dict({"type_vocab_size": _GOOGLE_SEGMENTS, **values}, source)
    if config.hidden_act == "gelu" and values.get("gelu_form") != "erf":
        return replace(config, hidden_act="gelu_new")
    return config
