"""A model from one format to another, with its tokenizer."""

import json
from pathlib import Path

import numpy as np

from lib.checkpoints import google, huggingface
from lib.checkpoints.formats import compatibility_notes, detect_format, read_checkpoint
from lib.checkpoints.tensors import Checkpoint, some_names
from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.vocab.directory import (
    CONFIG,
    VOCABULARY,
    TokenizerFiles,
    has_vocabulary,
    read_directory,
)
from lib.vocab.export import write_tokenizer
from lib.vocab.tokenizer import WordPieceTokenizer

HUGGING_FACE, GOOGLE = "huggingface", "google"
# Of heads that begin at random.
SEED = 1


def convert_model(
    source: Path,
    target: Path,
    to: str,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    init_missing_heads: bool = False,
    without_tokenizer: bool = False,
) -> list[str]:
    """Writes a model in another format; the target is whole or not there at all.

    What was written is read again, and each tensor compared bit for bit.

    Args:
        source: see `lib.checkpoints.formats.detect_format`.
        target: a folder that is empty or not there.
        to: "huggingface" or "google".
        lowercase, strip_accents: what the tokenizer does, where its files do not say;
            `strip_accents` is as `lowercase` if it is not given.
        init_missing_heads: let heads that are missing begin at random.
        without_tokenizer: the weights and their config alone.

    Returns:
        What is worth knowing, for people; each a line.

    Raises:
        UserError: the target is in use, the source is no BERT for pretraining, or has no
            vocabulary, or does not say what its tokenizer does.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is in use; name a folder that is empty or not there yet")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target}: is inside {source}; name a folder elsewhere")
    notes = [f"{source}: {detect_format(source)}", *compatibility_notes(source)]
    checkpoint = read_checkpoint(source, allow_missing_heads=True)
    config, weights = checkpoint.config, _complete(source, checkpoint, init_missing_heads, notes)
    files = None
    if not without_tokenizer:
        files = _tokenizer(source, config.vocab_size, lowercase, strip_accents, notes)
    with new_directory(target, replace=False) as folder:
        if to == GOOGLE:
            _write_google(folder, config, weights, files, notes)
        else:
            _write_hugging_face(folder, config, weights, files)
        _check(folder, target, config, weights)
    return notes


def _complete(
    source: Path, checkpoint: Checkpoint, init_missing_heads: bool, notes: list[str]
) -> dict[str, np.ndarray]:
    """The weights, with random ones for heads that are missing if that is asked for."""
    missing, unused_tensors = checkpoint.missing_heads, checkpoint.unused_tensors
    extra = some_names(unused_tensors)
    beside = f"; it has {extra}" if extra else ""
    if missing and not init_missing_heads:
        raise UserError(
            f"{source}: has no {' and no '.join(missing)}{beside}; give --init-missing-heads to "
            "let what is missing begin at random"
        )
    if unused_tensors and not init_missing_heads:
        raise UserError(
            f"{source}: {extra}: no part of a BERT with "
            f"{checkpoint.config.num_hidden_layers} layers; does its config belong to it?"
        )
    if unused_tensors:
        notes.append(f"no part of a BERT for pretraining, left out: {extra}")
    if not missing:
        return checkpoint.weights
    notes.append(f"begin at random (seed {SEED}): {', '.join(missing)}")
    fresh = initial_values(checkpoint.config, SEED, without=checkpoint.weights)
    return {**checkpoint.weights, **fresh}


def _tokenizer(
    source: Path,
    rows: int,
    lowercase: bool | None,
    strip_accents: bool | None,
    notes: list[str],
) -> TokenizerFiles:
    """The source's vocabulary and switches, those that it does not state as they are given."""
    folder = source if source.is_dir() else source.parent
    if not has_vocabulary(folder):
        raise UserError(
            f"{folder}: no {VOCABULARY}; put there the vocabulary that the model was trained with, "
            "or give --without-tokenizer"
        )
    files = read_directory(folder)
    if strip_accents is None and files.strip_accents is None:
        strip_accents = lowercase
    for option, given, stated in (
        ("--lowercase", lowercase, files.lowercase),
        ("--strip-accents", strip_accents, files.strip_accents),
    ):
        if given is not None and stated is not None and given != stated:
            raise UserError(
                f"{option} {_word(given)}: {folder} states {_word(stated)}; leave it out"
            )
    pieces = len(files.vocabulary)
    if pieces > rows:
        raise UserError(
            f"{files.path}: {pieces} pieces, but the model has {rows} rows; put there the "
            "vocabulary that it was trained with"
        )
    if pieces < rows:
        notes.append(f"{rows - pieces} rows beyond the {pieces} pieces of the vocabulary are kept")
    return TokenizerFiles(
        files.path,
        files.vocabulary,
        lowercase if files.lowercase is None else files.lowercase,
        strip_accents if files.strip_accents is None else files.strip_accents,
    )


def _write_google(
    folder: Path,
    config: BertConfig,
    weights: dict[str, np.ndarray],
    files: TokenizerFiles | None,
    notes: list[str],
) -> None:
    google.write_model(folder, config, weights)
    notes += google.differences(config)
    if files is None:
        return
    write_text(folder / VOCABULARY, "".join(f"{piece}\n" for piece in files.vocabulary))
    if files.lowercase is not None:
        # Google's code passes it over; whoever reads the folder later need not guess.
        switches = {"do_lower_case": files.lowercase, "strip_accents": files.strip_accents}
        text = json.dumps({"tokenizer_class": "BertTokenizer", **switches}, indent=2)
        write_text(folder / CONFIG, text + "\n")
        notes.append(
            f"Google's code does not read whether the tokenizer lower-cases: give its scripts "
            f"--do_lower_case={files.lowercase}"
        )
    if files.strip_accents != files.lowercase:
        notes.append(
            "Google's tokenizer strips accents exactly when it lower-cases, this model's "
            f"{'strips' if files.strip_accents else 'keeps'} them: their ids differ"
        )


def _write_hugging_face(
    folder: Path,
    config: BertConfig,
    weights: dict[str, np.ndarray],
    files: TokenizerFiles | None,
) -> None:
    padding = 0
    if files is not None:
        if files.lowercase is None or files.strip_accents is None:
            raise UserError(
                f"{files.path.parent}: no {CONFIG}, so nothing says whether the tokenizer "
                "lower-cases; give --lowercase yes (uncased models) or --lowercase no"
            )
        try:
            tokenizer = WordPieceTokenizer(files.vocabulary, files.lowercase, files.strip_accents)
        except UserError as error:
            raise UserError(f"{files.path}: {error}") from None
        padding = tokenizer.pad_id
        write_tokenizer(
            folder,
            files.vocabulary,
            files.lowercase,
            files.strip_accents,
            config.max_position_embeddings,
        )
    huggingface.write_model(folder, config, weights, {"pad_token_id": padding})


def _check(folder: Path, target: Path, config: BertConfig, weights: dict[str, np.ndarray]) -> None:
    """Reads what was written, and compares."""
    written = read_checkpoint(folder)
    different = [name for name, array in weights.items() if not _same(array, written.weights[name])]
    if written.config != config or different:
        raise UserError(
            f"{target}: reading it gave something else ({', '.join(different[:3]) or 'the config'})"
            "; is the disk sound? Run the same command again"
        )


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    """Bit for bit: NaN equals itself, 0 is not -0."""
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def _word(switch: bool) -> str:
    return "yes" if switch else "no"
