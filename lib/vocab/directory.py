"""Reader for the vocabulary and tokenizer settings of a model directory.

Google's checkpoints have only `vocab.txt`; transformers up to version 4 writes `vocab.txt`,
`tokenizer_config.json` and `tokenizer.json`; transformers 5 writes only the last two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object

VOCABULARY, TOKENIZER, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class TokenizerFiles:
    """The vocabulary and tokenizer settings of a model directory.

    Attributes:
        path: the file that the vocabulary was read from.
        vocabulary: one token per id.
        lowercase, strip_accents: None if no file states them.
    """

    path: Path
    vocabulary: list[str]
    lowercase: bool | None
    strip_accents: bool | None

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
    lines = [line.strip(" \t\r") for line in _read(path).split("\n")]
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
        UserError: there is no vocabulary, a file is damaged, or the tokenizer is not BERT's.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; name one with {VOCABULARY} or {TOKENIZER}")
    tokenizer_path, config_path = directory / TOKENIZER, directory / CONFIG
    tokenizer, config = _read_json(tokenizer_path), _read_json(config_path)
    path = directory / VOCABULARY
    vocabulary: list[str] = []
    settings: dict[str, bool] = {}
    if tokenizer is not None:
        vocabulary, settings = _parse_tokenizer(tokenizer_path, tokenizer)
    if path.exists():
        vocabulary = read_vocabulary(path)
    elif tokenizer is not None:
        path = tokenizer_path
    else:
        raise UserError(
            f"{path}: missing, and so is {TOKENIZER}; add the vocabulary that the model was "
            "trained with"
        )
    if config is not None:
        stated = _parse_config(config_path, config)
        for key in settings.keys() & stated.keys():
            if settings[key] != stated[key]:
                raise UserError(
                    f"{config_path}: {key} is {str(stated[key]).lower()}, but in {TOKENIZER} it "
                    f"is {str(settings[key]).lower()}; make them agree"
                )
        # Google's BERT lower-cases by default, and strips accents exactly when it lower-cases.
        lowercase = stated.get("do_lower_case", True)
        settings = {"do_lower_case": lowercase, "strip_accents": lowercase} | stated | settings
    return TokenizerFiles(
        path, vocabulary, settings.get("do_lower_case"), settings.get("strip_accents")
    )


def _parse_tokenizer(path: Path, tokenizer: dict[str, Any]) -> tuple[list[str], dict[str, bool]]:
    """The vocabulary and settings in tokenizer.json, which must be a BERT tokenizer."""
    try:
        model, normalizer = tokenizer["model"], tokenizer["normalizer"]
        kinds = model["type"], normalizer["type"], tokenizer["pre_tokenizer"]["type"]
        ids = {str(token): int(token_id) for token, token_id in model["vocab"].items()}
        cleans = normalizer["clean_text"] and normalizer["handle_chinese_chars"]
        prefix = model["continuing_subword_prefix"]
        lowercase, strip_accents = normalizer["lowercase"], normalizer["strip_accents"]
        added = {str(token["content"]) for token in tokenizer["added_tokens"]}
    except (KeyError, TypeError, AttributeError, ValueError):
        kinds = None
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        raise UserError(f"{path}: not a BERT tokenizer (WordPiece); use another model")
    if not cleans or prefix != "##":
        raise UserError(
            f"{path}: clean_text, handle_chinese_chars and the prefix ## are required; use another "
            "model, or only its vocabulary (vocab.source: file)"
        )
    if missing := added - ids.keys():
        raise UserError(
            f"{path}: tokens added outside the vocabulary ({', '.join(sorted(missing)[:3])}) are "
            "not supported; use the model without them"
        )
    # Ids without a token keep a placeholder, so that all other tokens keep their ids.
    size = max(ids.values(), default=-1) + 1
    vocabulary = [f"[unused-id-{token_id}]" for token_id in range(size)]
    for token, token_id in ids.items():
        vocabulary[token_id] = token
    if strip_accents is None:
        strip_accents = lowercase
    return vocabulary, {"do_lower_case": lowercase, "strip_accents": strip_accents}


def _parse_config(path: Path, config: dict[str, Any]) -> dict[str, bool]:
    """The settings in tokenizer_config.json; null counts as absent."""
    stated = {}
    for key in ("do_lower_case", "strip_accents", "tokenize_chinese_chars"):
        value = config.get(key)
        if value is None:
            continue
        if not isinstance(value, bool):
            raise UserError(f"{path}: {key} should be true, false or null; it is {value!r}")
        stated[key] = value
    if not stated.pop("tokenize_chinese_chars", True):
        raise UserError(
            f"{path}: tokenize_chinese_chars: false is not supported; use a model whose tokenizer "
            "isolates ideographs"
        )
    return stated


def _read_json(path: Path) -> dict[str, Any] | None:
    return read_object(path) if path.exists() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a vocab.txt with one token per line") from None
    except IsADirectoryError:
        raise UserError(
            f"{path}: is a folder; name a vocab.txt, or set vocab.source: model"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert it") from None
