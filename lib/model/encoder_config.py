"""What the configurations of all architectures have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from itertools import chain
from typing import Any, ClassVar, Self, TypeGuard

from lib.model.parameters import Parameter
from lib.run.errors import UserError

# Size -> the largest that is read, far above that of any model. A number in a damaged file must not
# decide how much memory is used.
_SIZES = {
    "vocab_size": 1 << 24,
    "hidden_size": 1 << 17,
    "num_hidden_layers": 1000,
    "num_attention_heads": 1 << 17,
    "intermediate_size": 1 << 20,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1024,
    "local_attention": 1 << 20,
    "global_attn_every_n_layers": 1000,
}
# Names of other fields, what they should be, and whether a value is that.
_CHECKS: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    (
        "hidden_act hidden_activation",
        "gelu, gelu_new or relu",
        lambda value: value in ("gelu", "gelu_new", "relu"),
    ),
    (
        "hidden_dropout_prob attention_probs_dropout_prob embedding_dropout attention_dropout "
        "mlp_dropout classifier_dropout",
        "a number from 0 to below 1",
        lambda value: is_number(value) and 0 <= value < 1,
    ),
    (
        "initializer_range layer_norm_eps norm_eps",
        "a number between 0 and 1",
        lambda value: is_number(value) and 0 < value < 1,
    ),
    ("global_rope_theta local_rope_theta", "a number of at least 1", lambda value: is_theta(value)),
    ("classifier_pooling", "cls or mean", lambda value: value in ("cls", "mean")),
)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(ABC):
    """Sizes and options of a model; fields are named as in Hugging Face's config.json.

    Attributes:
        architecture: its name in params.yaml.
        title: its name in text.
        huggingface_class: the class of transformers that loads a model for pretraining.
        token_embeddings, output_bias: names of parameters with an entry per token.
        has_next_sentence: whether the architecture has an NSP head, and with it segments.
        poolings: what a classifier of texts may be given: the state of [CLS], or the mean of all.
        fixed: fields of a file that may only have one value: what this project computes.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    initializer_range: float

    architecture: ClassVar[str]
    title: ClassVar[str]
    huggingface_class: ClassVar[str]
    token_embeddings: ClassVar[str]
    output_bias: ClassVar[str]
    has_next_sentence: ClassVar[bool]
    poolings: ClassVar[tuple[str, ...]]
    fixed: ClassVar[Mapping[str, Any]]

    @property
    @abstractmethod
    def segments(self) -> int:
        """Number of segments that the model distinguishes in an input."""

    @abstractmethod
    def attention_span(self, layer: int, length: int) -> int:
        """Tokens that a token attends to in a layer, in sequences of this length."""

    @abstractmethod
    def description(self) -> list[tuple[str, object]]:
        """Its options, for the model card; sizes that all architectures have are left out."""

    @property
    @abstractmethod
    def classifier_dropout(self) -> float:
        """Dropout before the new layer of a classifier."""

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @abstractmethod
    def parameter_table(self) -> list[Parameter]:
        """All parameters of encoder and heads, in a fixed order."""

    @abstractmethod
    def to_huggingface(self) -> dict[str, Any]:
        """Fields of config.json that have one value in all models, or follow from others."""

    @abstractmethod
    def classifier_parts(self, per_token: bool) -> tuple[str, ...]:
        """Parts of the model that classifiers of texts, or of tokens, are built on."""

    @abstractmethod
    def special_ids(self, pad: int, cls: int, sep: int) -> dict[str, int]:
        """Ids of special tokens under the keys of config.json."""

    @classmethod
    @abstractmethod
    def from_settings(cls, vocab_size: int, settings: Mapping[str, Any]) -> Self:
        """The config of a new model from `pretrain.model` in params.yaml."""

    @classmethod
    def _fields_of(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that are fields of this class."""
        return {f.name: values[f.name] for f in fields(cls) if f.name in values}

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], source: str, problems: Iterable[tuple[str, str]] = ()
    ) -> Self:
        """Makes a config from the fields of a JSON file; unknown ones are ignored.

        Args:
            problems: found by the caller in fields that a config does not have.

        Raises:
            UserError: a size is missing or impossible, or there are problems.
        """
        for field in fields(cls):
            if field.default is MISSING and field.name not in values:
                raise UserError(f"{source}: no `{field.name}`; not the config of a {cls.title}")
        config = cls(**cls._fields_of(values))
        unsupported = (
            (name, json.dumps(value).strip('"'))
            for name, value in cls.fixed.items()
            if values.get(name) not in (None, value)
        )
        for name, problem in chain(config.problems(), unsupported, problems):
            received = repr(values.get(name, getattr(config, name, None)))
            shown = received if len(received) <= 60 else f"{received[:60]}..."
            raise UserError(f"{source}: {name} should be {problem}. Received: {shown}")
        return config

    def problems(self) -> Iterator[tuple[str, str]]:
        """Fields that are impossible, and what each should be; the first one, if not more."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, limit in _SIZES.items():
            if name in values and not is_size(values[name]):
                yield name, "a whole number above 0"
                return
            if name in values and values[name] > limit:
                yield name, f"at most {limit:,}"
        if self.hidden_size % self.num_attention_heads:
            yield "hidden_size", f"a multiple of num_attention_heads {self.num_attention_heads}"
        for names, needed, is_right in _CHECKS:
            for name in names.split():
                if name in values and not is_right(values[name]):
                    yield name, needed


def is_size(value: object) -> TypeGuard[int]:
    """Whether a value from a file is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_theta(value: object) -> bool:
    """Whether a value from a file is a base of rotary positions."""
    return is_number(value) and 1 <= value < 1e12


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value from a file is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
