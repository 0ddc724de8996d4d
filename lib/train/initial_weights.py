"""Initial weights of a phase: random, or a model extended to the phase's vocabulary and length."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.checkpoints.formats import compatibility_notes, detect_format, open_checkpoint
from lib.checkpoints.tensor_bundle import INDEX
from lib.checkpoints.tensors import NSP_HEADS, OpenCheckpoint, some_names
from lib.model.bert_config import POSITIONS
from lib.model.config import new_config, read_config
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values, refuse_initialization
from lib.params import Pretrain
from lib.run.errors import UserError
from lib.train.new_token_embeddings import add_token_embeddings, needed_extension
from lib.vocab.directory import TokenizerFiles, has_vocabulary, read_directory
from lib.vocab.extension import read_extension
from lib.vocab.tokenizer import Tokenizer


@dataclass(frozen=True)
class InitialModel:
    """The model before the first step.

    Attributes:
        weights: float32 arrays by name in the parameter table.
        from_scratch: the weights are random.
        notes: lines for the user on how the model at `init` was changed.
    """

    config: EncoderConfig
    weights: Mapping[str, np.ndarray]
    from_scratch: bool
    notes: tuple[str, ...]


def read_initial_model(
    settings: Pretrain,
    phase: str,
    init: Path,
    vocab: Path,
    tokenizer: Tokenizer,
    length: int,
    next_sentence: bool = True,
    segments: int = 2,
) -> InitialModel:
    """Makes or reads the model that a phase starts from.

    Args:
        settings, phase: of the phase, and its name for errors.
        init: one of
            - the folder of the vocabulary: from scratch, with the sizes in params.yaml;
            - a config file: from scratch, with the sizes in it, except for the vocabulary size;
            - the folder of a model in any format of `lib.checkpoints.formats`, or the `.index` file
              of a TensorFlow checkpoint: that model, with embeddings for new tokens and positions
              as needed, and random weights for missing heads if `init_missing_heads` allows it or
              training does not need them.
        vocab, tokenizer: the folder of the vocabulary, and its tokenizer.
        length: tokens per sequence of the phase.
        next_sentence: training predicts next sentences.
        segments: segments per example in the records: 2 if there are pairs.

    Raises:
        UserError: there is nothing at `init`, it is damaged, has another vocabulary or too few
            segments, or a new model has fewer positions than a sequence has tokens.
    """
    vocab_size = len(tokenizer.vocabulary)
    notes: tuple[str, ...] = ()
    sizes: Path | None = None
    if init.resolve() == vocab.resolve():
        config = new_config(vocab_size, settings.model.model_dump())
    elif names_config(phase, init, vocab):
        config, notes = _config_from_file(init, vocab_size)
        sizes = init
    else:
        initial = _from_model(settings, init, vocab, tokenizer, length, next_sentence)
        refuse_too_few_segments(initial.config, segments, f"phases.{phase}.init: {init}")
        return initial
    refuse_too_few_segments(config, segments, f"phases.{phase}.init: {init}")
    refuse_short_model(phase, length, config, sizes)
    if reason := refuse_initialization(settings.initialization, type(config)):
        received = f"{reason}. Received: {settings.initialization!r}"
        raise UserError(f"pretrain.initialization: {received}")
    weights = initial_values(config, settings.seed, initialization=settings.initialization)
    return InitialModel(config, weights, True, notes)


def names_config(phase: str, init: Path, vocab: Path) -> bool:
    """Whether a phase's `init` is a config file; otherwise it is a model.

    Raises:
        UserError: it is neither, or does not exist.
    """
    if init.is_dir():
        return False
    if init.is_file():
        if init.suffix not in (".json", INDEX):
            raise UserError(
                f"phases.{phase}.init: {init} is a file, but neither a config file (.json) nor the "
                f"{INDEX} of a checkpoint; name the folder of a model"
            )
        return init.suffix == ".json"
    where = f"phases.{phase}.init: {init}"
    if Path(f"{init}{INDEX}").is_file():
        raise UserError(f"{where} is not a file that DVC can follow; write {init}{INDEX}")
    if Path(f"{init}.dvc").is_file():
        raise UserError(f"{where} is not there, but {init}.dvc is; get it with `dvc pull {init}`")
    if init.is_symlink():
        raise UserError(f"{where} is a link to something that does not exist; fix the link")
    raise UserError(
        f"{where} does not exist; name {vocab} (from scratch), a config file (from scratch "
        "with its sizes), or the folder of a model"
    )


def refuse_short_model(
    phase: str, length: int, config: EncoderConfig, init: Path | None = None
) -> None:
    """Refuses a new model without a position for each token of a sequence.

    Args:
        init: the config file of its sizes; None if they are those of params.yaml.
    """
    if length > config.max_position_embeddings:
        key = "pretrain.model.max_position_embeddings"
        where = key if init is None else f"max_position_embeddings in {init}"
        raise UserError(
            f"phases.{phase}.max_seq_length: {length} is more than the "
            f"{config.max_position_embeddings} positions of the model; shorten it or raise {where}"
        )


def refuse_too_few_segments(config: EncoderConfig, segments: int, where: str) -> None:
    """Refuses a model without an embedding for each segment of an example."""
    if segments > 1 and not config.has_next_sentence:
        raise UserError(
            f"{where}: a {config.title} has no segments and no NSP head, which sentence pairs "
            "need; set records.next_sentence: false to train it on single segments (with "
            "records.source, import examples that have one segment), or "
            "pretrain.model.architecture: bert"
        )
    if config.segments < segments:
        raise UserError(
            f"{where}: type_vocab_size is {config.segments}, so the model has no second "
            "segment, which sentence pairs need; set records.next_sentence: false to train it on "
            "single segments (with records.source, import examples that have one segment)"
        )


def _config_from_file(path: Path, vocab_size: int) -> tuple[EncoderConfig, tuple[str, ...]]:
    config = read_config(path)
    notes = [f"from scratch with the sizes in {path}; pretrain.model is not used"]
    if config.vocab_size != vocab_size:
        notes.append(
            f"the vocabulary size is {vocab_size:,}, as in the vocabulary, not "
            f"{config.vocab_size:,} as in {path}"
        )
    return replace(config, vocab_size=vocab_size), tuple(notes)


def _from_model(
    settings: Pretrain,
    init: Path,
    vocab: Path,
    tokenizer: Tokenizer,
    length: int,
    next_sentence: bool,
) -> InitialModel:
    opened = open_checkpoint(init, settings.init_missing_heads, () if next_sentence else NSP_HEADS)
    notes = [f"starts from {init} ({detect_format(init)})"]
    notes += [f"{init}: {note}" for note in model_notes(opened, init, length, next_sentence)]
    found = opened.load()
    config = found.config
    missing = initial_values(config, settings.seed, without=found.weights)
    weights: Mapping[str, np.ndarray] = {**found.weights, **missing}
    files = tokenizer_files(init)
    extension = needed_extension(
        config.vocab_size, files, tokenizer, read_extension(vocab), folder_of(init)
    )
    if extension:
        vocab_size = len(tokenizer.vocabulary)
        config, weights = add_token_embeddings(config, weights, extension, vocab_size)
        if extension.new_tokens:
            notes.append(
                f"{len(extension.new_tokens):,} new tokens: each embedding is the mean of the "
                "embeddings of the tokens it replaces"
            )
    unused = config.vocab_size - len(tokenizer.vocabulary)
    if unused:
        notes.append(f"{unused} embeddings of the model are beyond the vocabulary; they are kept")
    config, weights = extended_positions(config, weights, length)
    return InitialModel(config, weights, False, tuple(notes))


def model_notes(model: OpenCheckpoint, init: Path, length: int, next_sentence: bool) -> list[str]:
    """What a user should know of the model at `init` that a phase starts from.

    Args:
        length, next_sentence: see `read_initial_model`.
    """
    config = model.config
    notes = [note.removeprefix(f"{init}: ") for note in compatibility_notes(init)]
    if model.missing_heads:
        unneeded = set(model.missing_heads) <= set(NSP_HEADS) and not next_sentence
        rest = ", which training without next sentences leaves as they are" if unneeded else ""
        notes.append(f"random initial weights for {' and '.join(model.missing_heads)}{rest}")
    if model.unused_tensors:
        unused = some_names(model.unused_tensors)
        notes.append(f"not part of a {config.title}, ignored: {unused}")
    if length > config.max_position_embeddings:
        notes.append(
            f"positions are extended to {length:,} by copies, from the first one on"
            if POSITIONS in model.parameters
            else f"was made for inputs of at most {config.max_position_embeddings:,} tokens; its "
            f"sequences will have {length:,}"
        )
    return notes


def folder_of(init: Path) -> Path:
    """The folder of a model, of which `init` may name one of several checkpoints."""
    return init if init.is_dir() else init.parent


def tokenizer_files(init: Path) -> TokenizerFiles | None:
    """The tokenizer of a model; None if its folder has no vocabulary."""
    folder = folder_of(init)
    return read_directory(folder) if has_vocabulary(folder) else None


def extended_positions(
    config: EncoderConfig, weights: Mapping[str, np.ndarray], length: int
) -> tuple[EncoderConfig, Mapping[str, np.ndarray]]:
    """The model with position embeddings for `length` tokens, if it has fewer.

    The new ones repeat the learnt ones from the beginning. From 4 to 10 positions:

        0 1 2 3  0 1 2 3  0 1

    Thus what the model has learnt of neighbouring tokens holds everywhere but at the seams
    (Beltagy et al., 2020, Longformer, section 5). If positions are not embedded, only the config
    changes.
    """
    if length <= config.max_position_embeddings:
        return config, weights
    longer = replace(config, max_position_embeddings=length)
    learnt = weights.get(POSITIONS)  # [positions, H]
    if learnt is None:
        return longer, weights
    repeated = np.resize(learnt, (length, learnt.shape[1]))
    return longer, {**weights, POSITIONS: repeated}
