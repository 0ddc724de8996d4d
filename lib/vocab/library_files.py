"""Reader for a tokenizer.json that is not BERT's: byte-level BPE, Unigram, other WordPiece.

The library `tokenizers` gives the ids, whatever the file says. What the library does not know is
read from the files, never guessed: which tokens are CLS, SEP, MASK, PAD and UNK. They are named

    tokenizer_config.json       cls_token, sep_token, ...
    special_tokens_map.json     the same keys
    config.json                 cls_token_id, sep_token_id, ...
    tokenizer.json              CLS and SEP: what its post-processor puts around a text

All functions raise UserErrors that name the file and the key.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.vocab.names import CONFIG, MODEL_CONFIG, SPECIAL, TOKENIZER
from lib.vocab.settings import MAX_WORD_LENGTH, added_tokens, token_content, token_id
from lib.vocab.wordpiece import CONTINUATION

_KINDS = ("BPE", "Unigram", "WordPiece")
# Name of a special token -> what it is for.
SPECIAL_NAMES = {
    "pad": "padding",
    "unk": "unknown text",
    "cls": "the start of a sequence",
    "sep": "the end of a segment",
    "mask": "masked tokens",
}
# Values of BERT's own tokenizer.
_AS_BERT: dict[str, dict[str, bool | str | int]] = {
    "normalizer": {"clean_text": True, "handle_chinese_chars": True},
    "model": {
        "continuing_subword_prefix": CONTINUATION,
        "unk_token": "[UNK]",
        "max_input_chars_per_word": MAX_WORD_LENGTH,
    },
}
# An id this far beyond the number of tokens is a damaged number, not a gap.
_MAX_GAP = 100_000


@dataclass(frozen=True)
class LibraryFiles:
    """A tokenizer.json and the special tokens of its model.

    Attributes:
        content: of tokenizer.json, without truncation and padding.
        special: name (`cls`, ...) -> token. `unk` may be missing: then every text has a spelling.
    """

    content: Mapping[str, Any]
    special: Mapping[str, str]


def needs_library(path: Path, tokenizer: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json is not that of BERT's WordPiece."""
    model = tokenizer.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    if kind not in _KINDS:
        raise UserError(
            f"{path}: model.type should be {', '.join(_KINDS[:-1])} or {_KINDS[-1]}. Received: "
            f"{kind!r:.60}; use another model"
        )
    parts = [tokenizer.get(key) for key in ("model", "normalizer", "pre_tokenizer")]
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in parts]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        return True
    # Values of another type are refused with the others of BERT's.
    return any(
        type(found) is type(expected) and found != expected
        for part, values in _AS_BERT.items()
        for key, expected in values.items()
        if (found := tokenizer[part].get(key)) is not None
    )


def read_library_files(
    directory: Path, contents: Mapping[str, Mapping[str, Any]]
) -> tuple[LibraryFiles, list[str]]:
    """The tokenizer and its vocabulary, one token per id.

    Args:
        contents: of the files above, by name, as far as they exist.
    """
    path = directory / TOKENIZER
    content = {**contents[TOKENIZER], "truncation": None, "padding": None}
    content["added_tokens"] = content.get("added_tokens") or []
    try:
        backend(content)
    except Exception as failure:  # The library raises no other class.
        raise UserError(
            f"{path}: the library tokenizers cannot read it ({failure!s:.100}); download the file "
            "again, or save it with a version of tokenizers that is not newer than this one"
        ) from None
    if content["model"].get("dropout"):
        raise UserError(
            f"{path}: model.dropout draws ids at random, with which no model can be evaluated; set "
            "it to null"
        )
    ids = _ids(path, content)
    _check_added(directory / CONFIG, contents.get(CONFIG, {}), ids)
    special = _special_tokens(directory, contents, ids)
    return LibraryFiles(content, special), _by_id(path, ids)


def vocabulary_of(path: Path, content: Mapping[str, Any]) -> list[str]:
    """The token of each id in a tokenizer.json; `path` is for errors."""
    return _by_id(path, _ids(path, content))


def _by_id(path: Path, ids: Mapping[str, int]) -> list[str]:
    """The token of each id, with placeholders for ids without one."""
    size = max(ids.values()) + 1
    if size > len(ids) + _MAX_GAP:
        token = max(ids, key=ids.__getitem__)
        raise UserError(
            f"{path}: {token!r:.60} has the id {ids[token]:,}, but there are only {len(ids):,} "
            "tokens; download the file again"
        )
    vocabulary = [f"[unused-id-{number}]" for number in range(size)]
    for token, number in ids.items():
        vocabulary[number] = token
    return vocabulary


def backend(content: Mapping[str, Any]) -> Any:
    """The library's tokenizer. Its own threads are off, since shards are tokenized in parallel."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import tokenizers

    return tokenizers.Tokenizer.from_str(json.dumps(content))


def changes_letters(tokenizer: Any) -> tuple[bool, bool]:
    """Whether the normalization of a library's tokenizer lower-cases, and strips accents."""
    normalizer = tokenizer.normalizer
    if normalizer is None:
        return False, False
    upper, accent = (normalizer.normalize_str(each) for each in ("xA", "x\u00e9"))
    return "A" not in upper, accent.endswith("xe")


def _ids(path: Path, content: Mapping[str, Any]) -> dict[str, int]:
    """Token -> id, of the model's vocabulary and of added tokens; the library has read the file."""
    listed = content["model"]["vocab"]
    if content["model"]["type"] == "Unigram":
        listed = {token: number for number, (token, _) in enumerate(listed)}
    ids = {token: token_id(path, token, number) for token, number in listed.items()}
    added = {"added_tokens": content["added_tokens"]}
    for token, number in added_tokens(path, False, added).items():
        if number is None or ids.setdefault(token, number) != number:
            raise UserError(
                f"{path}: the added token {token!r:.60} has the id {number}, but in model.vocab it "
                f"has the id {ids[token]}; download the file again"
            )
    if not ids:
        raise UserError(f"{path}: no tokens; download the file again")
    return ids


def _check_added(path: Path, config: Mapping[str, Any], ids: Mapping[str, int]) -> None:
    """Refuses tokens that transformers would add to those of tokenizer.json."""
    listed = config.get("added_tokens_decoder") or {}
    if not isinstance(listed, Mapping):
        raise UserError(
            f"{path}: added_tokens_decoder should be an object; download the file again"
        )
    for number, token in listed.items():
        text = token_content(path, "added_tokens_decoder", token)
        if str(ids.get(text)) != number:
            raise UserError(
                f"{path}: added_tokens_decoder has {text!r:.60} with the id {number}, but in "
                f"tokenizer.json it has {ids.get(text, 'none')}; save the tokenizer again with "
                "transformers (AutoTokenizer, save_pretrained), which writes both"
            )


def _special_tokens(
    directory: Path, contents: Mapping[str, Mapping[str, Any]], ids: Mapping[str, int]
) -> dict[str, str]:
    """Name -> token; see the module."""
    tokens = {number: token for token, number in ids.items()}
    around = dict(zip(("cls", "sep"), _around(contents[TOKENIZER], tokens), strict=True))
    found: dict[str, str] = {}
    for name, purpose in SPECIAL_NAMES.items():
        key = f"{name}_token"
        stated: str | None = None
        for file in (CONFIG, SPECIAL):
            value = contents.get(file, {}).get(key)
            if stated is None and value is not None:
                stated = token_content(directory / file, key, value)
        number = contents.get(MODEL_CONFIG, {}).get(f"{key}_id")
        if stated is None and type(number) is int and number in tokens:
            stated = tokens[number]
        placed = around.get(name)
        if stated is None:
            stated = placed
        if name == "unk":
            own = _unknown(contents[TOKENIZER]["model"])
            if own is not None and own not in ids:
                raise UserError(
                    f"{directory / TOKENIZER}: model.unk_token is {own!r:.60}, which is not among "
                    "its tokens; download the file again"
                )
            stated = own if stated is None else stated
            if stated is None:
                continue
        if stated is None:
            raise UserError(
                f"{directory / CONFIG}: no {key} (the token for {purpose}), nor is it in "
                "special_tokens_map.json or config.json; name the token that the model was trained "
                f'with: "{key}": "..."'
            )
        if stated not in ids:
            raise UserError(
                f"{directory / CONFIG}: {key} is {stated!r:.60}, which is not a token of "
                "tokenizer.json; name one that is"
            )
        if placed not in (None, stated):
            raise UserError(
                f"{directory / CONFIG}: {key} is {stated!r:.60}, but tokenizer.json puts "
                f"{placed!r:.60} there; make them agree"
            )
        found[name] = stated
    return found


def _around(
    tokenizer: Mapping[str, Any], tokens: Mapping[int, str]
) -> tuple[str | None, str | None]:
    """The tokens that the post-processor puts before and after a single text."""
    for processor in flattened(tokenizer.get("post_processor"), "processors"):
        if "cls" in processor and "sep" in processor:  # BertProcessing, RobertaProcessing
            return processor["cls"][0], processor["sep"][0]
        if processor.get("type") == "TemplateProcessing":
            parts = processor.get("single", [])
            names = [part.get("SpecialToken", {}).get("id") for part in parts]
            known = processor.get("special_tokens", {})
            # A name of the template may stand for another token of the vocabulary.
            found = [tokens.get(known[name]["ids"][0]) if name in known else None for name in names]
            text = names.index(None) if None in names else 0
            return next(iter(found[:text]), None), next(iter(found[text + 1 :]), None)
    return None, None


def _unknown(model: Mapping[str, Any]) -> str | None:
    """The model's own token for unknown text."""
    if model["type"] == "Unigram" and type(model.get("unk_id")) is int:
        token: str = model["vocab"][model["unk_id"]][0]
        return token
    return model.get("unk_token")


def flattened(part: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor, those of sequences one by one."""
    if isinstance(part, Mapping):
        if part.get("type") == "Sequence":
            for each in part.get(key, []):
                yield from flattened(each, key)
        else:
            yield part


def vocabulary_listing(vocabulary: list[str]) -> str:
    """The text of vocab.txt: a token per line, as a JSON string if it has white space or controls.

    The listing is for readers; tokenizer.json has the vocabulary.
    """
    lines = (
        token if token.isprintable() and token and " " not in token else json.dumps(token)
        for token in vocabulary
    )
    return "".join(f"{line}\n" for line in lines)
