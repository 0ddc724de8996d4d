"""What a phase starts from: a fresh model, or one that is there, at the length of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lib.checkpoints.formats import compatibility_notes, detect_format, read_checkpoint
from lib.checkpoints.tensors import some_names
from lib.model.config import BertConfig, read_config
from lib.model.parameters import initial_values
from lib.params import Model, Pretrain
from lib.run.errors import UserError
from lib.train.new_token_embeddings import new_rows, with_new_rows
from lib.vocab.directory import has_vocabulary, read_directory
from lib.vocab.extension import read_extension
from lib.vocab.tokenizer import WordPieceTokenizer

_POSITIONS = "bert/embeddings/position_embeddings"


@dataclass(frozen=True)
class Start:
    """The model before the first step.

    Attributes:
        weights: float32 arrays by the names of the parameter table.
        from_scratch: the weights are random.
        notes: what was done to what `init` holds, for people; each a line.
    """

    config: BertConfig
    weights: Mapping[str, np.ndarray]
    from_scratch: bool
    notes: tuple[str, ...]


def read_start(
    settings: Pretrain,
    phase: str,
    init: Path,
    vocab: Path,
    tokenizer: WordPieceTokenizer,
    length: int,
) -> Start:
    """Makes or reads the model that a phase starts from.

    Args:
        settings: of the phase.
        phase: its name in params.yaml, for errors.
        init: the vocabulary's folder: from scratch, with the sizes of params.yaml; a config file:
            from scratch, with its sizes but as many rows as the vocabulary has; the folder of a
            model in any format of `lib.checkpoints.formats`: that model, with rows for new words
            and new positions where they are needed, and new heads where they may be missing.
        vocab: the vocabulary's folder.
        tokenizer: that of `vocab`.
        length: tokens of the phase's rows.

    Raises:
        UserError: there is nothing at `init`, what is there is damaged or has another vocabulary,
            or a fresh model has fewer positions than the phase's rows.
    """
    rows = len(tokenizer.vocabulary)
    notes: tuple[str, ...] = ()
    if init.resolve() == vocab.resolve():
        config = of_params(settings.model, rows)
        key = "pretrain.model.max_position_embeddings"
    elif init.is_file() and init.suffix != ".json":
        raise UserError(
            f"phases.{phase}.init: {init} is a file, but no config file (.json); name the folder "
            "of a model"
        )
    elif init.is_file():
        config, notes = _of_file(init, rows)
        key = f"max_position_embeddings in {init}"
    elif init.is_dir():
        return _of_model(settings, init, vocab, tokenizer, length)
    else:
        raise UserError(
            f"phases.{phase}.init: {init} is not there; name {vocab} (from scratch), the config "
            "file of a BERT (from scratch with its sizes), or the folder of a model"
        )
    if length > config.max_position_embeddings:
        raise UserError(
            f"phases.{phase}.max_seq_length: {length} is more than the "
            f"{config.max_position_embeddings} positions of the model; shorten it or raise {key}"
        )
    return Start(config, initial_values(config, settings.seed), True, notes)


def of_params(sizes: Model, rows: int) -> BertConfig:
    return BertConfig(
        vocab_size=rows,
        hidden_size=sizes.hidden_size,
        num_hidden_layers=sizes.num_hidden_layers,
        num_attention_heads=sizes.num_attention_heads,
        intermediate_size=sizes.intermediate_size,
        hidden_act=sizes.hidden_act,
        hidden_dropout_prob=sizes.hidden_dropout_prob,
        attention_probs_dropout_prob=sizes.attention_probs_dropout_prob,
        max_position_embeddings=sizes.max_position_embeddings,
    )


def _of_file(path: Path, rows: int) -> tuple[BertConfig, tuple[str, ...]]:
    config = read_config(path)
    notes = [f"from scratch with the sizes in {path}; those of pretrain.model do not count"]
    if config.vocab_size != rows:
        notes.append(
            f"the model gets the {rows:,} rows of the vocabulary, not the vocab_size "
            f"{config.vocab_size:,} in {path}"
        )
    return replace(config, vocab_size=rows), tuple(notes)


def _of_model(
    settings: Pretrain, init: Path, vocab: Path, tokenizer: WordPieceTokenizer, length: int
) -> Start:
    found = read_checkpoint(init, settings.init_missing_heads)
    config = found.config
    notes = [f"starts from {init} ({detect_format(init)})", *compatibility_notes(init)]
    if found.unused_tensors:
        notes.append(f"{init}: {some_names(found.unused_tensors)}: no part of a BERT, left out")
    if found.missing_heads:
        notes.append(f"{init} has no {' and no '.join(found.missing_heads)}: they begin at random")
    fresh = initial_values(config, settings.seed, without=found.weights)
    weights: Mapping[str, np.ndarray] = {**found.weights, **fresh}
    files = read_directory(init) if has_vocabulary(init) else None
    extension = new_rows(config.vocab_size, files, tokenizer, read_extension(vocab), init)
    if extension:
        config, weights = with_new_rows(config, weights, extension, len(tokenizer.vocabulary))
        if extension.new_tokens:
            notes.append(
                f"{len(extension.new_tokens):,} new words begin as the mean of their pieces"
            )
    unused = config.vocab_size - len(tokenizer.vocabulary)
    if unused:
        notes.append(f"{unused} rows of the model are beyond the vocabulary; they stay")
    positions = config.max_position_embeddings
    if length > positions:
        config, weights = stretched(config, weights, length)
        notes.append(
            f"{init} has {positions} positions; those up to {length} begin as copies of them, "
            "from the first one on"
        )
    return Start(config, weights, False, tuple(notes))


def stretched(
    config: BertConfig, weights: Mapping[str, np.ndarray], length: int
) -> tuple[BertConfig, Mapping[str, np.ndarray]]:
    """The model with a position embedding for each of `length` tokens, if it has fewer.

    Those that it has stay; the new ones are copies of them from the beginning, again and again:
    what it learnt of neighbours holds everywhere but at the seams (Beltagy et al., 2020,
    Longformer, section 5).

    Args:
        weights: float32 arrays by the names of the parameter table.

    Returns:
        The very objects that were given, if there are positions enough.
    """
    learnt = weights[_POSITIONS]
    if length <= len(learnt):
        return config, weights
    copies = np.resize(learnt, (length, learnt.shape[1]))
    return replace(config, max_position_embeddings=length), {**weights, _POSITIONS: copies}
