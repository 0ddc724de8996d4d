"""A model to start from, brought to the vocabulary that training uses."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.model.config import BertConfig
from lib.run.errors import UserError
from lib.vocab.directory import TokenizerFiles
from lib.vocab.extension import Extension, digest
from lib.vocab.tokenizer import WordPieceTokenizer

# Filled up to a multiple of 128 at most.
_MOST_SPARE_ROWS = 128
_EMBEDDINGS, _BIAS = "bert/embeddings/word_embeddings", "cls/predictions/output_bias"


def new_rows(
    rows: int,
    files: TokenizerFiles | None,
    tokenizer: WordPieceTokenizer,
    extension: Extension,
    init: Path,
) -> Extension | None:
    """The extension if a model to start from has the vocabulary that it was made from.

    None: it has the vocabulary of `tokenizer` itself.

    Args:
        rows: of the model's word embeddings.
        files: the model's own tokenizer, None if its directory has none (then `rows` must do).

    Raises:
        UserError: it has another vocabulary, or other switches.
    """
    advice = f"start from data/vocab, or set vocab.source: model and vocab.base: {init}"
    if files is None:
        if _has_rows_for(rows, extension.base_size):
            return extension
        if not _has_rows_for(rows, len(tokenizer.vocabulary)):
            raise UserError(
                f"{init}: has {rows} vocabulary rows, data/vocab has "
                f"{len(tokenizer.vocabulary)}; {advice}"
            )
        return None
    if conflict := files.conflict(tokenizer.lowercase, tokenizer.strip_accents):
        name, given, stated = conflict
        raise UserError(
            f"vocab.{name}: {given}, but the tokenizer of {files.path.parent} has {stated}; "
            f"set {stated}"
        )
    if not _has_rows_for(rows, len(files.vocabulary)):
        raise UserError(
            f"{init}: the model has {rows} vocabulary rows, its {files.path.name} "
            f"{len(files.vocabulary)}; give the model the vocabulary that it was trained with"
        )
    if files.vocabulary == tokenizer.vocabulary:
        return None
    if digest(files.vocabulary) == extension.base_digest:
        return extension
    pairs = enumerate(zip(files.vocabulary, tokenizer.vocabulary, strict=False))
    first = next((number for number, (theirs, own) in pairs if theirs != own), None)
    if first is None:
        difference = f"{len(files.vocabulary)} pieces, not {len(tokenizer.vocabulary)}"
    else:
        difference = (
            f"piece {first} is {files.vocabulary[first]!r}, not {tokenizer.vocabulary[first]!r}"
        )
    raise UserError(f"{files.path}: another vocabulary than data/vocab's ({difference}); {advice}")


def _has_rows_for(rows: int, pieces: int) -> bool:
    """Whether a model of so many rows has this vocabulary: one row a piece, or some to spare.

    NVIDIA's BERT among others has its rows filled up to a multiple of 8, for its tensor cores.
    """
    return rows == pieces or (rows % 8 == 0 and 0 < rows - pieces < _MOST_SPARE_ROWS)


def with_new_rows(
    config: BertConfig, weights: Mapping[str, np.ndarray], extension: Extension, rows: int
) -> tuple[BertConfig, dict[str, np.ndarray]]:
    """The model with a row for each new word, all others as they are.

    Its embedding begins as the mean of those of the pieces it consisted of. So does its output
    bias, plus the word's `log_fraction`: without it each word would be as probable as its pieces are
    with all their other words, and a thousand of them would take several per cent off every
    prediction. (On general text the loss grew by 3.4 %, with it by 0.1 %.)

    Args:
        weights: float32 arrays by the names of the parameter table.
        rows: of the extended vocabulary.
    """
    extended = dict(weights)
    for name in (_EMBEDDINGS, _BIAS):
        old = weights[name]
        # The old table may have rows to spare, which new words take first.
        new = np.zeros((max(rows, len(old)), *old.shape[1:]), old.dtype)
        new[: len(old)] = old
        for token in extension.new_tokens:
            new[token.id] = old[list(token.base_ids)].mean(axis=0)
            if name == _BIAS:
                new[token.id] += token.log_fraction
        extended[name] = new
    return replace(config, vocab_size=len(extended[_BIAS])), extended
