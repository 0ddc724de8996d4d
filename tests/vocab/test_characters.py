"""The basic tokenizer on text that is easy to get wrong."""

import pytest

from lib.vocab.characters import BasicTokenizer

# (text, words in lower case without accents, words with both settings off)
CASES = [
    ("", [], []),
    (" \t\r\n ", [], []),
    ("?", ["?"], ["?"]),
    ("The cat's", ["the", "cat", "'", "s"], ["The", "cat", "'", "s"]),
    ("Crème BRÛLÉE", ["creme", "brulee"], ["Crème", "BRÛLÉE"]),
    ("e\u0301", ["e"], ["e\u0301"]),
    # Regardless of locale the Turkish İ loses its dot, and the dotless ı stays.
    ("İSTANBUL ısı", ["istanbul", "ısı"], ["İSTANBUL", "ısı"]),
    # Python's str.lower would give a final sigma.
    ("ΟΔΟΣ", ["οδοσ"], ["ΟΔΟΣ"]),
    ("می\u200cخواهم", ["میخواهم"], ["میخواهم"]),
    ("كِتَابٌ أب", ["كتاب", "اب"], ["كِتَابٌ", "أب"]),
    ("a中文b", ["a", "中", "文", "b"], ["a", "中", "文", "b"]),
    ("a\U00020000b", ["a", "\U00020000", "b"], ["a", "\U00020000", "b"]),
    # A compatibility ideograph decomposes to another ideograph, here one beyond the BMP.
    ("a\ufa6cb", ["a", "\U000242ee", "b"], ["a", "\ufa6c", "b"]),
    ("한국어", ["한국어"], ["한국어"]),
    ("ok😀😀", ["ok😀😀"], ["ok😀😀"]),
    ("👩\u200d💻", ["👩💻"], ["👩💻"]),
    ("a\ue000\ufffd\x00\x85\u00adb", ["ab"], ["ab"]),
    ("a\u2028b\u00a0c\u3000d\x0be", ["a", "b", "c", "de"], ["a", "b", "c", "de"]),
    ("$5=5 x^2", ["$", "5", "=", "5", "x", "^", "2"], ["$", "5", "=", "5", "x", "^", "2"]),
    # Stripping turns a sign that is not punctuation (not less-than) into one that is (<).
    ("a\u226eb", ["a", "<", "b"], ["a\u226eb"]),
    # Marks that are kept are sorted, even across a mark that is dropped ...
    ("a\u302e\u0301\U0001d165", ["a\U0001d165\u302e"], ["a\u302e\u0301\U0001d165"]),
    # ... unless that one has combining class 0.
    ("a\u302e\u034f\U0001d165", ["a\u302e\U0001d165"], ["a\u302e\u034f\U0001d165"]),
]


def decomposed(words: list[str]) -> list[str]:
    """The words with 한국어 decomposed into jamo, as accent stripping does."""
    jamo = "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"
    return [jamo if word == "한국어" else word for word in words]


@pytest.mark.parametrize(("text", "stripped", "unchanged"), CASES)
def test_words(text: str, stripped: list[str], unchanged: list[str]) -> None:
    assert BasicTokenizer(True, True).words(text) == decomposed(stripped)
    assert BasicTokenizer(False, False).words(text) == unchanged


def test_case_and_accents_are_separate_settings() -> None:
    assert BasicTokenizer(True, False).words("ŞİŞ É") == ["şi\u0307ş", "é"]
    assert BasicTokenizer(False, True).words("ŞİŞ É") == ["SIS", "E"]
