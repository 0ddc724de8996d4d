"""A vocabulary that is there already: of a file or of a model."""

from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.characters import BasicTokenizer
from lib.vocab.directory import read_directory, read_vocabulary
from lib.vocab.tokenizer import WordPieceTokenizer


def existing_tokenizer(source: str, base: Path, basic: BasicTokenizer) -> WordPieceTokenizer:
    """The tokenizer of a vocab.txt (source `file`) or of a model's folder.

    Raises:
        UserError: the vocabulary is missing, lacks a special token, or its model has other switches
            than `basic`.
    """
    if source == "file":
        path, vocabulary = base, read_vocabulary(base)
    else:
        files = read_directory(base)
        path, vocabulary = files.path, files.vocabulary
        if other := files.other_switch(basic.lowercase, basic.strip_accents):
            key, own, theirs = other
            raise UserError(
                f"vocab.{key}: {own}, but the tokenizer of {base} has {theirs}; set it to that"
            )
    try:
        return WordPieceTokenizer(vocabulary, basic.lowercase, basic.strip_accents)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
