"""What the configurations of all architectures have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Self

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
ACTIVATIONS = ("gelu", "gelu_new", "relu")
Problems = list[tuple[str, str]]
"""For each invalid field of a config: its name, and what it should be."""


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
    def _checked(cls, values: Mapping[str, Any], source: str, problems: Problems) -> Self:
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
        if found := [*config.problems(), *problems]:
            name, problem = found[0]
            received = repr(values.get(name, getattr(config, name, None)))
            shown = received if len(received) <= 60 else f"{received[:60]}..."
            raise UserError(f"{source}: {name} should be {problem}. Received: {shown}")
        return config

    def problems(self) -> Problems:
        """Fields that are impossible, and what each should be."""
        sizes = {field.name: _SIZES[field.name] for field in fields(self) if field.name in _SIZES}
        problems = [
            (name, "a whole number above 0") for name in sizes if not is_size(getattr(self, name))
        ]
        if problems:
            return problems
        problems += [
            (name, f"at most {limit:,}")
            for name, limit in sizes.items()
            if getattr(self, name) > limit
        ]
        if self.hidden_size % self.num_attention_heads:
            problems.append(
                ("hidden_size", f"a multiple of num_attention_heads {self.num_attention_heads}")
            )
        return problems

    def _dropout_problems(self, names: Sequence[str]) -> Problems:
        return [
            (name, "a number from 0 to below 1")
            for name in names
            if not (is_number(rate := getattr(self, name)) and 0 <= rate < 1)
        ]

    def _fraction_problems(self, names: Sequence[str]) -> Problems:
        return [
            (name, "a number between 0 and 1")
            for name in names
            if not (is_number(value := getattr(self, name)) and 0 < value < 1)
        ]


def is_size(value: object) -> bool:
    """Whether a value from a file is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_number(value: object) -> bool:
    """Whether a value from a file is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)
