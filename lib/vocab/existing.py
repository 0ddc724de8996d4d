"""Existing vocabularies: from a vocab.txt or from a model directory."""

from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer
from lib.vocab.directory import read_directory, read_vocabulary
from lib.vocab.tokenizer import WordPieceTokenizer


def existing_tokenizer(source: str, base: Path, basic: BasicTokenizer) -> WordPieceTokenizer:
    """The tokenizer of a vocab.txt (source `file`) or of a model directory (other sources).

    Raises:
        UserError: the vocabulary is missing or lacks a special token, or the model's settings
            differ from those of `basic`.
    """
    if source == "file":
        path, vocabulary = base, read_vocabulary(base)
    else:
        files = read_directory(base)
        path, vocabulary = files.path, files.vocabulary
        if conflict := files.conflict(basic.lowercase, basic.strip_accents):
            name, given, stated = conflict
            raise UserError(
                f"vocab.{name}: {given}, but the tokenizer of {base} has {stated}; set {stated}"
            )
    try:
        return WordPieceTokenizer(vocabulary, basic.lowercase, basic.strip_accents)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
