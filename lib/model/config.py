"""Configuration of a BERT model, and readers of `config.json` and `bert_config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object

# Size -> the largest that is read, far above that of any BERT. A number in a damaged file must not
# decide how much memory is used.
_SIZES = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 17,
    "num_hidden_layers": 1000,
    "num_attention_heads": 1 << 17,
    "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1024,
}
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
        refuse_other_architectures(values, source)
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
        for name, needed in (
            ("is_decoder", "false"),
            ("add_cross_attention", "false"),
            ("pruned_heads", "empty"),
        ):
            if values.get(name):
                problems.append((name, needed))
        if problems:
            name, problem = problems[0]
            received = repr(values.get(name, getattr(config, name, None)))
            shown = received if len(received) <= 60 else f"{received[:60]}..."
            raise UserError(f"{source}: {name} should be {problem}. Received: {shown}")
        return config

    def _problems(self) -> list[tuple[str, str]]:
        """For each invalid field: its name, and what it should be."""
        problems = [(name, "a whole number above 0") for name in _SIZES if not self._is_size(name)]
        problems += [
            (name, f"at most {limit:,}")
            for name, limit in _SIZES.items()
            if not problems and getattr(self, name) > limit
        ]
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


def refuse_other_architectures(values: Mapping[str, Any], source: str) -> None:
    """Checks what a config states of its architecture; files before 2020 have no `model_type`.

    Raises:
        UserError: it is not BERT.
    """
    kind, classes = values.get("model_type"), values.get("architectures")
    if kind is None and isinstance(classes, list) and classes:
        if any(str(name).startswith("Bert") for name in classes):
            return
        raise UserError(
            f"{source}: architectures should have a class of BERT. Received: {classes!r:.60}, "
            "another architecture; use a BERT"
        )
    if kind not in (None, "bert"):
        raise UserError(
            f"{source}: model_type should be bert. Received: {kind!r:.60}, another architecture; "
            "use a BERT"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_config(path: Path, hugging_face: bool = False) -> BertConfig:
    """Reads Google's `bert_config.json` or Hugging Face's `config.json`.

    In Google's files `gelu` is the tanh form, which Hugging Face calls `gelu_new`, unless the file
    has `"gelu_form": "erf"`, a key of this project. Their `type_vocab_size` is 16 by default.

    Args:
        hugging_face: the config belongs to PyTorch weights, and has Hugging Face's meaning whatever
            its name (before 2019 it was `bert_config.json`); otherwise its keys decide.

    Raises:
        UserError: the file is missing, is not JSON, or see `BertConfig.from_dict`.
    """
    values = read_object(path)
    if hugging_face:
        return BertConfig.from_dict({**_HUGGING_FACE_DEFAULTS, **values}, str(path))
    if any(key in values for key in _HUGGING_FACE):
        return BertConfig.from_dict(values, str(path))
    config = BertConfig.from_dict({"type_vocab_size": _GOOGLE_SEGMENTS, **values}, str(path))
    if config.hidden_act == "gelu" and values.get("gelu_form") != "erf":
        return replace(config, hidden_act="gelu_new")
    return config
