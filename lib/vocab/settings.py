"""Keys of tokenizer files that change ids: each is honoured, or refused with the way out.

A key is refused only where its value gives other ids than BERT's tokenizer: `"never_split": []` or
`"word_tokenizer_type": "basic"` is what BERT does. Values of the wrong type are always refused:
`"lowercase": "false"` would be true. All functions raise UserErrors that name the file and the key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.run.errors import UserError
from lib.vocab.wordpiece import CONTINUATION

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Zero-width space and non-joiner. BERT's tokenizer deletes them, unless they are added tokens.
ZERO_WIDTH = ("\u200b", "\u200c")
# In characters; 200 in Google's code, 100 in Hugging Face's tokenizers.
MAX_WORD_LENGTH = 100
_NAMES = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
# Lists (or objects) of further special tokens.
_MORE_TOKENS = (
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
)
# Classes with the algorithm of BertTokenizer, without `Tokenizer` or `TokenizerFast`.
_SAME_CLASSES = (
    "Bert",
    "ConvBert",
    "DPRContextEncoder",
    "DPRQuestionEncoder",
    "DPRReader",
    "DistilBert",
    "Electra",
    "LayoutLM",
    "Lxmert",
    "MobileBert",
    "RetriBert",
    "SqueezeBert",
)
# Classes that do what tokenizer.json says.
_GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
# Settings that this tokenizer has, and those that must have the value of BERT's tokenizer.
_SETTINGS = ("do_lower_case", "strip_accents")
_REQUIRED_SWITCHES = {
    "tokenize_chinese_chars": True,
    "do_basic_tokenize": True,
    "do_word_tokenize": True,
    "do_subword_tokenize": True,
    "clean_text": True,
    "split_special_tokens": False,
}
_REQUIRED_WORDS = {
    "word_tokenizer_type": "basic",
    "subword_tokenizer_type": "wordpiece",
    "wordpieces_prefix": CONTINUATION,
}
# Ids are far below it in every vocabulary.
_MAX_ID = 1 << 24
_OTHER_MODEL = "use another model, or only its vocabulary (vocab.source: file)"


def check_class(path: Path, values: Mapping[str, Any], has_tokenizer: bool) -> None:
    """Checks `tokenizer_class` in a model's config.json or tokenizer_config.json.

    Args:
        has_tokenizer: there is a tokenizer.json, which says what a generic class does.
    """
    name = values.get("tokenizer_class")
    if name is None:
        return
    same = [
        f"{each}{suffix}" for each in _SAME_CLASSES for suffix in ("Tokenizer", "TokenizerFast")
    ]
    if name in same or (has_tokenizer and name in _GENERIC_CLASSES):
        return
    fix = _OTHER_MODEL
    if isinstance(name, str) and "Japanese" in name:
        fix = (
            "use a model with BERT's own tokenizer; or segment your text with the program that "
            "the model needs, with spaces between words, and remove this key and "
            "word_tokenizer_type"
        )
    elif name in _GENERIC_CLASSES:
        fix = "put its tokenizer.json there"
    raise UserError(
        f"{path}: tokenizer_class should be BertTokenizer or one that gives the same ids. "
        f"Received: {name!r:.60}; {fix}"
    )


def stated_settings(path: Path, config: Mapping[str, Any]) -> dict[str, bool]:
    """The settings in tokenizer_config.json that are stated; null counts as absent."""
    for key, required in _REQUIRED_SWITCHES.items():
        if _switch(path, config, key) is (not required):
            raise UserError(
                f"{path}: {key}: {str(not required).lower()} is not supported, it gives other ids "
                f"than BERT's tokenizer; {_OTHER_MODEL}"
            )
    for key, word in _REQUIRED_WORDS.items():
        if config.get(key) not in (None, word):
            raise UserError(
                f"{path}: {key} should be {word}, with which the ids are BERT's. Received: "
                f"{config[key]!r:.60}; use a model with BERT's own tokenizer"
            )
    return {key: value for key in _SETTINGS if (value := _switch(path, config, key)) is not None}


def never_split(path: Path, config: Mapping[str, Any]) -> list[str]:
    """The words that a tokenizer must not split, without special tokens."""
    words = config.get("never_split")
    if words is None:
        return []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UserError(f"{path}: never_split should be a list. Received: {words!r:.60}; fix it")
    return [word for word in words if word not in SPECIAL_TOKENS]


def _switch(path: Path, values: Mapping[str, Any], key: str) -> bool | None:
    value = values.get(key)
    if value is not None and not isinstance(value, bool):
        raise UserError(
            f"{path}: {key} should be true, false or null, without quotes. Received: "
            f"{value!r:.60}; fix it"
        )
    return value


def parse_tokenizer(
    path: Path, tokenizer: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, bool]]:
    """The ids and settings in tokenizer.json."""
    parts = [tokenizer.get(key) for key in ("model", "normalizer", "pre_tokenizer")]
    kinds = [part.get("type") if isinstance(part, Mapping) else None for part in parts]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        raise UserError(
            f"{path}: not a BERT tokenizer (WordPiece with BertNormalizer and BertPreTokenizer). "
            f"Received: {', '.join(map(repr, kinds)):.80}; use another model"
        )
    model, normalizer = tokenizer["model"], tokenizer["normalizer"]
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise UserError(f"{path}: model.vocab should give an id for each token; download it again")
    ids = {token: token_id(path, token, number) for token, number in vocabulary.items()}
    if len(set(ids.values())) < len(ids):
        tokens = {number: token for token, number in ids.items()}
        first = next(token for token, number in ids.items() if tokens[number] != token)
        raise UserError(
            f"{path}: {first!r:.60} and {tokens[ids[first]]!r:.60} have the same id {ids[first]}; "
            "download the file again"
        )
    for key in ("clean_text", "handle_chinese_chars"):
        if _switch(path, normalizer, key) is not True:
            raise UserError(f"{path}: normalizer.{key} should be true; {_OTHER_MODEL}")
    for key, required in (
        ("continuing_subword_prefix", CONTINUATION),
        ("unk_token", "[UNK]"),
        ("max_input_chars_per_word", MAX_WORD_LENGTH),
    ):
        value = model.get(key, required)
        if value != required or isinstance(value, bool):
            raise UserError(
                f"{path}: model.{key} should be {required}. Received: {value!r:.60}; {_OTHER_MODEL}"
            )
    lowercase, strip_accents = (
        _switch(path, normalizer, key) for key in ("lowercase", "strip_accents")
    )
    if lowercase is None:
        raise UserError(f"{path}: normalizer.lowercase should be true or false; fix it")
    if strip_accents is None:
        strip_accents = lowercase
    return ids, {"do_lower_case": lowercase, "strip_accents": strip_accents}


def token_id(path: Path, token: str, number: object) -> int:
    """An id in a file, a whole number from 0 to below 2^24."""
    if type(number) is not int or not 0 <= number < _MAX_ID:
        raise UserError(
            f"{path}: the id of {token!r:.60} should be a whole number from 0 to below "
            f"{_MAX_ID:,}. Received: {number!r:.60}; download the file again"
        )
    return number


def check_special_tokens(path: Path, values: Mapping[str, Any]) -> None:
    """Refuses a tokenizer_config.json or special_tokens_map.json with other special tokens."""
    for key, name in _NAMES.items():
        found = name if values.get(key) is None else token_content(path, key, values[key])
        if found != name:
            raise UserError(
                f"{path}: {key} should be {name}. Received: {found!r:.60}; use a model with BERT's "
                "special tokens"
            )


def added_tokens(
    path: Path, is_list_of_ids: bool, values: Mapping[str, Any]
) -> dict[str, int | None]:
    """The tokens that a file adds to the vocabulary, with their ids as far as it gives them.

    Args:
        is_list_of_ids: the file is added_tokens.json, an object of ids by token.
    """
    if is_list_of_ids:
        return {token: token_id(path, token, number) for token, number in values.items()}
    found: dict[str, int | None] = {}
    listed = values.get("added_tokens")
    if listed is not None and not (
        isinstance(listed, list) and all(isinstance(each, Mapping) for each in listed)
    ):
        raise UserError(f"{path}: added_tokens should be a list of objects; download it again")
    for each in listed or []:
        token = token_content(path, "added_tokens", each)
        found[token] = token_id(path, token, each.get("id"))
    decoder = values.get("added_tokens_decoder")
    if decoder is not None and not isinstance(decoder, Mapping):
        raise UserError(f"{path}: added_tokens_decoder should be an object; download it again")
    for number, each in (decoder or {}).items():
        token = token_content(path, "added_tokens_decoder", each)
        whole = int(number) if number.isascii() and number.isdigit() and len(number) < 20 else None
        found[token] = token_id(path, token, number if whole is None else whole)
    for key in _MORE_TOKENS:
        more = values.get(key)
        if more is None:
            continue
        if not isinstance(more, list | Mapping):
            raise UserError(f"{path}: {key} should be a list. Received: {more!r:.60}; fix it")
        for each in more.values() if isinstance(more, Mapping) else more:
            found.setdefault(token_content(path, key, each))
    for key in ("bos_token", "eos_token"):
        if values.get(key) is not None:
            found.setdefault(token_content(path, key, values[key]))
    return found


def token_content(path: Path, key: str, value: object) -> str:
    """The text of a token, which is given as such or as an object with the key `content`."""
    text = value.get("content") if isinstance(value, Mapping) else value
    if not isinstance(text, str):
        raise UserError(
            f"{path}: {key} should be a token. Received: {value!r:.60}; download the file again"
        )
    return text
