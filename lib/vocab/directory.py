"""Reader for the vocabulary and tokenizer settings of a model directory.

Google's checkpoints have only `vocab.txt`; transformers up to version 4 writes `vocab.txt`,
`tokenizer_config.json` and `tokenizer.json`; transformers 5 writes only the last two.

    vocab.txt                   a token per line
    tokenizer.json              the vocabulary, the settings, added tokens
    tokenizer_config.json       the settings, the class, special and added tokens
    added_tokens.json           token -> id
    special_tokens_map.json     names of the special tokens
    config.json                 `tokenizer_class` (older models)

For BERT's WordPiece, every key that changes the ids of some text is either honoured or refused
(`lib.vocab.settings`). Added tokens are honoured if they are words: they become entries of the
vocabulary, with their ids. Of other tokenizers, tokenizer.json says all
(`lib.vocab.library_files`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.lfs import refuse_lfs_pointer
from lib.vocab.characters import BasicTokenizer
from lib.vocab.library_files import (
    LibraryFiles,
    backend,
    changes_letters,
    needs_library,
    read_library_files,
    vocabulary_listing,
)
from lib.vocab.names import ADDED, CONFIG, MODEL_CONFIG, SPECIAL, TOKENIZER, VOCABULARY
from lib.vocab.settings import (
    SPECIAL_TOKENS,
    ZERO_WIDTH,
    added_tokens,
    check_class,
    check_special_tokens,
    never_split,
    parse_tokenizer,
    stated_settings,
)

# Files of tokenizers that are not WordPiece.
_OTHER_TOKENIZERS = (
    "merges.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_MAX_BYTES = 1 << 28
# An id this far beyond the number of tokens is a damaged number, not a gap.
_MAX_GAP = 100_000


@dataclass(frozen=True)
class TokenizerFiles:
    """The vocabulary and tokenizer settings of a model directory.

    Attributes:
        path: the file that the vocabulary was read from.
        vocabulary: one token per id.
        lowercase, strip_accents: None if no file states them.
        added: tokens that were added to the tokenizer's own vocabulary.
        zero_width: added tokens that are zero-width characters, which other BERTs delete.
        library: the tokenizer, if it is not BERT's WordPiece.
    """

    path: Path
    vocabulary: list[str]
    lowercase: bool | None
    strip_accents: bool | None
    added: tuple[str, ...] = ()
    zero_width: tuple[str, ...] = ()
    library: LibraryFiles | None = None

    def conflict(self, lowercase: bool, strip_accents: bool) -> tuple[str, str, str] | None:
        """The first setting that differs: its name, the given value, the directory's value."""
        for name, given, stated in (
            ("lowercase", lowercase, self.lowercase),
            ("strip_accents", strip_accents, self.strip_accents),
        ):
            if stated is not None and given != stated:
                return name, str(given).lower(), str(stated).lower()
        return None


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a vocab.txt, one per line, without white space around them.

    Raises:
        UserError: it is missing, not UTF-8 or empty.
    """
    lines = [line.strip(" \t\r") for line in _read(path).removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path}: empty; it should have one token per line")
    return lines


def has_vocabulary(directory: Path) -> bool:
    """Whether a model directory contains a vocabulary."""
    return (directory / VOCABULARY).exists() or (directory / TOKENIZER).exists()


def read_directory(directory: Path) -> TokenizerFiles:
    """Reads vocab.txt or tokenizer.json, and the tokenizer's settings.

    Raises:
        UserError: there is no vocabulary, a file is damaged, files contradict each other, or the
            tokenizer gives other ids than BERT's.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; name one with {VOCABULARY} or {TOKENIZER}")
    files = {
        name: read_object(directory / name)
        for name in (TOKENIZER, CONFIG, ADDED, SPECIAL, MODEL_CONFIG)
        if (directory / name).exists()
    }
    if TOKENIZER in files and needs_library(directory / TOKENIZER, files[TOKENIZER]):
        return _read_other(directory, files)
    for name in (CONFIG, MODEL_CONFIG):
        check_class(directory / name, files.get(name, {}), TOKENIZER in files)
    path = directory / VOCABULARY
    vocabulary: list[str] = []
    settings: dict[str, bool] = {}
    if path.exists():
        vocabulary = read_vocabulary(path)
    if TOKENIZER in files:
        ids, settings = parse_tokenizer(directory / TOKENIZER, files[TOKENIZER])
        vocabulary = _merge(vocabulary, ids, directory / TOKENIZER, path)
        path = path if path.exists() else directory / TOKENIZER
    if not vocabulary:
        other = next((name for name in _OTHER_TOKENIZERS if (directory / name).exists()), None)
        if other:
            raise UserError(
                f"{directory}: its tokenizer ({other}) needs a {TOKENIZER}; load the tokenizer "
                "with transformers (AutoTokenizer) and save it there (save_pretrained)"
            )
        raise UserError(
            f"{path}: missing, and so is {TOKENIZER}; add the vocabulary that the model was "
            "trained with"
        )
    if CONFIG in files:
        stated = stated_settings(directory / CONFIG, files[CONFIG])
        for key in settings.keys() & stated.keys():
            if settings[key] != stated[key]:
                raise UserError(
                    f"{directory / CONFIG}: {key} is {str(stated[key]).lower()}, but in "
                    f"{TOKENIZER} it is {str(settings[key]).lower()}; make them agree"
                )
        # Google's BERT lower-cases by default, and strips accents exactly when it lower-cases.
        lowercase = stated.get("do_lower_case", True)
        settings = {"do_lower_case": lowercase, "strip_accents": lowercase} | stated | settings
    found = TokenizerFiles(
        path, vocabulary, settings.get("do_lower_case"), settings.get("strip_accents")
    )
    return _with_added_tokens(found, directory, files)


def _read_other(directory: Path, files: Mapping[str, Mapping[str, Any]]) -> TokenizerFiles:
    """The tokenizer of a tokenizer.json that is not BERT's WordPiece."""
    library, vocabulary = read_library_files(directory, files)
    return TokenizerFiles(
        directory / TOKENIZER,
        vocabulary,
        *changes_letters(backend(library.content)),
        library=library,
    )


def refuse_disagreement(directory: Path) -> None:
    """Refuses a vocabulary of this pipeline whose vocab.txt is not that of its tokenizer.json.

    (In other models' folders tokenizer.json may have tokens that were added, see `read_directory`.)

    Raises:
        UserError: a token or its id is in only one of the two.
    """
    path, tokenizer = directory / VOCABULARY, directory / TOKENIZER
    if not (path.exists() and tokenizer.exists()):
        return
    content = read_object(tokenizer)
    if needs_library(tokenizer, content):
        if _read(path) != vocabulary_listing(read_directory(directory).vocabulary):
            raise UserError(
                f"{path}: does not list the tokens of {TOKENIZER}; write both files from one "
                "vocabulary: dvc repro -f -s vocab"
            )
        return
    vocabulary = read_vocabulary(path)
    ids, _ = parse_tokenizer(tokenizer, content)
    by_id = {number: token for token, number in ids.items()}
    for number in range(max(len(vocabulary), max(by_id) + 1)):
        listed = vocabulary[number] if number < len(vocabulary) else None
        # Of equal lines of vocab.txt the last one counts.
        known = by_id.get(number, listed if listed in ids else None)
        if known is None or listed is None or known.strip(" \t\r") != listed:
            shown = [
                "missing" if token is None else f"{token!r:.60}"
                for token in (listed, by_id.get(number))
            ]
            raise UserError(
                f"{path}: token {number} is {shown[0]}, but in {TOKENIZER} it is {shown[1]}; write "
                "both files from one vocabulary: dvc repro -f -s vocab"
            )


def _merge(vocabulary: list[str], ids: Mapping[str, int], tokenizer: Path, path: Path) -> list[str]:
    """The vocabulary of tokenizer.json, which must agree with vocab.txt, if that is there."""
    size = max(ids.values(), default=-1) + 1
    if size > len(ids) + len(vocabulary) + _MAX_GAP:
        token = max(ids, key=ids.__getitem__)
        raise UserError(
            f"{tokenizer}: {token!r:.60} has the id {ids[token]:,}, but there are only "
            f"{len(ids):,} tokens; download the file again"
        )
    # Ids without a token keep a placeholder, so that all other tokens keep their ids.
    merged = [*vocabulary, *(f"[unused-id-{n}]" for n in range(len(vocabulary), size))]
    for token, number in ids.items():
        if number >= len(vocabulary):
            # A token that a line of vocab.txt cannot hold never matches a word either.
            if token.strip(" \t\r") == token and "\n" not in token:
                merged[number] = token
        elif merged[number] != token.strip(" \t\r"):
            raise UserError(
                f"{path}: token {number} is {vocabulary[number]!r}, but in {TOKENIZER} it is "
                f"{token!r}; remove the file that does not belong to the model"
            )
    return merged


def _with_added_tokens(
    files: TokenizerFiles, directory: Path, contents: Mapping[str, Mapping[str, Any]]
) -> TokenizerFiles:
    """The files with the tokens that were added to the vocabulary, after a check of all names."""
    for name in (CONFIG, SPECIAL):
        check_special_tokens(directory / name, contents.get(name, {}))
    # A word that the tokenizer leaves as it is anyway may be there.
    for word in never_split(directory / CONFIG, contents.get(CONFIG, {})):
        if not _is_word(word, files):
            raise UserError(
                f"{directory / CONFIG}: never_split ({word!r:.60}) is not supported, such words "
                "would get other ids; use another model, or remove them from the key if your text "
                "has none of them"
            )
    vocabulary = list(files.vocabulary)
    # As in BERT's code, the last of equal tokens counts.
    ids = {token: number for number, token in enumerate(vocabulary)}
    added = []
    zero_width = set()
    for name in (ADDED, TOKENIZER, CONFIG, SPECIAL):
        path = directory / name
        for token, number in added_tokens(path, name == ADDED, contents.get(name, {})).items():
            if token in SPECIAL_TOKENS and (number is None or ids.get(token) == number):
                continue
            if token in ZERO_WIDTH:
                zero_width.add(token)
            elif token not in SPECIAL_TOKENS and not _is_word(token, files):
                raise UserError(
                    f"{path}: the added token {token!r:.60} is not a word for BERT's tokenizer "
                    "(one word without white space or punctuation, in the tokenizer's case), so "
                    "it cannot be honoured; remove it from the file, which leaves its embedding "
                    "unused"
                )
            if number is None:
                number = ids.get(token)
                if number is None:
                    raise UserError(
                        f"{path}: {token!r:.60} is a special token without an id; add it to "
                        f"{ADDED} with its id, or remove it"
                    )
            if ids.setdefault(token, number) != number:
                raise UserError(
                    f"{path}: {token!r:.60} has the id {number}, but in {files.path.name} it has "
                    f"the id {ids[token]}; use the files that the model was trained with"
                )
            if number > len(vocabulary) + _MAX_GAP:
                raise UserError(
                    f"{path}: {token!r:.60} has the id {number:,}, but there are only "
                    f"{len(vocabulary):,} tokens; download the file again"
                )
            while len(vocabulary) <= number:
                vocabulary.append(f"[unused-id-{len(vocabulary)}]")
            if vocabulary[number] == token:
                continue
            if vocabulary[number] != f"[unused-id-{number}]":
                raise UserError(
                    f"{path}: {token!r:.60} has the id {number}, which is that of "
                    f"{vocabulary[number]!r:.60} in {files.path.name}; use the files that the "
                    "model was trained with"
                )
            vocabulary[number] = token
            added.append(token)
    return replace(
        files,
        vocabulary=vocabulary,
        added=tuple(token for token in added if token not in zero_width),
        zero_width=tuple(sorted(zero_width)),
    )


def _is_word(token: str, files: TokenizerFiles) -> bool:
    """Whether the tokenizer leaves a token as it is; in either case, if no file states which."""
    cases = (True, False) if files.lowercase is None else (files.lowercase,)
    return all(
        _basic(case, case if files.strip_accents is None else files.strip_accents).words(token)
        == [token]
        for case in cases
    )


@cache
def _basic(lowercase: bool, strip_accents: bool) -> BasicTokenizer:
    return BasicTokenizer(lowercase, strip_accents)


def _read(path: Path) -> str:
    try:
        refuse_lfs_pointer(path)
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(
                f"{path}: larger than {_MAX_BYTES >> 20} MiB, so not a vocabulary; name a vocab.txt"
            )
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a vocab.txt with one token per line") from None
    except IsADirectoryError:
        raise UserError(
            f"{path}: is a folder; name a vocab.txt, or set vocab.source: model"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert it") from None
