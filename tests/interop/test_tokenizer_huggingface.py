"""Our words and ids equal those of Hugging Face's tokenizers, for every character."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.samples.languages import LANGUAGES, synthetic_text
from lib.vocab.characters import BasicTokenizer, character_table
from lib.vocab.export import write_tokenizer
from lib.vocab.loading import load_tokenizer
from lib.vocab.settings import ZERO_WIDTH
from lib.vocab.sources import from_sentencepiece

tokenizers = pytest.importorskip(
    "tokenizers", reason="Hugging Face's tokenizers is not installed (dependency group interop)"
)

SETTINGS = [(lowercase, strip) for lowercase in (True, False) for strip in (True, False)]
REFREEZE = (
    "the Unicode tables of tokenizers differ from lib/vocab/characters.json; "
    "python -m tools.freeze_characters adopts them, which changes the ids of these characters"
)


def reference_words(lowercase: bool, strip_accents: bool) -> Any:
    normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
    )
    split = tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return lambda text: [word for word, _ in split(normalizer.normalize_str(text))]


@pytest.mark.parametrize(
    ("lowercase", "strip_accents"),
    # The one with all parts is quick.
    [
        pytest.param(*setting, marks=() if setting == (True, True) else pytest.mark.slow)
        for setting in SETTINGS
    ],
)
def test_every_code_point(lowercase: bool, strip_accents: bool) -> None:
    reference = reference_words(lowercase, strip_accents)
    basic = BasicTokenizer(lowercase, strip_accents)
    codes = [*range(0xD800), *range(0xE000, 0x110000)]
    for start in range(0, len(codes), 4096):
        # Letters on both sides show whether a character separates, vanishes or joins.
        block = [chr(code) for code in codes[start : start + 4096]]
        text = "a".join(["", *block, ""])
        if basic.words(text) != reference(text):
            differing = [
                f"U+{ord(character):04X}"
                for character in block
                if basic.words(f"a{character}a") != reference(f"a{character}a")
            ]
            pytest.fail(f"{', '.join(differing)}: {REFREEZE}")


def test_marks_are_sorted_in_the_same_order() -> None:
    """All pairs of marks that stripping keeps, with dropped characters of each kind in between."""
    reference, basic = reference_words(True, True), BasicTokenizer(True, True)
    kept = [chr(code) for code in character_table().order]
    for between in ("", "\u0323", "\u034f", "\u200b", "A"):
        text = " ".join(f"a{first}{between}{second}" for first in kept for second in kept)
        assert basic.words(text) == reference(text), REFREEZE


# Latin, Greek, Cyrillic, Arabic, Devanagari, Thai, jamo, Vietnamese, punctuation, kana, some
# ideographs, syllables, presentation forms, private use, musical signs, emoji, more ideographs.
RANGES = [
    (0x00, 0x24F),
    (0x300, 0x3FF),
    (0x400, 0x45F),
    (0x600, 0x6FF),
    (0x900, 0x97F),
    (0xE00, 0xE7F),
    (0x1100, 0x11FF),
    (0x1E00, 0x1EFF),
    (0x2000, 0x206F),
    (0x3000, 0x30FF),
    (0x4E00, 0x4E3F),
    (0xAC00, 0xAC3F),
    (0xF900, 0xF93F),
    (0xFE70, 0xFEFF),
    (0xE000, 0xE010),
    (0x1D157, 0x1D172),
    (0x1F600, 0x1F64F),
    (0x20000, 0x20010),
    (0x2F800, 0x2F810),
]
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [
    chr(code)
    for first, last in RANGES
    for code in range(first, last + 1)
    if chr(code) not in " \n\r"
]
# The special tokens are scattered, so that no id is right by convention.
VOCABULARY = [
    "[MASK]",
    "[UNK]",
    "[unused0]",
    "[CLS]",
    "[SEP]",
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    "[PAD]",
    "the",
    "##ing",
    "ist",
    "istanbul",
]
FRAGMENTS = [
    *SPECIAL_TOKENS,
    *SPECIAL_TOKENS,
    "[mask]",
    "[[SEP]",
    "[MASK",
    "[unused0]",
    "İSTANBUL",
    "ısı",
    "ΟΔΟΣ",
    "the",
    "Running",
    "ك\u064eت",
    "می\u200cرود",
    "क्षि",
    "ไทย",
    "👩\u200d💻",
    "中文",
    " ",
    "\n",
    "\t",
    "\r\n",
    "x" * 99,
    "é" * 100,
    "e\u0301" * 60,
    "\u226e",
    "\u302e\u0301\U0001d165",
    "\U0001d15e\u302e",
]
TEXT = st.lists(
    st.one_of(
        st.sampled_from(FRAGMENTS),
        st.sampled_from(LETTERS),
        st.text(st.characters(codec="utf-8"), max_size=6),
    )
).map("".join)


@pytest.mark.parametrize(("lowercase", "strip_accents"), SETTINGS)
def test_ids_of_any_text_are_equal(tmp_path: Path, lowercase: bool, strip_accents: bool) -> None:
    write_tokenizer(tmp_path, VOCABULARY, lowercase, strip_accents, 128)
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)

    @given(TEXT)
    @settings(max_examples=400)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids

    check()


@pytest.mark.parametrize(("lowercase", "strip_accents"), [(True, True), (False, False)])
def test_ids_are_equal_with_tokens_for_zero_width_characters(
    tmp_path: Path, lowercase: bool, strip_accents: bool
) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (dependency group interop)"
    )
    write_tokenizer(tmp_path, VOCABULARY, lowercase, strip_accents, 128, zero_width=ZERO_WIDTH)
    reference = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    fast = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.zero_width == ZERO_WIDTH

    @given(st.lists(st.one_of(st.sampled_from([*ZERO_WIDTH, *FRAGMENTS]), TEXT)).map("".join))
    @settings(max_examples=200)
    def check(text: str) -> None:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == fast(text, add_special_tokens=False)["input_ids"]

    check()
    assert len(tokenizer.encode("می\u200cرود")) == len(tokenizer.encode("می رود")) + 1
    # What transformers saves is read back.
    fast.save_pretrained(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert again.encode("a\u200cb \u200b") == tokenizer.encode("a\u200cb \u200b")


@pytest.mark.parametrize(("lowercase", "strip_accents"), SETTINGS)
def test_transformers_loads_the_directory(
    tmp_path: Path, lowercase: bool, strip_accents: bool
) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (dependency group interop)"
    )
    write_tokenizer(tmp_path, VOCABULARY, lowercase, strip_accents, 77)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert theirs.is_fast
    assert theirs.model_max_length == 77
    assert len(theirs) == len(VOCABULARY)
    assert (
        theirs.pad_token_id,
        theirs.unk_token_id,
        theirs.cls_token_id,
        theirs.sep_token_id,
        theirs.mask_token_id,
    ) == (ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id)
    first, second = "İSTANBUL'da RUNNING é [MASK] ΟΔΟΣ", "中文 ไทย " + "x" * 101
    pair = theirs(first, second)
    assert ours.unk_id not in ours.encode(first)
    assert theirs(first)["input_ids"] == [ours.cls_id, *ours.encode(first), ours.sep_id]
    assert pair["input_ids"] == [
        ours.cls_id,
        *ours.encode(first),
        ours.sep_id,
        *ours.encode(second),
        ours.sep_id,
    ]
    assert pair["token_type_ids"] == [0] * (len(ours.encode(first)) + 2) + [1] * (
        len(ours.encode(second)) + 1
    )
    for text in FRAGMENTS:
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)
    assert (
        theirs.decode(theirs("the running", add_special_tokens=False)["input_ids"]) == "the running"
    )


NAMED_CASES = [
    "ıspanak İSTANBUL ISI iğne I\u0307",  # dotless and dotted i
    "ὈΔΥΣΣΕΎΣ ΣΑΣ σας",  # final sigma
    "كَتَبَ الكِتابَ ـــ لِلْكُتُبِ",  # vowel signs and tatweel
    "می\u200cروند کتاب\u200cها",  # zero-width non-joiner
    "\U00020000\U0002a6d6 \U0002b820\U0002b920 \U0002ceb0\U00030000龘",  # beyond the basic plane
    "ภาษาไทยไม่มีช่องว่าง กำลัง",
    "👩\u200d🚀👍🏽🇹🇷❤️😂😂",
    " ".join("ş" * length for length in (90, 99, 100, 101, 150, 200, 201, 300)),
    "a\x00b\x07c\x7fd\u0085e\ufeff\ufffd\u00adf",  # controls and format characters
    "x\ue000y \U000f0000z \U0010fffd",  # private use
]


@pytest.mark.parametrize(("lowercase", "strip_accents"), SETTINGS)
def test_ids_are_equal_with_a_trained_vocabulary(
    tmp_path: Path, lowercase: bool, strip_accents: bool
) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (dependency group interop)"
    )
    basic = BasicTokenizer(lowercase, strip_accents)
    texts = [synthetic_text(language, 200, 1) for language in LANGUAGES]
    lines = "".join(texts).splitlines() + NAMED_CASES
    words = Counter(word for line in lines for word in basic.words(line))
    vocabulary, _ = from_sentencepiece(words, words, basic, "bpe", 1500, 1.0, 64)
    write_tokenizer(tmp_path, vocabulary, lowercase, strip_accents, 512)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    # Only words over the length limit are unknown.
    unknown = ours.encode(" ".join(lines)).count(ours.unk_id)
    assert unknown == sum(count for word, count in words.items() if len(word) > 100)
    unseen = [synthetic_text(language, 50, 2) for language in LANGUAGES]
    for line in [*"".join(unseen).splitlines(), *NAMED_CASES]:
        assert theirs(line, add_special_tokens=False)["input_ids"] == ours.encode(line)


def test_a_directory_written_by_transformers_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed (dependency group interop)"
    )
    write_tokenizer(tmp_path, VOCABULARY, True, False, 128)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path / "saved")
    ours = load_tokenizer(tmp_path / "saved")
    # A token of white space matches no word, and vocab.txt could not hold it.
    expected = [
        token if token == token.strip(" \t\r") else f"[unused-id-{number}]"
        for number, token in enumerate(VOCABULARY)
    ]
    assert (ours.vocabulary, ours.lowercase, ours.strip_accents) == (expected, True, False)
