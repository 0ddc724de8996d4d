"""Tokenizers from the files of a vocabulary or model directory."""

from pathlib import Path

from lib.run.errors import UserError
from lib.vocab.directory import TokenizerFiles, read_directory
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.names import CONFIG
from lib.vocab.tokenizer import Tokenizer
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer


def load_tokenizer(directory: Path) -> Tokenizer:
    """Reads the tokenizer of a directory written by this project or by transformers.

    Raises:
        UserError: the vocabulary or the settings are missing or damaged, a special token is
            missing, or the settings need a feature that the tokenizer does not have.
    """
    files = read_directory(directory)
    if files.lowercase is None or files.strip_accents is None:
        raise UserError(
            f"{directory / CONFIG}: missing; without it nothing states whether the tokenizer "
            "lower-cases; copy it from the original model"
        )
    return make_tokenizer(files, files.lowercase, files.strip_accents)


def make_tokenizer(files: TokenizerFiles, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """The tokenizer of a model's files; an error names the file of the vocabulary."""
    if files.library:
        return LibraryTokenizer(files.library, files.vocabulary)
    try:
        return WordPieceTokenizer(
            files.vocabulary, lowercase, strip_accents, zero_width=files.zero_width
        )
    except UserError as error:
        raise UserError(f"{files.path}: {error}") from None
