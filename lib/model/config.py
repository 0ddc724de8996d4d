"""The sizes and switches of one BERT."""

from dataclasses import dataclass, fields
from typing import Any

from lib.run.errors import UserError


@dataclass(frozen=True)
class BertConfig:
    """Field names are those of Google's `bert_config.json` and Hugging Face's `config.json`."""

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
    def from_dict(cls, values: dict[str, Any], source: str) -> "BertConfig":
        """Takes the known fields of a config file.

        Raises:
            UserError: a size is missing, or the activation is not one of ours.
        """
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        missing = [field.name for field in fields(cls)[:9] if field.name not in known]
        if missing:
            raise UserError(f"{source}: no `{missing[0]}`; not the config of a BERT")
        config = cls(**known)
        if config.hidden_act not in ("gelu", "gelu_new", "relu"):
            raise UserError(
                f"{source}: hidden_act should be gelu, gelu_new or relu. Received: "
                f"{config.hidden_act!r}"
            )
        return config
