"""The tokenizer against handwritten expectations and a slow reference implementation."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.vocab import tokenizer as tokenizer_module
from lib.vocab.characters import BasicTokenizer
from lib.vocab.export import write_tokenizer
from lib.vocab.loading import load_tokenizer
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [
    *SPECIAL_TOKENS,
    "the",
    "cat",
    "##s",
    "sat",
    "i",
    "##i",
    "ı",
    "İ",
    "σ",
    "##ς",
    "##σ",
    ".",
    "[",
    "]",
    "#",
    "中",
    "𠀀",
    "😀",
    "a",
    "##a",
    "##aa",
    "mask",
    "The",
]


def tiny_tokenizer(lowercase: bool = True, strip_accents: bool = True) -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCABULARY, lowercase, strip_accents)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        ("The CATS sat.", ["the", "cat", "##s", "sat", "."]),
        ("cats scat catx", ["cat", "##s", "[UNK]", "[UNK]"]),
        ("aaaa", ["a", "##aa", "##a"]),
        ("the [MASK] sat [SEP]", ["the", "[MASK]", "sat", "[SEP]"]),
        ("[[MASK]]cat[PAD]", ["[", "[MASK]", "]", "cat", "[PAD]"]),
        ("[mask] [MASK", ["[", "mask", "]", "[", "mask"]),
        ("[MA\u200bSK]", ["[", "mask", "]"]),
        ("##s", ["#", "#", "[UNK]"]),
        ("İ ı ΣΣ", ["i", "ı", "σ", "##σ"]),
        ("中𠀀中😀", ["中", "𠀀", "中", "😀"]),
        ("中𠀀cat中", ["中", "𠀀", "cat", "中"]),
        ("\u200b \ue000", []),
    ],
)
def test_tokenize(text: str, tokens: list[str]) -> None:
    assert tiny_tokenizer().tokenize(text) == tokens


def test_tokenize_cased() -> None:
    assert tiny_tokenizer(False, False).tokenize("The the THE İ É") == [
        "The",
        "the",
        "[UNK]",
        "İ",
        "[UNK]",
    ]


@pytest.mark.parametrize("length", [99, 100, 101, 300])
def test_long_words_are_unknown(length: int) -> None:
    """The limit applies to the normalized word: marks that are dropped do not count."""
    known = length <= 100
    for word in ("a" * length, "a\u0301\u200b" * length):
        assert (tiny_tokenizer().unk_id in tiny_tokenizer().encode(word)) is not known
        assert len(tiny_tokenizer().encode(f"the {word} cat")) == (
            2 + 1 + (length // 2) if known else 3
        )
    assert tiny_tokenizer().encode("." * length) == [VOCABULARY.index(".")] * length


def reference_encode(text: str, lowercase: bool, strip_accents: bool) -> list[int]:
    """The reference: finds special tokens, then words, then tokens by the definition."""
    for token in SPECIAL_TOKENS:
        before, found, after = text.partition(token)
        if found:
            return [
                *reference_encode(before, lowercase, strip_accents),
                VOCABULARY.index(token),
                *reference_encode(after, lowercase, strip_accents),
            ]
    ids: list[int] = []
    for word in BasicTokenizer(lowercase, strip_accents).words(text):
        rest, tokens = word, list[str]()
        while rest and len(word) <= 100:
            prefix = "##" if tokens else ""
            matches = [
                token
                for token in VOCABULARY
                if (prefix + rest).startswith(token)
                and token.startswith("##") == bool(prefix)
                and len(token) > len(prefix)
            ]
            if not matches:
                break
            tokens.append(max(matches, key=len))
            rest = rest[len(tokens[-1]) - len(prefix) :]
        ids += [VOCABULARY.index(token) for token in (tokens if not rest else ["[UNK]"])]
    return ids


FRAGMENTS = [
    *VOCABULARY,
    " ",
    "\n",
    "\r",
    "\n\n",
    "[",
    "Cats",
    "A" * 99,
    "a" * 101,
    "\u0301",
    "İ",
    "\u200b",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x85",
    "\x1e",
    "\ue000",
    "\u226e",
    "\u302e",
    "\U0001d165",
    "\u034f",
    "\ufa6c",
    "\U0002f800",
    "\U00016fe2",
    "한",
    "ΟΔΟΣ",
    "क्षि",
    "ไทย",
]
TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=5))).map("".join)


@given(TEXT, st.booleans(), st.booleans())
@example("[CLS][SEP]\u302e[MASK]\U0001d165", True, True)
def test_encode_equals_the_reference(text: str, lowercase: bool, strip_accents: bool) -> None:
    assert tiny_tokenizer(lowercase, strip_accents).encode(text) == reference_encode(
        text, lowercase, strip_accents
    )


@pytest.fixture(params=[1, 20, 1 << 20])
def small_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits for chunks and cache so small that every text exceeds them."""
    monkeypatch.setattr(tokenizer_module, "_CHUNK_CHARACTERS", request.param)
    monkeypatch.setattr(tokenizer_module, "_MAX_CACHED_SPANS", request.param)


@pytest.mark.usefixtures("small_limits")
def test_encode_lines_equals_encode() -> None:
    tokenizer = tiny_tokenizer()

    @given(TEXT)
    @example("the \ncat\r\n \n\n  \n sat \n")
    @settings(max_examples=60)
    def check(text: str) -> None:
        ids, offsets = tokenizer.encode_lines(text)
        lines = text.removesuffix("\n").split("\n") if text else []
        assert ids.dtype == np.int32 and offsets.dtype == np.int64
        assert offsets[0] == 0 and offsets[-1] == len(ids)
        assert [ids[first:end].tolist() for first, end in pairwise(offsets)] == [
            tiny_tokenizer().encode(line) for line in lines
        ]

    check()


def test_attributes() -> None:
    tokenizer = tiny_tokenizer()
    assert [
        tokenizer.pad_id,
        tokenizer.unk_id,
        tokenizer.cls_id,
        tokenizer.sep_id,
        tokenizer.mask_id,
    ] == [0, 1, 2, 3, 4]
    assert tokenizer.continuation.dtype == bool
    assert [VOCABULARY[index] for index in np.flatnonzero(tokenizer.continuation)] == [
        "##s",
        "##i",
        "##ς",
        "##σ",
        "##a",
        "##aa",
    ]


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_written_directory_loads(tmp_path: Path, lowercase: bool, strip_accents: bool) -> None:
    write_tokenizer(tmp_path, VOCABULARY, lowercase, strip_accents, 128)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not any(b"\r" in content for content in first.values())
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocabulary == VOCABULARY
    assert (tokenizer.lowercase, tokenizer.strip_accents) == (lowercase, strip_accents)
    write_tokenizer(tmp_path, VOCABULARY, lowercase, strip_accents, 128)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (True, True)),
        ({"do_lower_case": False}, (False, False)),
        ({"do_lower_case": True, "strip_accents": None}, (True, True)),
        ({"do_lower_case": True, "strip_accents": False}, (True, False)),
    ],
)
def test_strip_accents_defaults_to_lowercase(
    tmp_path: Path, config: dict[str, object], expected: tuple[bool, bool]
) -> None:
    write_tokenizer(tmp_path, VOCABULARY, True, True, 128)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.lowercase, tokenizer.strip_accents) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", None, "missing"),
        ("vocab.txt", b"", "empty"),
        ("vocab.txt", b"word\n", r"\[PAD\]"),
        ("vocab.txt", "\n".join(SPECIAL_TOKENS[:-1]).encode(), r"\[MASK\]"),
        ("vocab.txt", b"caf\xe9\n", "UTF-8"),
        ("tokenizer_config.json", None, "missing"),
        ("tokenizer_config.json", b"{", "JSON"),
        ("tokenizer_config.json", b"[]", "JSON object"),
        ("tokenizer_config.json", b'{"do_lower_case": "yes"}', "do_lower_case"),
        ("tokenizer_config.json", b'{"tokenize_chinese_chars": false}', "tokenize_chinese_chars"),
    ],
)
def test_damaged_directories_are_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    write_tokenizer(tmp_path, VOCABULARY, True, True, 128)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
