"""What a model card tells, gathered from params.yaml and from the results of the stages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from lib.params import SAVED, SHARDS, VOCAB, Params, Pretrain
from lib.run.errors import UserError
from lib.run.json_files import read_object

# The file in a fetched model's folder that says where it is from.
_SOURCE = "source.json"


@dataclass(frozen=True)
class NamedModel:
    """A model that was there before.

    Attributes:
        name: on the Hugging Face hub; of its folder, if that does not say where it is from.
        revision: commit on the hub, if it is from there.
        license: what the front matter of its own card says.
    """

    name: str
    revision: str | None
    license: str | None


@dataclass(frozen=True)
class PhaseFacts:
    """One training run.

    Attributes:
        settings: those of `pretrain` with the phase's own over them.
        steps: optimizer steps that the model has behind it from this phase.
        epochs: the same in times all its training records.
        examples, tokens: seen in these steps; padding is not counted, what comes again is.
    """

    name: str
    max_seq_length: int
    settings: Pretrain
    steps: int
    epochs: float
    examples: int
    tokens: int


@dataclass(frozen=True)
class CardFacts:
    """All of a card but the model's sizes and its held-out numbers.

    Attributes:
        phases: from the first one to the model's own.
        base: the model that the first phase went on from; None: it started from scratch.
        vocabulary_base: the model or file that the vocabulary is from; None: from the text.
        parameters: numbers in the model's tensors.
        corpus, sample, vocabulary, split: metrics of these stages, as `dvc metrics` shows them.
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
    def made_elsewhere(self) -> str | None:
        """The folder of examples that were not made of the text; None: all were."""
        source = self.params.records.source
        return None if source == SHARDS else source


def gather(params: Params, phase: str, results: Path) -> CardFacts:
    """Reads the metrics of all stages that made the model of a phase.

    Args:
        phase: its name in params.yaml.
        results: the folder with one folder of results a stage.

    Raises:
        UserError: a stage has not run, or not in this version.
    """
    phases, base = _chain(params, phase, results)
    from_sample = params.vocab.source in ("sentencepiece", "characters")
    return CardFacts(
        params,
        phases,
        base,
        None if from_sample else _named(Path(params.vocab.base)),
        _read(results / f"pretrain/{phase}", "parameters")["parameters"],
        _read(
            results / "preprocess",
            "files formats documents_in documents documents_duplicate sentences characters_in "
            "characters edits rejected input_md5",
        ),
        _read(results / "sample5M", "train_sampled"),
        _read(results / "vocab", "size unused_entries new_words train heldout"),
        _read(results / "split", "train dev test overlap"),
    )


def _read(folder: Path, keys: str) -> dict[str, Any]:
    path = folder / "metrics.json"
    if not path.exists():
        raise UserError(f"{path}: no such file; run the pipeline that writes it: dvc repro")
    values = read_object(path)
    for key in keys.split():
        if key not in values:
            raise UserError(f"{path}: has no `{key}`; run the pipeline that writes it: dvc repro")
    return values


def _chain(
    params: Params, phase: str, results: Path
) -> tuple[tuple[PhaseFacts, ...], NamedModel | None]:
    """The phases up to this one, the first first, and the model that they went on from."""
    phases: list[PhaseFacts] = []
    earlier: tuple[str, str | None] | None = (phase, None)
    init = ""
    while earlier:
        name, kept = earlier
        if name in (each.name for each in phases):
            raise UserError(f"phases.{name}.init: {init} starts from {name} itself; break the ring")
        phases.append(_phase(params, name, kept, results))
        init = params.phases[name].init
        earlier = _phase_of(params, init)
    from_scratch = init == VOCAB or Path(init).suffix == ".json"
    return tuple(reversed(phases)), None if from_scratch else _named(Path(init))


def _phase_of(params: Params, init: str) -> tuple[str, str | None] | None:
    """The phase whose model this is, and which of its kept models if it is one of those."""
    match PurePosixPath(init).parts:
        case ("models", name) if name in params.phases:
            return name, None
        case ("models", folder, name, kept) if folder == SAVED and name in params.phases:
            return name, kept
    return None


def _phase(params: Params, name: str, kept: str | None, results: Path) -> PhaseFacts:
    settings = params.training(name)
    length = params.phases[name].max_seq_length
    training = _read(results / "pretrain" / name, "steps best_step")
    records = _read(results / "records" / name, "train")["train"]
    steps = training["steps"]
    if kept:
        known = {"initial": 0, "best": training["best_step"]}
        steps = known[kept] if kept in known else int(kept.removeprefix("step-"))
    rows = steps * settings.batch_size
    epochs = rows / records["sequences"]
    return PhaseFacts(
        name,
        length,
        settings,
        steps,
        epochs,
        # Exact in whole numbers: rows of a pack hold different numbers of examples.
        *(
            round(rows * records[measure] / records["sequences"])
            for measure in ("examples", "tokens")
        ),
    )


def _named(path: Path) -> NamedModel:
    source = read_object(path / _SOURCE) if (path / _SOURCE).exists() else {}
    return NamedModel(source.get("model", path.name), source.get("revision"), _license(path))


def _license(folder: Path) -> str | None:
    """What a model's own card says; None if it has none or says nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8")
        found = re.match(r"---[ \t]*\r?\n(.*?)\n---[ \t]*(?:\r?\n|$)", text, re.DOTALL)
        values = yaml.safe_load(found[1]) if found else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    stated = values.get("license") if isinstance(values, dict) else None
    return stated if isinstance(stated, str) else None
