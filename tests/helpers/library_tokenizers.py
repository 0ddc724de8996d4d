"""Small tokenizers of the kinds that a tokenizer.json can describe, in folders of a model."""

import json
from functools import cache
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from tests.helpers.project import sentences

KINDS = ("byte_bpe", "modernbert", "unigram", "wordpiece")
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_EXTRA = [
    "naïve café résumé, Zürich’s “quoted” – and… more;",
    "don't won't I'm (in brackets) [MASK] e-mail@example.org #tag 3.14 1,000",
    "Merhaba dünya, İstanbul’da ışık; привет мир! 汉字，标点。 مرحبا بالعالم",
]


@cache
def training_text() -> tuple[str, ...]:
    return (*sentences(400, 1), *(_EXTRA * 20))


def write_library_tokenizer(kind: str, folder: Path, size: int = 700) -> Path:
    """Writes a tokenizer of a kind into a folder, trained on a small text."""
    folder.mkdir(parents=True, exist_ok=True)
    content, names = _CONTENTS[kind](size)
    (folder / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def _names(tokens: list[str]) -> dict[str, str]:
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return dict(zip(names, tokens, strict=True))


def _around(first: str, last: str, ids: dict[str, int]) -> dict:
    def part(token: str) -> dict:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [part(first), text, part(last)],
        "pair": [
            part(first),
            text,
            part(last),
            {"Sequence": {"id": "B", "type_id": 0}},
            part(last),
        ],
        "special_tokens": {
            token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in (first, last)
        },
    }


def _byte_bpe(size: int) -> tuple[dict, dict]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(token, lstrip=token == "[MASK]", special=True) for token in _SPECIAL]
    tokenizer.train_from_iterator(
        training_text(),
        trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    content = json.loads(tokenizer.to_str())
    ids = {token: number for number, token in enumerate(_SPECIAL)}
    content["post_processor"] = _around("[CLS]", "[SEP]", ids)
    return content, _names(_SPECIAL)


def _modernbert(size: int) -> tuple[dict, dict]:
    """Laid out as ModernBERT's: added tokens after the others, of which some are runs of spaces."""
    content, names = _byte_bpe(size)
    model = content["model"]
    kept = [token for token in model["vocab"] if token not in _SPECIAL]
    model["vocab"] = {token: number for number, token in enumerate(kept)}
    added = ["|||IP_ADDRESS|||", "<|padding|>", *(" " * n for n in range(24, 1, -1)), *_SPECIAL]
    added = [added[1], added[0], *added[2:], *(f"[unused{n}]" for n in range(10))]
    entries = []
    for number, token in enumerate(added, len(kept)):
        plain = not token.strip() or token.startswith(("|||", "[unused"))
        entries.append(
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": token == "[MASK]",
                "rstrip": False,
                "normalized": plain,
                "special": not plain,
            }
        )
    content["added_tokens"] = entries
    ids = {each["content"]: each["id"] for each in entries}
    content["post_processor"] = _around("[CLS]", "[SEP]", ids)
    return content, names


def _unigram(size: int) -> tuple[dict, dict]:
    """SentencePiece's, with bytes for what has no token."""
    tokenizer = tokenizers.Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    singles = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        training_text(),
        trainers.UnigramTrainer(
            vocab_size=size,
            special_tokens=[*special, *singles],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    content = json.loads(tokenizer.to_str())
    content["model"]["byte_fallback"] = True
    content["added_tokens"] = content["added_tokens"][: len(special)]
    content["added_tokens"][-1]["lstrip"] = True
    ids = {token: number for number, token in enumerate(special)}
    content["post_processor"] = _around("<s>", "</s>", ids)
    # CLS and SEP are those of the post-processor.
    return content, {"pad_token": "<pad>", "mask_token": "<mask>"}


def _wordpiece(size: int) -> tuple[dict, dict]:
    """WordPiece with other rules than BERT's."""
    tokenizer = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=_SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    content = json.loads(tokenizer.to_str())
    ids = {token: number for number, token in enumerate(_SPECIAL)}
    content["post_processor"] = _around("[CLS]", "[SEP]", ids)
    return content, _names(_SPECIAL)


_CONTENTS = {
    "byte_bpe": _byte_bpe,
    "modernbert": _modernbert,
    "unigram": _unigram,
    "wordpiece": _wordpiece,
}
