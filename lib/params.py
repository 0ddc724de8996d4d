"""params.yaml as typed, frozen objects, with the loader that every stage uses.

DVC and PyYAML read numbers differently: to PyYAML `2e-5` is a string, and `dvc exp run -S` writes
small values in exactly that form. So every number is converted to its declared type here.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from lib.model.config import ARCHITECTURES
from lib.model.initialization import INITIALIZATIONS, refuse_initialization
from lib.model.optimizers import OPTIMIZERS
from lib.model.schedules import SCHEDULES
from lib.run import paths
from lib.run.errors import UserError
from lib.run.phases import decay_length, run_length, starts_from_state, training_settings
from lib.run.pool import scheduler_address
from lib.run.validation import first_problem, invalid
from lib.text.cleaning.edits import Cleaning
from lib.text.layout import NAMES
from lib.text.reading.dialects import Dialect
from lib.text.reading.encodings import text_encoding
from lib.text.reading.fields import lists_in
from lib.text.reading.formats import FORMATS


def _number(value: object) -> object:
    """Converts numbers written as text (`2e-5`) to floats; true and false are not numbers."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise ValueError("should be a number") from None
    return value


def _whole_number(value: object) -> object:
    """Converts whole numbers in any notation, such as `2e6` steps, to int; refuses 2.5."""
    value = _number(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("should be a whole number")
        return int(value)
    return value


# Folders of the pipeline that params.yaml names.
SAMPLE, VOCAB, SHARDS = str(paths.SAMPLE), str(paths.VOCAB), str(paths.SHARDS)


def _one_of(names: Iterable[str]) -> GetPydanticSchema:
    """Type of a key whose value is a name in a registry; the error for any other lists them."""
    schema = core_schema.literal_schema(list(names))
    return GetPydanticSchema(lambda source, handler: schema)


Whole = Annotated[int, BeforeValidator(_whole_number)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Positive = Annotated[Whole, Field(ge=1)]
Count = Annotated[Whole, Field(ge=0)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
Probability = Annotated[Real, Field(ge=0, le=1)]
PositiveReal = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]


def _steps_or_fraction(value: float) -> float:
    if value >= 1 and not float(value).is_integer():
        raise ValueError("should be a whole number of steps, or a fraction of them below 1")
    return int(value) if value >= 1 else value


StepsOrFraction = Annotated[NotNegative, AfterValidator(_steps_or_fraction)]
PositiveStepsOrFraction = Annotated[PositiveReal, AfterValidator(_steps_or_fraction)]


def _is_one_line(text: str) -> bool:
    """Whether a text has no line breaks, control characters or unpaired surrogates."""
    categories = map(unicodedata.category, text)
    return not any(category in ("Cc", "Cs", "Zl", "Zp") for category in categories)


def _project_path(value: str) -> str:
    """Path of a file or folder, taken literally: no `~`, variable or pattern is expanded in it."""
    if not value.strip():
        raise ValueError("should be the path of a file or folder")
    if not _is_one_line(value):
        raise ValueError("should be a path without line breaks or control characters")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
        raise ValueError("should be a path on this machine; download the data first")
    if value.startswith("~"):
        raise ValueError("should be a full path: ~ is not expanded here")
    if "${" in value:
        raise ValueError("should be a path without ${, which DVC would expand")
    if any(len(name.encode()) > 255 for name in value.split("/")):
        raise ValueError("should be a path without names of more than 255 bytes")
    return str(PurePosixPath(value))


ProjectPath = Annotated[str, AfterValidator(_project_path)]


def _overlapping(path: str, folders: Iterable[Path]) -> Path | None:
    """The first folder of the project that a path is, lies in or contains; None if there is none.

    Symbolic links are not followed.
    """
    relative = PurePosixPath(os.path.relpath(path))
    contains_project = set(relative.parts) <= {".."}
    for folder in folders:
        if contains_project or relative.is_relative_to(folder) or folder.is_relative_to(relative):
            return folder
    return None


class Section(BaseModel):
    """Base class of the sections: unknown keys are refused, and objects are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Demo(Section):
    megabytes: PositiveReal = 8


def _document(value: str) -> str:
    if not re.fullmatch("blank_line|line|file|[1-9][0-9]* sentences", value):
        raise ValueError("should be blank_line, line, file or `N sentences` (such as 20 sentences)")
    return value


def _text_field(value: Any) -> Any:
    """A column number may be written as a number."""
    names = value if isinstance(value, list | tuple) else [value]
    names = [str(name) if type(name) is int else name for name in names]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("should be the name of a field or column, or a list of names")
    if len({lists_in(name) for name in names}) > 1:
        raise ValueError("should name fields within the same lists ([]), or documents would mix")
    return names[0] if not isinstance(value, list | tuple) else tuple(names)


TextField = Annotated[str | tuple[str, ...], BeforeValidator(_text_field)]
DocumentRule = Annotated[str, AfterValidator(_document)]
Format = Annotated[str, _one_of(("auto", *FORMATS))]
Encoding = Annotated[str, AfterValidator(text_encoding)]
StatedSplits = dict[str, Literal["train", "dev", "test", "none"]]


class NamedInput(Section):
    """What differs for one folder of raw text; None, or a key left out: as for all of them."""

    document: DocumentRule | None = None
    line_ends: Literal["keep", "join"] | None = None
    sentences: Literal["split", "line"] | None = None
    format: Format | None = None
    text_field: TextField | None = None
    csv: Dialect | None = None
    encoding: Encoding | None = None
    splits: StatedSplits | None = None
    clean: Cleaning | None = None


def _input_name(value: str) -> str:
    if value.lower() in NAMES:
        raise ValueError(f"should not be the name of a split, {value}; rename the folder")
    return value


# A part of names of files and of DVC's stages.
SimpleName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)
]
InputName = Annotated[SimpleName, AfterValidator(_input_name)]

Named = TypeVar("Named", bound="Section | None")


def _differ_in_letters(sections: dict[str, Named]) -> dict[str, Named]:
    """Refuses names that are the same file for file systems that ignore case (macOS, Windows)."""
    seen: dict[str, str] = {}
    for name in sections:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise ValueError(f"{other} and {name} should differ in more than case; rename one")
    return sections


class Preprocess(Section):
    input: ProjectPath = str(paths.DEMO)
    inputs: Annotated[dict[InputName, NamedInput | None], AfterValidator(_differ_in_letters)] = {}
    document: DocumentRule = "blank_line"
    line_ends: Literal["keep", "join"] = "keep"
    sentences: Literal["split", "line"] = "split"
    format: Format = "auto"
    text_field: TextField = "text"
    csv: Dialect = Dialect()
    encoding: Encoding = "utf-8"
    bad_input: Literal["fail", "skip"] = "fail"
    bad_input_limit: Probability = 0.01
    near_duplicates: Annotated[Real, Field(gt=0, le=1)] | None = None
    splits: StatedSplits = {}
    clean: Cleaning = Cleaning()

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The names in text_field."""
        return (self.text_field,) if isinstance(self.text_field, str) else self.text_field

    def of_input(self, name: str) -> "Preprocess":
        """The settings of a named input: those of the section, with its own values."""
        own = self.inputs[name]
        changes: dict[str, Any] = {"inputs": {}}
        for key in own.model_fields_set if own else ():
            value, usual = getattr(own, key), getattr(self, key)
            if isinstance(value, BaseModel):
                chosen = {each: getattr(value, each) for each in value.model_fields_set}
                value = usual.model_copy(update=chosen)
            if value is not None:
                changes[key] = value
        return self.model_copy(update=changes)

    @model_validator(mode="after")
    def _columns_have_names(self) -> "Preprocess":
        named = {f"inputs.{name}.": self.of_input(name) for name in self.inputs}
        for where, settings in (named or {"": self}).items():
            fields = settings.text_fields
            if not settings.csv.header and not all(name.isdigit() for name in fields):
                raise invalid(
                    f"preprocess.{where}text_field",
                    "should be the number of a column, such as 1, with csv.header: false",
                    settings.text_field,
                )
        return self

    @model_validator(mode="after")
    def _splits_are_of_an_input(self) -> "Preprocess":
        if self.inputs and self.splits:
            raise invalid(
                "preprocess.splits",
                "should be empty with preprocess.inputs; put each path under its input, such as "
                f"preprocess.inputs.{next(iter(self.inputs))}.splits",
                self.splits,
            )
        return self


class Sample5M(Section):
    sentences: Positive = 5_000_000
    heldout_sentences: Count = 20_000
    seed: Count = 1


class Vocab(Section):
    source: Literal["sentencepiece", "characters", "file", "model", "extend"] = "sentencepiece"
    base: ProjectPath = SAMPLE
    # 5 special tokens, and one letter as the start and as the continuation of a word.
    size: Annotated[Whole, Field(ge=7)] = 7800
    algorithm: Literal["bpe", "unigram", "byte_bpe"] = "bpe"
    lowercase: StrictBool = True
    strip_accents: StrictBool = True
    character_coverage: Annotated[Real, Field(gt=0.9, le=1)] = 1.0
    min_frequency: Positive = 3
    max_token_length: Annotated[Whole, Field(ge=2, le=100)] = 64
    max_sentence_length: Positive | None = None

    @property
    def makes_byte_bpe(self) -> bool:
        return self.source == "sentencepiece" and self.algorithm == "byte_bpe"

    @model_validator(mode="after")
    def _base_fits_source(self) -> "Vocab":
        from_sample = self.source in ("sentencepiece", "characters")
        if from_sample and self.base != SAMPLE:
            raise invalid(
                "vocab.base",
                f"should be {SAMPLE} with source {self.source} (or set vocab.source to "
                "file, model or extend)",
                self.base,
            )
        if not from_sample and self.base == SAMPLE:
            what = "a vocab.txt" if self.source == "file" else "the folder of a model"
            raise invalid("vocab.base", f"should name {what} with source {self.source}", self.base)
        return self


class Split(Section):
    lines_per_shard: Positive = 512_000
    bytes_per_shard: Annotated[Whole, Field(ge=1024)] = 16_777_216
    dev_fraction: Fraction = 0.02
    test_fraction: Fraction = 0.03
    seed: Count = 1

    @model_validator(mode="after")
    def _leaves_training_text(self) -> "Split":
        if self.dev_fraction + self.test_fraction >= 1:
            raise ValueError("dev_fraction and test_fraction together should be below 1")
        return self


# Fraction of tokens to mask.
MaskedFraction = Annotated[Real, Field(gt=0, lt=1)]


class Records(Section):
    source: ProjectPath = SHARDS
    masked_lm_prob: MaskedFraction = 0.3
    mask_replace_prob: Probability = 0.8
    random_replace_prob: Probability = 0.1
    max_predictions_per_seq: Literal["auto"] | Positive = "auto"
    short_seq_prob: Probability = 0.0
    dupe_factor: Positive = 1
    whole_word_mask: StrictBool = True
    next_sentence: StrictBool = False
    whole_sentences: StrictBool = False
    random_next_prob: Probability = 0.5
    masking: Literal["static", "dynamic"] = "dynamic"
    packing: StrictBool = True
    max_examples_per_pack: Literal["auto"] | Annotated[Whole, Field(ge=2)] = "auto"
    compression: Literal["none", "gzip"] = "none"
    seed: Count = 12345

    @model_validator(mode="after")
    def _replaced_fractions_fit(self) -> "Records":
        # Sums of decimal fractions, such as 0.7 + 0.2 + 0.1, may exceed 1 in the last bit.
        if self.mask_replace_prob + self.random_replace_prob > 1 + 1e-9:
            raise invalid(
                "records.random_replace_prob",
                "should be at most 1 together with records.mask_replace_prob, "
                f"{self.mask_replace_prob:g}; the rest of the tokens to predict is kept",
                self.random_replace_prob,
            )
        return self

    @model_validator(mode="after")
    def _external_examples_are_imported_unchanged(self) -> "Records":
        if self.source != SHARDS:
            # They have masks, and a sequence each, whatever the parameters for text shards are.
            self.__dict__.update(masking="static", packing=False)
        return self


class Model(Section):
    architecture: Annotated[str, _one_of(ARCHITECTURES)] = "modernbert"
    num_hidden_layers: Positive = 2
    hidden_size: Positive = 128
    num_attention_heads: Positive = 4
    intermediate_size: Positive = 344
    hidden_act: Literal["gelu", "gelu_new", "relu"] = "gelu"
    max_position_embeddings: Positive = 512
    hidden_dropout_prob: Fraction = 0.0
    attention_probs_dropout_prob: Fraction = 0.0
    # Of ModernBERT only.
    local_attention: Positive = 128
    global_attn_every_n_layers: Positive = 3

    @model_validator(mode="after")
    def _sizes_fit_the_architecture(self) -> "Model":
        config = ARCHITECTURES[self.architecture].from_settings(1, self.model_dump())
        for name, problem in config.problems():
            key = f"pretrain.model.{name}"
            raise invalid(key, f"should be {problem}", getattr(self, name))
        return self


def _only(characters: str) -> AfterValidator:
    """Refuses text with characters outside a regular expression's character class."""

    def check(value: str) -> str:
        if not re.fullmatch(f"[A-Za-z0-9][{characters}]*", value):
            raise ValueError(f"should begin with a letter or digit and have only {characters}")
        return value

    return AfterValidator(check)


class Tpu(Section):
    """A TPU of Google Cloud; names that are null are those of the TPU VM that runs the stage."""

    name: Annotated[str, _only("A-Za-z0-9._:/,-")] | None = None
    zone: Annotated[str, _only("A-Za-z0-9-")] | None = None
    project: Annotated[str, _only("A-Za-z0-9.:-")] | None = None
    steps_per_execution: Positive = 1


def _checkpoint_dir(value: str) -> str:
    if not re.match(r"/+[^/]|[a-z][a-z0-9]*://[^/]", value):
        raise ValueError("should be gs://bucket/prefix or the absolute path of a folder")
    # Storage lists folders by patterns.
    if re.search(r"[*?\[\]\\]", value) or not _is_one_line(value):
        raise ValueError("should have no control characters, and none of * ? [ ] \\")
    return value.rstrip("/")


def _weights(value: Any) -> Any:
    if isinstance(value, dict) and value and not any(value.values()):
        raise ValueError("should give at least one input a weight above 0")
    return value


# Weights of inputs, or a power of their sizes.
Mixture = Annotated[
    dict[SimpleName, NotNegative] | Annotated[Real, Field(ge=0, le=1)], AfterValidator(_weights)
]


class Pretrain(Section):
    """Training parameters that every phase inherits, and may override where `Phase` has the key."""

    model: Model = Model()
    initialization: Annotated[str, _one_of(INITIALIZATIONS)] = "neighbors"
    init_missing_heads: StrictBool = False
    steps: Positive | None = 3400
    epochs: PositiveReal | None = None
    batch_size: Positive = 16
    mixture: Mixture | None = None
    microbatch_size: Positive | None = None
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "muon"
    learning_rate: PositiveReal = 8e-3
    end_learning_rate: NotNegative = 0.0
    schedule: Annotated[str, _one_of(SCHEDULES)] = "polynomial"
    power: PositiveReal = 1.0
    warmup_steps: StepsOrFraction = 200
    decay_steps: PositiveStepsOrFraction | None = None
    label_smoothing: Fraction = 0.0
    weight_decay: NotNegative = 0.01
    adam_beta1: Fraction = 0.9
    adam_beta2: Fraction = 0.98
    adam_epsilon: PositiveReal = 1e-6
    bias_correction: StrictBool = True
    muon_momentum: Fraction = 0.95
    clip_norm: PositiveReal | None = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    xla: Literal["auto"] | StrictBool = "auto"
    gradient_checkpointing: StrictBool = False
    distribution: Literal["one", "mirrored", "multiworker", "tpu"] = "one"
    tpu: Tpu = Tpu()
    shuffle_buffer: Positive = 20_000
    log_every: Positive = 100
    evaluate_every: Positive = 1000
    max_dev_sequences: Positive | None = None
    checkpoint_every: Positive = 1000
    checkpoint_minutes: PositiveReal | None = None
    checkpoint_dir: Annotated[str, AfterValidator(_checkpoint_dir)] | None = None
    keep_checkpoints: Positive = 2
    save_model_every: Positive | None = None
    tensorboard: StrictBool = False
    seed: Count = 1

    @model_validator(mode="after")
    def _has_one_length(self) -> "Pretrain":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("either steps or epochs should be given; set the other to null")
        return self


class Phase(Section):
    """One training run. Keys that are left out (or null) are inherited from `pretrain`, and
    `masked_lm_prob` from `records`."""

    max_seq_length: Annotated[Whole, Field(ge=8)]
    init: ProjectPath
    steps: Positive | None = None
    epochs: PositiveReal | None = None
    batch_size: Positive | None = None
    mixture: Mixture | None = None
    learning_rate: PositiveReal | None = None
    end_learning_rate: NotNegative | None = None
    schedule: Annotated[str, _one_of(SCHEDULES)] | None = None
    warmup_steps: StepsOrFraction | None = None
    decay_steps: PositiveStepsOrFraction | None = None
    masked_lm_prob: MaskedFraction | None = None


_LANGUAGE = "[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*"


def _languages(value: object) -> object:
    """A language code or a list of them, in the common forms of BCP 47 (en, pt-BR, zh-Hant-TW)."""
    for code in value if isinstance(value, list) and value else [value]:
        # PyYAML implements YAML 1.1, where the code of Norwegian, no, means false.
        if code is False:
            raise ValueError('should be "no", in quotes, if it is Norwegian')
        if code is not None and not re.fullmatch(_LANGUAGE, str(code)):
            raise ValueError("should be a language code, such as en or pt-BR, or a list of them")
    return value


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("should be one line of text, such as apache-2.0")
    return value


class Evaluate(Section):
    phase: str = "main"
    language: Annotated[str | list[str] | None, BeforeValidator(_languages)] = None
    license: Annotated[str, AfterValidator(_one_line)] | None = None
    masked_lm_prob: MaskedFraction = 0.15
    max_examples: Positive = 20_000
    extra: ProjectPath = str(paths.EXTRA)
    saved_models: StrictBool = False
    lengths: list[Annotated[Whole, Field(ge=8)]] = Field(default_factory=list)
    fill_mask_examples: Count = 5
    seed: Count = 1


# Columns by name, or in files without a header by number: 1 is the first column, -1 the last.
Column = Annotated[str, Field(min_length=1)] | Annotated[int, Field(strict=True)]


class ProbeTask(Section):
    """A labelled task on which the model and a baseline are fine-tuned and compared."""

    kind: Literal["classification", "tagging"]
    data: ProjectPath
    text_field: Column
    label_field: Column
    model: ProjectPath
    baseline: ProjectPath
    epochs: Positive
    batch_size: Positive
    learning_rate: PositiveReal
    max_seq_length: Annotated[Whole, Field(ge=8)]
    seeds: Positive
    pooling: Literal["cls", "mean"] = "cls"

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> "ProbeTask":
        by_name = self.kind == "classification"
        should = "name of a field" if by_name else "number of a column, 1 the first and -1 the last"
        for name in ("text_field", "label_field"):
            column = getattr(self, name)
            if isinstance(column, str) != by_name or column == 0:
                raise ValueError(f"{name} should be the {should}. Received: {column!r}")
        if self.kind == "tagging" and self.pooling != "cls":
            raise ValueError(
                f"pooling should be left out for tagging, where no text has a class. Received: "
                f"{self.pooling!r}"
            )
        if PurePosixPath(self.model) == PurePosixPath(self.baseline):
            raise ValueError(
                f"baseline should differ from model; write {VOCAB} for none. Received: "
                f"{self.baseline!r}"
            )
        return self


class Cluster(Section):
    workers: Literal["auto"] | Positive = "auto"
    scheduler: Annotated[str, AfterValidator(scheduler_address)] | None = None


# Folders of data/ that stages write, in addition to the demo corpus.
_DATA_FOLDERS = [paths.CODE, paths.PHASES, paths.CORPUS, paths.SAMPLE, paths.VOCAB, paths.SHARDS]
_DATA_FOLDERS.append(paths.RECORDS)

# Folders in models/ for models saved during training, downloaded ones, last states, and models of
# runs that did not finish: not names of phases.
SAVED, BASE = paths.SAVED_MODELS.name, paths.BASE_MODELS.name
STATES = paths.STATES.name
_RESERVED = (SAVED, BASE, STATES, paths.UNFINISHED_MODELS.name)


def _is_external(init: str) -> bool:
    """Whether the initial weights of a phase are those of a model from outside this project."""
    folders = PurePosixPath(init).parts
    is_model = init != VOCAB and not init.endswith(".json")
    return is_model and (folders[:1] != ("models",) or folders[1:2] == (BASE,))


class Probe(Section):
    tasks: Annotated[dict[SimpleName, ProbeTask], AfterValidator(_differ_in_letters)] = Field(
        default_factory=dict
    )


class Params(Section):
    """The whole of params.yaml."""

    demo: Demo = Demo()
    preprocess: Preprocess = Preprocess()
    sample5M: Sample5M = Sample5M()
    vocab: Vocab = Vocab()
    split: Split = Split()
    records: Records = Records()
    phases: Annotated[
        dict[SimpleName, Phase], Field(min_length=1), AfterValidator(_differ_in_letters)
    ]
    pretrain: Pretrain = Pretrain()
    evaluate: Evaluate = Evaluate()
    probe: Probe = Probe()
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Params":
        if self.evaluate.phase not in self.phases:
            raise invalid(
                "evaluate.phase",
                f"should be one of phases: {', '.join(self.phases)}",
                self.evaluate.phase,
            )
        positions = self.pretrain.model.max_position_embeddings
        for name, phase in self.phases.items():
            if name.lower() in _RESERVED:
                raise invalid("phases", f"no phase may be called {name}; rename it", name)
            if phase.init == VOCAB and phase.max_seq_length > positions:
                raise invalid(
                    f"phases.{name}.max_seq_length",
                    "should be at most "
                    f"pretrain.model.max_position_embeddings ({positions}); lower "
                    "the one or raise the other",
                    phase.max_seq_length,
                )
            if self.vocab.base == SAMPLE and _is_external(phase.init):
                raise invalid(
                    "vocab.source",
                    f"makes a new vocabulary, but {phase.init}, the initial model of "
                    f"phases.{name}, has its own; set vocab: {{source: model, base: "
                    f"{phase.init}}}, or source: extend to add words of your text",
                    self.vocab.source,
                )
            predictions = self.records.max_predictions_per_seq
            if predictions != "auto" and predictions > phase.max_seq_length:
                raise invalid(
                    "records.max_predictions_per_seq",
                    f"should be at most phases.{name}.max_seq_length, {phase.max_seq_length}",
                    predictions,
                )
            self._check_state(name, phase)
            self._check_masking(name, phase)
            self._check_training(name, phase)
            if phase.init == VOCAB:
                self._check_architecture(name)
        self._check_inputs()
        return self

    def _check_inputs(self) -> None:
        """Refuses inputs inside or around folders that the pipeline writes."""
        models = {name: paths.MODELS / name for name in self.phases}
        written = [*_DATA_FOLDERS, paths.SAVED_MODELS, paths.STATES, *models.values()]
        written.append(paths.RESULTS)
        trained_on = Path(os.path.relpath(self.preprocess.input))
        inputs = {
            "preprocess.input": (self.preprocess.input, "", written),
            "vocab.base": (self.vocab.base, SAMPLE, written),
            "evaluate.extra": (self.evaluate.extra, "", [*written, trained_on]),
            "records.source": (self.records.source, SHARDS, written),
        }
        for name, phase in self.phases.items():
            # A phase may start from another one's model, also from one saved during its training.
            own = [models[name], paths.SAVED_MODELS / name, paths.STATES / name, paths.RESULTS]
            inputs[f"phases.{name}.init"] = (phase.init, VOCAB, [*_DATA_FOLDERS, *own])
        for key, (path, usual, folders) in inputs.items():
            if path != usual and (folder := _overlapping(path, folders)):
                allowed = f" (or {usual} itself)" if usual else ""
                why = "which is trained on" if folder == trained_on else "which the pipeline writes"
                problem = f"should be separate from {folder}, {why}{allowed}"
                raise invalid(key, problem, path)
        if self.records.source != SHARDS:
            for name in self.phases:
                if name.lower() in NAMES:
                    problem = (
                        f"no phase may be called {name} with external examples: "
                        f"{self.records.source}/{name} may be a split of them; rename it"
                    )
                    raise invalid("phases", problem, name)

    def _check_architecture(self, name: str) -> None:
        """Refuses a new model that cannot be trained on the records, or begin as it should."""
        config, start = ARCHITECTURES[self.pretrain.model.architecture], self.pretrain
        from_text = self.records.source == SHARDS
        if from_text and self.records.next_sentence and not config.has_next_sentence:
            problem = (
                f"should be false for phases.{name}, as a {config.title} has no segments and no "
                "NSP head; or set pretrain.model.architecture: bert"
            )
            raise invalid("records.next_sentence", problem, True)
        if reason := refuse_initialization(start.initialization, config):
            raise invalid("pretrain.initialization", reason, start.initialization)

    def _check_state(self, name: str, phase: Phase) -> None:
        """Refuses to start from the state of a phase that keeps none."""
        if not starts_from_state(phase.init):
            return
        key, earlier = f"phases.{name}.init", PurePosixPath(phase.init).name
        if phase.init != f"{paths.STATES}/{earlier}" or earlier not in self.phases:
            known = ", ".join(f"{paths.STATES}/{other}" for other in self.phases if other != name)
            problem = f"should be the state of another phase: {known or 'there is none'}"
            raise invalid(key, problem, phase.init)
        schedule = self.phases[earlier].schedule or self.pretrain.schedule
        if earlier != name and schedule != "constant":
            problem = (
                f"no state is kept of a phase whose learning rate falls; set "
                f"phases.{earlier}.schedule: constant, or start from its weights, models/{earlier}"
            )
            raise invalid(key, problem, phase.init)

    def _check_masking(self, name: str, phase: Phase) -> None:
        if phase.masked_lm_prob is None:
            return
        problem, limit = "", self.records.max_predictions_per_seq
        needed = round(phase.masked_lm_prob * phase.max_seq_length)
        if self.records.source != SHARDS:
            problem = (
                "should be null, because the external examples in records.source "
                f"{self.records.source} are imported unchanged"
            )
        elif limit != "auto" and needed > limit:
            problem = (
                f"masks {needed} of {phase.max_seq_length} tokens, more than "
                f"records.max_predictions_per_seq, {limit}; set that to auto"
            )
        if problem:
            where = f"phases.{name}.masked_lm_prob"
            raise invalid(where, problem, phase.masked_lm_prob)

    def _check_training(self, name: str, phase: Phase) -> None:
        try:
            settings = training_settings(self.pretrain, phase)
        except ValueError as failure:
            where = f"phases.{name}.epochs"
            raise invalid(where, str(failure), phase.epochs) from None

        def section(key: str) -> str:
            return "pretrain" if getattr(phase, key) is None else f"phases.{name}"

        if settings.end_learning_rate > settings.learning_rate:
            problem = f"should be at most learning_rate, {settings.learning_rate}"
            where = f"{section('end_learning_rate')}.end_learning_rate"
            raise invalid(where, problem, settings.end_learning_rate)
        if settings.steps:
            key = "warmup_steps"
            try:
                length = run_length(settings, 0)
                key = "decay_steps"
                decay_length(settings, *length)
            except ValueError as failure:
                where = f"{section(key)}.{key}"
                raise invalid(where, str(failure), getattr(settings, key)) from None

    def check_phase(self, name: str) -> None:
        """Checks that params.yaml has a phase of this name.

        Raises:
            UserError: it has not; the existing phases are named.
        """
        if name not in self.phases:
            known = ", ".join(self.phases)
            raise UserError(
                f"phases: there is no phase {name!r}; name one of those in params.yaml: {known}"
                if name
                else f"name the phase to run, one of those in params.yaml: {known}"
            )


# Keys of version 0.1 and their names since 0.2.0.
RENAMED = {
    "preprocess.clean.url_filler": "preprocess.clean.url_placeholder",
    "preprocess.clean.email_filler": "preprocess.clean.email_placeholder",
    "preprocess.clean.user_filler": "preprocess.clean.user_placeholder",
    "preprocess.clean.merge_fillers": "preprocess.clean.merge_placeholders",
    "vocab.max_piece_length": "vocab.max_token_length",
    "split.dev_share": "split.dev_fraction",
    "split.test_share": "split.test_fraction",
    "pretrain.model.layers": "pretrain.model.num_hidden_layers",
    "pretrain.model.heads": "pretrain.model.num_attention_heads",
    "pretrain.model.hidden_dropout": "pretrain.model.hidden_dropout_prob",
    "pretrain.model.attention_dropout": "pretrain.model.attention_probs_dropout_prob",
    "pretrain.new_heads": "pretrain.init_missing_heads",
    "pretrain.recompute": "pretrain.gradient_checkpointing",
    "pretrain.keep_models_every": "pretrain.save_model_every",
    "evaluate.kept_models": "evaluate.saved_models",
    "evaluate.holes": "evaluate.fill_mask_examples",
}


def parse_params(values: object, source: str = "params.yaml") -> Params:
    """Validates the parsed contents of a YAML file.

    Raises:
        UserError: a key is wrong; one line names the file, the first such key and how to fix it.
    """
    if not isinstance(values, dict):
        raise UserError(f"{source}: should hold sections such as `records:`. Received: {values!r}")
    try:
        return Params.model_validate(values)
    except ValidationError as failure:
        raise UserError(f"{source}: {first_problem(failure, Params, RENAMED)}") from None


def load_params(path: str | Path = "params.yaml") -> Params:
    """Reads and validates params.yaml.

    Raises:
        UserError: the file is missing, is not YAML, or a key in it is wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the top of the project") from None
    except (OSError, UnicodeDecodeError) as failure:
        raise UserError(f"{path}: cannot be read ({failure})") from None
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as failure:
        where = getattr(failure, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        problem = getattr(failure, "problem", None) or "not YAML"
        raise UserError(f"{path}{line}: {problem}; fix the YAML there") from None
    return parse_params(values, str(path))
