"""Initial weights of a phase: random, or a model extended to the phase's vocabulary and length."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.checkpoints.formats import compatibility_notes, detect_format, read_checkpoint
from lib.checkpoints.tensors import some_names
from lib.model.config import BertConfig, read_config
from lib.model.parameters import initial_values
from lib.params import Pretrain
from lib.run.errors import UserError
from lib.train.new_token_embeddings import add_token_embeddings, needed_extension
from lib.vocab.directory import has_vocabulary, read_directory
from lib.vocab.extension import read_extension
from lib.vocab.tokenizer import WordPieceTokenizer

_POSITIONS = "bert/embeddings/position_embeddings"


@dataclass(frozen=True)
class InitialModel:
    """The model before the first step.

    Attributes:
        weights: float32 arrays by name in the parameter table.
        from_scratch: the weights are random.
        notes: lines for the user on how the model at `init` was changed.
    """

    config: BertConfig
    weights: Mapping[str, np.ndarray]
    from_scratch: bool
    notes: tuple[str, ...]


def read_initial_model(
    settings: Pretrain,
    phase: str,
    init: Path,
    vocab: Path,
    tokenizer: WordPieceTokenizer,
    length: int,
) -> InitialModel:
    """Makes or reads the model that a phase starts from.

    Args:
        settings: of the phase.
        phase: its name in params.yaml, for errors.
        init: one of
            - the folder of the vocabulary: from scratch, with the sizes in params.yaml;
            - a config file: from scratch, with the sizes in it, except for the vocabulary size;
            - the folder of a model in any format of `lib.checkpoints.formats`: that model, with
              embeddings for new tokens and positions as needed, and random weights for missing
              heads if `init_missing_heads` allows it.
        vocab: the folder of the vocabulary.
        tokenizer: the tokenizer in `vocab`.
        length: tokens per sequence of the phase.

    Raises:
        UserError: there is nothing at `init`, it is damaged or has another vocabulary, or a new
            model has fewer positions than the sequences of the phase have tokens.
    """
    vocab_size = len(tokenizer.vocabulary)
    notes: tuple[str, ...] = ()
    if init.resolve() == vocab.resolve():
        config = BertConfig(vocab_size=vocab_size, **settings.model.model_dump())
        key = "pretrain.model.max_position_embeddings"
    elif init.is_file() and init.suffix != ".json":
        raise UserError(
            f"phases.{phase}.init: {init} is a file, but not a config file (.json); name the "
            "folder of a model"
        )
    elif init.is_file():
        config, notes = _config_from_file(init, vocab_size)
        key = f"max_position_embeddings in {init}"
    elif init.is_dir():
        return _from_model(settings, init, vocab, tokenizer, length)
    else:
        raise UserError(
            f"phases.{phase}.init: {init} does not exist; name {vocab} (from scratch), the config "
            "file of a BERT (from scratch with its sizes), or the folder of a model"
        )
    if length > config.max_position_embeddings:
        raise UserError(
            f"phases.{phase}.max_seq_length: {length} is more than the "
            f"{config.max_position_embeddings} positions of the model; shorten it or raise {key}"
        )
    return InitialModel(config, initial_values(config, settings.seed), True, notes)


def _config_from_file(path: Path, vocab_size: int) -> tuple[BertConfig, tuple[str, ...]]:
    config = read_config(path)
    notes = [f"from scratch with the sizes in {path}; pretrain.model is not used"]
    if config.vocab_size != vocab_size:
        notes.append(
            f"the vocabulary size is {vocab_size:,}, as in the vocabulary, not "
            f"{config.vocab_size:,} as in {path}"
        )
    return replace(config, vocab_size=vocab_size), tuple(notes)


def _from_model(
    settings: Pretrain, init: Path, vocab: Path, tokenizer: WordPieceTokenizer, length: int
) -> InitialModel:
    found = read_checkpoint(init, settings.init_missing_heads)
    config = found.config
    notes = [f"starts from {init} ({detect_format(init)})", *compatibility_notes(init)]
    if found.unused_tensors:
        notes.append(f"{init}: {some_names(found.unused_tensors)}: not part of a BERT, ignored")
    if found.missing_heads:
        heads = " and no ".join(found.missing_heads)
        notes.append(f"{init} has no {heads}: random initial weights")
    missing = initial_values(config, settings.seed, without=found.weights)
    weights: Mapping[str, np.ndarray] = {**found.weights, **missing}
    files = read_directory(init) if has_vocabulary(init) else None
    extension = needed_extension(config.vocab_size, files, tokenizer, read_extension(vocab), init)
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
    positions = config.max_position_embeddings
    if length > positions:
        config, weights = extended_positions(config, weights, length)
        notes.append(
            f"{init} has {positions} positions; those up to {length} are initialised as copies of "
            "them, from the first one on"
        )
    return InitialModel(config, weights, False, tuple(notes))


def extended_positions(
    config: BertConfig, weights: Mapping[str, np.ndarray], length: int
) -> tuple[BertConfig, Mapping[str, np.ndarray]]:
    """The model with position embeddings for `length` tokens, if it has fewer.

    The new ones repeat the learnt ones from the beginning. From 4 to 10 positions:

        0 1 2 3  0 1 2 3  0 1

    Thus what the model has learnt of neighbouring tokens holds everywhere but at the seams
    (Beltagy et al., 2020, Longformer, section 5).

    Args:
        weights: float32 arrays by name in the parameter table.

    Returns:
        The arguments themselves, if there are enough positions.
    """
    learnt = weights[_POSITIONS]  # [positions, H]
    if length <= len(learnt):
        return config, weights
    repeated = np.resize(learnt, (length, learnt.shape[1]))
    return replace(config, max_position_embeddings=length), {**weights, _POSITIONS: repeated}
