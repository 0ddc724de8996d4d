"""The facts of a model card, gathered from params.yaml and the results of the stages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from lib.params import SAVED, SHARDS, STATES, VOCAB, Params, Pretrain
from lib.run.contracts import read_needed
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.phases import training_settings

# The file in the folder of a downloaded model that has its origin.
_SOURCE = "source.json"


@dataclass(frozen=True)
class NamedModel:
    """A model that training or the vocabulary started from.

    Attributes:
        name: on the Hugging Face hub, or else the name of its folder.
        revision: commit on the hub, if it is from there.
        license: as the front matter of its own card has it.
    """

    name: str
    revision: str | None
    license: str | None

    def __str__(self) -> str:
        details = [
            *([f"revision {self.revision}"] if self.revision else []),
            *([f"licence {self.license}"] if self.license else []),
        ]
        return f"`{self.name}`" + (f" ({', '.join(details)})" if details else "")


@dataclass(frozen=True)
class PhaseFacts:
    """One training run.

    Attributes:
        settings: those of `pretrain`, overridden by the phase's own.
        steps: optimizer steps of this phase that the model was trained for.
        epochs: the same as passes over the training records.
        examples, tokens: seen in these steps, repeated ones each time; without padding.
        random_next: fraction of the sentence pairs, if any, whose second segment is random.
        changes: what was changed on purpose or by chance within the run: step -> name -> values.
    """

    name: str
    max_seq_length: int
    settings: Pretrain
    steps: int
    epochs: float
    examples: int
    tokens: int
    random_next: float
    changes: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class CardFacts:
    """Everything in a card but the sizes of the model and its metrics.

    Attributes:
        phases: from the first one to the model's own.
        base: the model that the first phase continued from; None: training from scratch.
        vocabulary_base: the model or file that the vocabulary comes from; None: the text.
        parameters: number of the model's parameters.
        corpus, sample, vocabulary, split: metrics of the stages preprocess, sample5M, vocab, split.
    """

    params: Params
    phases: tuple[PhaseFacts, ...]
    base: NamedModel | None
    vocabulary_base: NamedModel | None
    parameters: int
    corpus: Mapping[str, Any]
    sample: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    split: Mapping[str, Any]

    @property
    def external_examples(self) -> str | None:
        """The folder of imported examples; None: all examples are made from the text."""
        source = self.params.records.source
        return None if source == SHARDS else source


def gather(params: Params, phase: str, results: Path) -> CardFacts:
    """Reads the metrics of all stages that the model of a phase depends on.

    Args:
        phase: its name in params.yaml.
        results: the folder that has one folder of results for each stage.

    Raises:
        UserError: a stage has not run, or only in an older version.
    """
    phases, base = _chain(params, phase, results)
    from_sample = params.vocab.source in ("sentencepiece", "characters")
    return CardFacts(
        params,
        phases,
        base,
        None if from_sample else _named(Path(params.vocab.base)),
        read_needed(results, f"pretrain/{phase}")["parameters"],
        read_needed(results, "preprocess"),
        read_needed(results, "sample5M"),
        read_needed(results, "vocab"),
        read_needed(results, "split"),
    )


def _chain(
    params: Params, phase: str, results: Path
) -> tuple[tuple[PhaseFacts, ...], NamedModel | None]:
    """The phases up to this one, in the order of training, and the model they continued from."""
    phases: list[PhaseFacts] = []
    earlier: tuple[str, str | None] | None = (phase, None)
    init = ""
    while earlier:
        name, saved = earlier
        if name in (each.name for each in phases):
            raise UserError(
                f"phases.{name}.init: {init} itself starts from {name}; break the cycle"
            )
        phases.append(_phase(params, name, saved, results))
        init = params.phases[name].init
        earlier = _phase_of(params, init)
    from_scratch = init == VOCAB or Path(init).suffix == ".json"
    folder = Path(init).parent if init.endswith(".index") else Path(init)
    return tuple(reversed(phases)), None if from_scratch else _named(folder)


def _phase_of(params: Params, init: str) -> tuple[str, str | None] | None:
    """The phase that trained this model, and the name of the saved model if it is one."""
    match PurePosixPath(init).parts:
        case ("models", name) if name in params.phases:
            return name, None
        case ("models", folder, name, saved) if folder == SAVED and name in params.phases:
            return name, saved
        case ("models", folder, name) if folder == STATES and name in params.phases:
            return name, None
    return None


def _phase(params: Params, name: str, saved: str | None, results: Path) -> PhaseFacts:
    settings = training_settings(params.pretrain, params.phases[name])
    length = params.phases[name].max_seq_length
    training = read_needed(results, f"pretrain/{name}")
    records = read_needed(results, f"records/{name}")["train"]
    steps = training["steps"]
    if saved:
        known = {"initial": 0, "best": training["best_step"]}
        steps = known[saved] if saved in known else int(saved.removeprefix("step-"))
    sequences = steps * settings.batch_size
    epochs = sequences / records["sequences"]
    # A packed sequence holds several examples: scaled by the averages over all records.
    examples, tokens = (
        round(sequences * records[measure] / records["sequences"])
        for measure in ("examples", "tokens")
    )
    random_next = records.get("random_next_fraction", 0.5)
    changes = _changes(training, steps)
    return PhaseFacts(name, length, settings, steps, epochs, examples, tokens, random_next, changes)


def _changes(training: Mapping[str, Any], steps: int) -> dict[str, dict[str, str]]:
    """What was changed within a run before a step, from its metrics."""
    found: dict[str, dict[str, str]] = {}
    for kind in ("continued", "changed"):
        for after, changes in training.get(kind, {}).items():
            if int(after.removeprefix("after_step_")) < steps:
                found[after] = {**found.get(after, {}), **changes}
    return found


def _named(path: Path) -> NamedModel:
    source = read_object(path / _SOURCE) if (path / _SOURCE).exists() else {}
    return NamedModel(source.get("model", path.name), source.get("revision"), _license(path))


def _license(folder: Path) -> str | None:
    """The licence in the front matter of a model's card, if there is one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = re.match(r"---[ \t]*\r?\n(.*?)\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
        values = yaml.safe_load(found[1]) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    stated = values.get("license") if isinstance(values, dict) else None
    return stated if isinstance(stated, str) else None
