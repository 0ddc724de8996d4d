"""Export of a vocabulary as the tokenizer files that Hugging Face loads."""

import json
from pathlib import Path
from typing import Any

from lib.run.atomic import write_text
from lib.vocab.names import CONFIG, TOKENIZER, VOCABULARY
from lib.vocab.settings import MAX_WORD_LENGTH, SPECIAL_TOKENS
from lib.vocab.wordpiece import CONTINUATION

_WITH_SEGMENTS = {"tokenizer_class": "BertTokenizer"}
_WITHOUT_SEGMENTS = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_input_names": ["input_ids", "attention_mask"],
}


def write_tokenizer(
    directory: Path,
    vocabulary: list[str],
    lowercase: bool,
    strip_accents: bool,
    max_length: int,
    segments: bool = True,
    zero_width: tuple[str, ...] = (),
) -> None:
    """Writes vocab.txt, tokenizer.json and tokenizer_config.json into an existing directory.

    All three are needed: fast tokenizers read tokenizer.json, transformers 5 builds its
    BertTokenizer from the vocabulary in tokenizer.json and the settings in tokenizer_config.json,
    and Google's code and `WordPieceTokenizer.load` read vocab.txt.

    Args:
        vocabulary: one token per id, without duplicates, including the special tokens.
        max_length: maximum number of tokens of the model's input, including [CLS] and [SEP].
        segments: whether the model is given `token_type_ids`, as BertTokenizer returns them.
        zero_width: zero-width characters that are tokens. As added tokens they are matched in the
            raw text, before BERT's normalization deletes such characters.
    """
    ids = {token: token_id for token_id, token in enumerate(vocabulary)}
    # strip_accents is explicit, although Hugging Face would derive it from do_lower_case.
    settings = {"do_lower_case": lowercase, "strip_accents": strip_accents}
    write_text(directory / VOCABULARY, "".join(f"{token}\n" for token in vocabulary))
    _write_json(directory / TOKENIZER, _tokenizer(ids, lowercase, strip_accents, zero_width))
    _write_json(
        directory / CONFIG,
        {
            "cls_token": "[CLS]",
            **settings,
            "mask_token": "[MASK]",
            "model_max_length": max_length,
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "tokenize_chinese_chars": True,
            "unk_token": "[UNK]",
            **(_WITH_SEGMENTS if segments else _WITHOUT_SEGMENTS),
        },
    )


def _tokenizer(
    ids: dict[str, int], lowercase: bool, strip_accents: bool, zero_width: tuple[str, ...]
) -> dict[str, Any]:
    """The content of tokenizer.json, as in transformers' own BERT tokenizers."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        # Matched in the raw text, before normalization: "[MASK]" in a text is the mask token.
        "added_tokens": [
            {
                "id": token_id,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": token in SPECIAL_TOKENS,
            }
            for token_id, token in sorted(
                (ids[token], token) for token in (*SPECIAL_TOKENS, *zero_width)
            )
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": strip_accents,
            "lowercase": lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": _template("[CLS]:0 A:0 [SEP]:0"),
            "pair": _template("[CLS]:0 A:0 [SEP]:0 B:1 [SEP]:1"),
            "special_tokens": {
                token: {"id": token, "ids": [ids[token]], "tokens": [token]}
                for token in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": CONTINUATION, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": CONTINUATION,
            "max_input_chars_per_word": MAX_WORD_LENGTH,
            "vocab": ids,
        },
    }


def _template(parts: str) -> list[dict[str, Any]]:
    """Special tokens and sequences, each with its segment."""
    template = []
    for part in parts.split():
        name, _, segment = part.partition(":")
        kind = "SpecialToken" if name in SPECIAL_TOKENS else "Sequence"
        template.append({kind: {"id": name, "type_id": int(segment)}})
    return template


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")
