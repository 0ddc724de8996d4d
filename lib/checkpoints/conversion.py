"""Conversion of a model and its tokenizer from one checkpoint format to another.

Input is any format of `lib.checkpoints.formats`; output is a Hugging Face directory or a Google TF1
checkpoint. Tensors are renamed, transposed or reshaped (see `lib.checkpoints.tensors`), which keeps
every bit of float32 weights; float16 and bfloat16 become float32. What was written is read again
and compared bit for bit.

    uncased_L-12_H-768_A-12/                converted/
      bert_config.json      gelu              config.json              gelu_new, the same function
      bert_model.ckpt.*                 ->    model.safetensors
      vocab.txt                               vocab.txt, tokenizer.json
      (--lowercase yes)                       tokenizer_config.json    do_lower_case: true
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.checkpoints import google, huggingface
from lib.checkpoints.formats import (
    compatibility_notes,
    detect_format,
    open_checkpoint,
    read_checkpoint,
)
from lib.checkpoints.tensors import Checkpoint, some_names
from lib.model.bert_config import BertConfig
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.run.atomic import new_directory, write_text
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.vocab.directory import TokenizerFiles, has_vocabulary, read_directory
from lib.vocab.loading import make_tokenizer
from lib.vocab.names import CONFIG, VOCABULARY

HUGGING_FACE, GOOGLE = "huggingface", "google"
_SPECIAL_IDS = [f"{name}_token_id" for name in ("pad", "cls", "bos", "sep", "eos")]
# Seed of randomly initialised heads.
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
    """Writes a model in another format; the target is written completely or not at all.

    Args:
        source: see `lib.checkpoints.formats.detect_format`.
        target: a folder that is empty or does not exist yet.
        to: "huggingface" or "google".
        lowercase, strip_accents: the tokenizer's options, where its files do not state them;
            `strip_accents` defaults to `lowercase`.
        init_missing_heads: initialise missing heads randomly.
        without_tokenizer: convert the weights and their config only.

    Returns:
        Notes for the user, one line each.

    Raises:
        UserError: the target is in use; the source is not a model for pretraining, has no
            vocabulary, or does not state its tokenizer's options; the format is not one of its
            architecture.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: already exists; name a new or an empty folder")
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target}: is inside {source}; name a folder elsewhere")
    notes = [f"{source}: {detect_format(source)}", *compatibility_notes(source)]
    opened = open_checkpoint(source, allow_missing_heads=True)
    config = opened.config
    if to == GOOGLE and not isinstance(config, BertConfig):
        raise UserError(
            f"{source}: a {config.title}, which Google's code does not have; convert it to "
            f"{HUGGING_FACE}"
        )
    checkpoint = opened.load()
    weights = _all_weights(source, checkpoint, init_missing_heads, notes)
    files = None
    if not without_tokenizer:
        files = _tokenizer_files(source, config.vocab_size, lowercase, strip_accents, notes)
    with new_directory(target, replace=False) as folder:
        if isinstance(config, BertConfig) and to == GOOGLE:
            _write_google(folder, config, weights, files, notes)
        else:
            _write_hugging_face(folder, config, weights, files, _special_ids(source))
        _check_written(folder, target, config, weights)
    return notes


def _all_weights(
    source: Path, checkpoint: Checkpoint, init_missing_heads: bool, notes: list[str]
) -> dict[str, np.ndarray]:
    """The checkpoint's weights, with randomly initialised heads for missing ones if allowed."""
    missing_heads, unused = checkpoint.missing_heads, some_names(checkpoint.unused_tensors)
    if missing_heads and not init_missing_heads:
        also = f"; unexpected tensors: {unused}" if unused else ""
        raise UserError(
            f"{source}: no {' and no '.join(missing_heads)}{also}; give --init-missing-heads to "
            "initialise missing heads randomly"
        )
    if unused and not init_missing_heads:
        raise UserError(
            f"{source}: tensors ({unused}) that are not part of a {checkpoint.config.title} with "
            f"{checkpoint.config.num_hidden_layers} layers; use the config that belongs to these "
            "weights"
        )
    if unused:
        notes.append(f"ignored, not part of a {checkpoint.config.title} for pretraining: {unused}")
    if not missing_heads:
        return checkpoint.weights
    notes.append(f"initialised randomly (seed {SEED}): {', '.join(missing_heads)}")
    heads = initial_values(checkpoint.config, SEED, without=checkpoint.weights)
    return {**checkpoint.weights, **heads}


def _tokenizer_files(
    source: Path,
    vocab_size: int,
    lowercase: bool | None,
    strip_accents: bool | None,
    notes: list[str],
) -> TokenizerFiles:
    """The source's vocabulary and tokenizer options; options it does not state are as given."""
    folder = source if source.is_dir() else source.parent
    if not has_vocabulary(folder):
        raise UserError(
            f"{folder}: no {VOCABULARY}; put the vocabulary that the model was trained with there, "
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
                f"{option} {_yes_no(given)}: {folder} states {_yes_no(stated)}; omit the option"
            )
    entries = len(files.vocabulary)
    if entries > vocab_size:
        raise UserError(
            f"{files.path}: {entries} entries, but the model has {vocab_size} word embeddings; put "
            "the vocabulary that it was trained with there"
        )
    if entries < vocab_size:
        notes.append(
            f"kept {vocab_size - entries} word embeddings beyond the {entries} entries of the "
            "vocabulary"
        )
    return replace(
        files,
        lowercase=lowercase if files.lowercase is None else files.lowercase,
        strip_accents=strip_accents if files.strip_accents is None else files.strip_accents,
    )


def _write_google(
    folder: Path,
    config: BertConfig,
    weights: dict[str, np.ndarray],
    files: TokenizerFiles | None,
    notes: list[str],
) -> None:
    google.write_model(folder, config, weights)
    notes += google.compatibility_notes(config)
    if files is None:
        return
    if files.library:
        raise UserError(
            f"{files.path}: not BERT's WordPiece, which is all that Google's code has; convert the "
            f"model to {HUGGING_FACE}, or give --without-tokenizer"
        )
    write_text(folder / VOCABULARY, "".join(f"{token}\n" for token in files.vocabulary))
    if files.lowercase is not None:
        # Google's code ignores this file. It spares later readers a guess.
        options = {"do_lower_case": files.lowercase, "strip_accents": files.strip_accents}
        text = json.dumps({"tokenizer_class": "BertTokenizer", **options}, indent=2)
        write_text(folder / CONFIG, text + "\n")
        notes.append(
            "Google's code reads the tokenizer's case from the command line only: give its scripts "
            f"--do_lower_case={files.lowercase}"
        )
    if files.zero_width:
        notes.append(
            "Google's tokenizer deletes zero-width spaces and non-joiners, which are tokens of "
            "this model"
        )
    if files.strip_accents != files.lowercase:
        notes.append(
            "Google's tokenizer strips accents if and only if it lower-cases, this model's "
            f"{'strips' if files.strip_accents else 'keeps'} them: their token ids differ"
        )


def _write_hugging_face(
    folder: Path,
    config: EncoderConfig,
    weights: dict[str, np.ndarray],
    files: TokenizerFiles | None,
    special_ids: dict[str, int],
) -> None:
    if files is not None:
        if files.lowercase is None or files.strip_accents is None:
            raise UserError(
                f"{files.path.parent}: no {CONFIG}, so it is unknown whether the tokenizer "
                "lower-cases; give --lowercase yes (uncased models) or --lowercase no"
            )
        tokenizer = make_tokenizer(files, files.lowercase, files.strip_accents)
        special_ids = config.special_ids(tokenizer.pad_id, tokenizer.cls_id, tokenizer.sep_id)
        tokenizer.write(
            folder, config.max_position_embeddings, config.has_next_sentence, listing=False
        )
    huggingface.write_model(folder, config, weights, special_ids)


def _special_ids(source: Path) -> dict[str, int]:
    """Ids of special tokens as the source's config states them, for models without a vocabulary."""
    path = huggingface.config_path(source) if source.is_dir() else None
    values = read_object(path) if path else {}
    stated = {key: values[key] for key in _SPECIAL_IDS if type(values.get(key)) is int}
    return {"pad_token_id": 0, **stated}


def _check_written(
    folder: Path, target: Path, config: EncoderConfig, weights: dict[str, np.ndarray]
) -> None:
    """Reads the written model and compares it with the source.

    Raises:
        UserError: they differ.
    """
    written = read_checkpoint(folder)
    different = [
        name for name, array in weights.items() if not _same_bits(array, written.weights[name])
    ]
    if written.config != config or different:
        raise UserError(
            f"{target}: the written model differs from its source "
            f"({', '.join(different[:3]) or 'config'}); check the disk and run the same command "
            "again"
        )


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Bitwise equality: NaN equals itself, 0 does not equal -0."""
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def _yes_no(option: bool) -> str:
    return "yes" if option else "no"
