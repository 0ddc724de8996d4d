"""The tokenizer against expectations written by hand and against a slow, plain oracle."""

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
from lib.vocab.tokenizer import WordPieceTokenizer

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

# words in lower case without accents, words as they are
NASTY = [
    ("", [], []),
    (" \t\r\n ", [], []),
    ("?", ["?"], ["?"]),
    ("The cat's", ["the", "cat", "'", "s"], ["The", "cat", "'", "s"]),
    ("Crème BRÛLÉE", ["creme", "brulee"], ["Crème", "BRÛLÉE"]),
    ("e\u0301", ["e"], ["e\u0301"]),
    # No locale: the Turkish dotted capital loses its dot, the dotless i stays as it is.
    ("İSTANBUL ısı", ["istanbul", "ısı"], ["İSTANBUL", "ısı"]),
    # Python's str.lower would write a final sigma.
    ("ΟΔΟΣ", ["οδοσ"], ["ΟΔΟΣ"]),
    ("می\u200cخواهم", ["میخواهم"], ["میخواهم"]),
    ("كِتَابٌ أب", ["كتاب", "اب"], ["كِتَابٌ", "أب"]),
    ("a中文b", ["a", "中", "文", "b"], ["a", "中", "文", "b"]),
    ("a\U00020000b", ["a", "\U00020000", "b"], ["a", "\U00020000", "b"]),
    # The compatibility form of an ideograph becomes another, here one beyond the BMP.
    ("a\ufa6cb", ["a", "\U000242ee", "b"], ["a", "\ufa6c", "b"]),
    ("한국어", ["한국어"], ["한국어"]),
    ("ok😀😀", ["ok😀😀"], ["ok😀😀"]),
    ("👩\u200d💻", ["👩💻"], ["👩💻"]),
    ("a\ue000\ufffd\x00\x85\u00adb", ["ab"], ["ab"]),
    ("a\u2028b\u00a0c\u3000d\x0be", ["a", "b", "c", "de"], ["a", "b", "c", "de"]),
    ("$5=5 x^2", ["$", "5", "=", "5", "x", "^", "2"], ["$", "5", "=", "5", "x", "^", "2"]),
    # Stripping makes punctuation of a sign that is none: less-than with a stroke through it.
    ("a\u226eb", ["a", "<", "b"], ["a\u226eb"]),
    # Marks that are kept are sorted, a dropped mark between them does not hinder it ...
    ("a\u302e\u0301\U0001d165", ["a\U0001d165\u302e"], ["a\u302e\u0301\U0001d165"]),
    # ... except one of combining class 0.
    ("a\u302e\u034f\U0001d165", ["a\u302e\U0001d165"], ["a\u302e\u034f\U0001d165"]),
]


def decomposed(words: list[str]) -> list[str]:
    """Hangul syllables as their jamo, two or three each, as accent stripping leaves them."""
    jamo = "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"
    return [jamo if word == "한국어" else word for word in words]


@pytest.mark.parametrize(("text", "plain", "as_it_is"), NASTY)
def test_words(text: str, plain: list[str], as_it_is: list[str]) -> None:
    assert BasicTokenizer(True, True).words(text) == decomposed(plain)
    assert BasicTokenizer(False, False).words(text) == as_it_is


def test_case_and_accents_are_two_switches() -> None:
    assert BasicTokenizer(True, False).words("ŞİŞ É") == ["şi\u0307ş", "é"]
    assert BasicTokenizer(False, True).words("ŞİŞ É") == ["SIS", "E"]


def toy(lowercase: bool = True, strip_accents: bool = True) -> WordPieceTokenizer:
    return WordPieceTokenizer(VOCABULARY, lowercase, strip_accents)


@pytest.mark.parametrize(
    ("text", "pieces"),
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
def test_tokenize(text: str, pieces: list[str]) -> None:
    assert toy().tokenize(text) == pieces


def test_tokenize_cased() -> None:
    assert toy(False, False).tokenize("The the THE İ É") == ["The", "the", "[UNK]", "İ", "[UNK]"]


@pytest.mark.parametrize("length", [99, 100, 101, 300])
def test_long_words_are_unknown(length: int) -> None:
    """The limit counts characters of the normalised word: marks that are dropped do not count."""
    known = length <= 100
    for word in ("a" * length, "a\u0301\u200b" * length):
        assert (toy().unk_id in toy().encode(word)) is not known
        assert len(toy().encode(f"the {word} cat")) == (2 + 1 + (length // 2) if known else 3)
    assert toy().encode("." * length) == [VOCABULARY.index(".")] * length


def plain_encode(text: str, lowercase: bool, strip_accents: bool) -> list[int]:
    """The oracle: special tokens first, then whole stretches of text, then naive WordPiece."""
    for token in SPECIAL_TOKENS:
        before, found, after = text.partition(token)
        if found:
            return [
                *plain_encode(before, lowercase, strip_accents),
                VOCABULARY.index(token),
                *plain_encode(after, lowercase, strip_accents),
            ]
    ids: list[int] = []
    for word in BasicTokenizer(lowercase, strip_accents).words(text):
        rest, pieces = word, list[str]()
        while rest and len(word) <= 100:
            prefix = "##" if pieces else ""
            fitting = [
                piece
                for piece in VOCABULARY
                if (prefix + rest).startswith(piece)
                and piece.startswith("##") == bool(prefix)
                and len(piece) > len(prefix)
            ]
            if not fitting:
                break
            pieces.append(max(fitting, key=len))
            rest = rest[len(pieces[-1]) - len(prefix) :]
        ids += [VOCABULARY.index(piece) for piece in (pieces if not rest else ["[UNK]"])]
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


@settings(deadline=None)
@given(TEXT, st.booleans(), st.booleans())
@example("[CLS][SEP]\u302e[MASK]\U0001d165", True, True)
def test_encode_equals_the_oracle(text: str, lowercase: bool, strip_accents: bool) -> None:
    assert toy(lowercase, strip_accents).encode(text) == plain_encode(
        text, lowercase, strip_accents
    )


@pytest.fixture(params=[1, 20, 1 << 20])
def small_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and a cache so small that every text passes their limits."""
    monkeypatch.setattr(tokenizer_module, "_CHUNK_CHARACTERS", request.param)
    monkeypatch.setattr(tokenizer_module, "_MAX_CACHED_SPANS", request.param)


@pytest.mark.usefixtures("small_limits")
def test_encode_lines_equals_encode() -> None:
    tokenizer = toy()

    @given(TEXT)
    @example("the \ncat\r\n \n\n  \n sat \n")
    @settings(max_examples=60, deadline=None)
    def check(text: str) -> None:
        ids, offsets = tokenizer.encode_lines(text)
        lines = text.removesuffix("\n").split("\n") if text else []
        assert ids.dtype == np.int32 and offsets.dtype == np.int64
        assert offsets[0] == 0 and offsets[-1] == len(ids)
        assert [ids[first:end].tolist() for first, end in pairwise(offsets)] == [
            toy().encode(line) for line in lines
        ]

    check()


def test_attributes() -> None:
    tokenizer = toy()
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
    tokenizer = WordPieceTokenizer.load(tmp_path)
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
def test_strip_accents_follows_the_case(
    tmp_path: Path, config: dict[str, object], expected: tuple[bool, bool]
) -> None:
    write_tokenizer(tmp_path, VOCABULARY, True, True, 128)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = WordPieceTokenizer.load(tmp_path)
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
def test_damaged_directory(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    write_tokenizer(tmp_path, VOCABULARY, True, True, 128)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        WordPieceTokenizer.load(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)
