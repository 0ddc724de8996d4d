"""Reads the vocabulary of a model directory, in the forms in which people have it.

Google's checkpoints have `vocab.txt` alone, transformers up to version 4 writes `vocab.txt`,
`tokenizer_config.json` and `tokenizer.json`, transformers 5 only the last two.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.run.json_files import read_object

VOCABULARY, TOKENIZER, CONFIG = "vocab.txt", "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class TokenizerFiles:
    """What a directory says of its tokenizer.

    Attributes:
        path: the file that the vocabulary was read from.
        vocabulary: one piece per id.
        lowercase, strip_accents: None where the directory does not say.
    """

    path: Path
    vocabulary: list[str]
    lowercase: bool | None
    strip_accents: bool | None

    def other_switch(self, lowercase: bool, strip_accents: bool) -> tuple[str, str, str] | None:
        """The first switch that the directory states otherwise: its key, our value and theirs."""
        for key, own, theirs in (
            ("lowercase", lowercase, self.lowercase),
            ("strip_accents", strip_accents, self.strip_accents),
        ):
            if theirs is not None and own != theirs:
                return key, str(own).lower(), str(theirs).lower()
        return None


def read_vocabulary(path: Path) -> list[str]:
    """The pieces of a vocab.txt: one a line, white space around them is not theirs.

    Raises:
        UserError: it is missing, not UTF-8 or empty.
    """
    lines = [line.strip(" \t\r") for line in _read(path).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{path}: empty; it should have one piece a line")
    return lines


def has_vocabulary(directory: Path) -> bool:
    """Whether a model's folder has its vocabulary in it."""
    return (directory / VOCABULARY).exists() or (directory / TOKENIZER).exists()


def read_directory(directory: Path) -> TokenizerFiles:
    """Reads vocab.txt or tokenizer.json, and the switches beside them.

    Raises:
        UserError: there is no vocabulary, a file is damaged, or the tokenizer is of another kind
            than BERT's.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such folder; name one with {VOCABULARY} or {TOKENIZER}")
    tokenizer_path, config_path = directory / TOKENIZER, directory / CONFIG
    tokenizer, config = _read_json(tokenizer_path), _read_json(config_path)
    path = directory / VOCABULARY
    vocabulary: list[str] = []
    switches: dict[str, bool] = {}
    if tokenizer is not None:
        vocabulary, switches = _of_tokenizer(tokenizer_path, tokenizer)
    if path.exists():
        vocabulary = read_vocabulary(path)
    elif tokenizer is not None:
        path = tokenizer_path
    else:
        raise UserError(
            f"{path}: missing, and so is {TOKENIZER}; put there the vocabulary that the model "
            "was trained with"
        )
    if config is not None:
        stated = _of_config(config_path, config)
        for key in switches.keys() & stated.keys():
            if switches[key] != stated[key]:
                raise UserError(
                    f"{config_path}: {key} is {str(stated[key]).lower()}, but in {TOKENIZER} it "
                    f"is {str(switches[key]).lower()}; make them agree"
                )
        # Lower case is the default of Google's BERT, and accents go with the case.
        lowercase = stated.get("do_lower_case", True)
        switches = {"do_lower_case": lowercase, "strip_accents": lowercase} | stated | switches
    return TokenizerFiles(
        path, vocabulary, switches.get("do_lower_case"), switches.get("strip_accents")
    )


def _of_tokenizer(path: Path, tokenizer: dict[str, Any]) -> tuple[list[str], dict[str, bool]]:
    """Vocabulary and switches of tokenizer.json, which must be a BERT's."""
    try:
        model, normalizer = tokenizer["model"], tokenizer["normalizer"]
        kinds = model["type"], normalizer["type"], tokenizer["pre_tokenizer"]["type"]
        ids = {str(piece): int(number) for piece, number in model["vocab"].items()}
        cleans = normalizer["clean_text"] and normalizer["handle_chinese_chars"]
        prefix = model["continuing_subword_prefix"]
        lowercase, strip_accents = normalizer["lowercase"], normalizer["strip_accents"]
        added = {str(token["content"]) for token in tokenizer["added_tokens"]}
    except (KeyError, TypeError, AttributeError, ValueError):
        kinds = None
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        raise UserError(f"{path}: not the tokenizer of a BERT (WordPiece); use another model")
    if not cleans or prefix != "##":
        raise UserError(
            f"{path}: clean_text, handle_chinese_chars and the prefix ## are needed; use another "
            "model, or its vocabulary alone (vocab.source: file)"
        )
    if missing := added - ids.keys():
        raise UserError(
            f"{path}: tokens were added beside the vocabulary ({', '.join(sorted(missing)[:3])}), "
            "which is not supported; use the model without them"
        )
    # Ids that no piece has keep their rows.
    vocabulary = [f"[unused-id-{number}]" for number in range(max(ids.values(), default=-1) + 1)]
    for piece, number in ids.items():
        vocabulary[number] = piece
    if strip_accents is None:
        strip_accents = lowercase
    return vocabulary, {"do_lower_case": lowercase, "strip_accents": strip_accents}


def _of_config(path: Path, config: dict[str, Any]) -> dict[str, bool]:
    """The switches that tokenizer_config.json states; null is as good as absent."""
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
            f"{path}: tokenize_chinese_chars: false is not supported; use a "
            "model whose tokenizer isolates ideographs"
        )
    return stated


def _read_json(path: Path) -> dict[str, Any] | None:
    return read_object(path) if path.exists() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name a vocab.txt, one piece a line") from None
    except IsADirectoryError:
        raise UserError(
            f"{path}: a folder; name a vocab.txt (or set vocab.source: model)"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 (byte {error.start}); convert it") from None
