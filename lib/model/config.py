"""Configuration of a BERT model, and readers of `config.json` and `bert_config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_ACTIVATIONS = ("gelu", "gelu_new", "relu")
# Keys that transformers writes into every config.json and that Google's files do not have.
_HUGGING_FACE = ("model_type", "architectures", "transformers_version")
# Defaults of BertConfig in transformers, for keys that its file leaves out; sizes have none here.
_HUGGING_FACE_DEFAULTS = {
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
}
# Default of type_vocab_size in BertConfig of Google's TF1 code.
_GOOGLE_SEGMENTS = 16


@dataclass(frozen=True)
class BertConfig:
    """Sizes and options of a BERT, named as in `bert_config.json` and `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    hidden_dropout_prob: float
    attention_probs_dropout_prob: float
    max_position_embeddings: int
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str) -> "BertConfig":
        """Makes a config from the fields of a JSON file, with Hugging Face's meaning of them.

        Unknown fields are ignored. If transformers wrote the file, fields for which it has a
        default may be missing.

        Raises:
            UserError: a size is missing or impossible, or the model is not a supported BERT.
        """
        kind = values.get("model_type", "bert")
        if kind != "bert":
            raise UserError(f"{source}: model_type should be bert. Received: {kind!r}")
        if any(key in values for key in _HUGGING_FACE):
            values = {**_HUGGING_FACE_DEFAULTS, **values}
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        missing = [field.name for field in fields(cls)[:9] if field.name not in known]
        if missing:
            raise UserError(f"{source}: no `{missing[0]}`; not the config of a BERT")
        config = cls(**known)
        problems = config._problems()
        positions = values.get("position_embedding_type") or "absolute"
        if positions != "absolute":
            problems.append(("position_embedding_type", "absolute"))
        if values.get("is_decoder"):
            problems.append(("is_decoder", "false"))
        if problems:
            name, problem = problems[0]
            received = values.get(name, getattr(config, name, None))
            raise UserError(f"{source}: {name} should be {problem}. Received: {received!r}")
        return config

    def _problems(self) -> list[tuple[str, str]]:
        """For each invalid field: its name, and what it should be."""
        problems = [(name, "a whole number above 0") for name in _SIZES if not self._is_size(name)]
        if not problems and self.hidden_size % self.num_attention_heads:
            problems.append(
                ("hidden_size", f"a multiple of num_attention_heads {self.num_attention_heads}")
            )
        if self.hidden_act not in _ACTIVATIONS:
            problems.append(("hidden_act", "gelu, gelu_new or relu"))
        for name in _DROPOUTS:
            if not (_is_number(rate := getattr(self, name)) and 0 <= rate < 1):
                problems.append((name, "a number from 0 to below 1"))
        for name in ("initializer_range", "layer_norm_eps"):
            if not (_is_number(value := getattr(self, name)) and 0 < value < 1):
                problems.append((name, "a number between 0 and 1"))
        return problems

    def _is_size(self, name: str) -> bool:
        value = getattr(self, name)
        return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_config(path: Path) -> BertConfig:
    """Reads Google's `bert_config.json` or Hugging Face's `config.json`.

    In Google's files `gelu` is the tanh form, which Hugging Face calls `gelu_new`, unless the file
    has `"gelu_form": "erf"`, a key of this project. Their `type_vocab_size` is
    16 by default.

    Raises:
        UserError: the file is missing, is not JSON, or see `BertConfig.from_dict`.
    """
    values = read_object(path)
    if any(key in values for key in _HUGGING_FACE):
        return BertConfig.from_dict(values, str(path))
    config = BertConfig.from_dict({"type_vocab_size": _GOOGLE_SEGMENTS, **values}, str(path))
    if config.hidden_act == "gelu" and values.get("gelu_form") != "erf":
        return replace(config, hidden_act="gelu_new")
    return config
