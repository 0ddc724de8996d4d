"""The alphabet: both forms of every character, and the rarest characters left out on request."""

from lib.vocab.alphabet import closed_alphabet, most_frequent_characters
from lib.vocab.settings import SPECIAL_TOKENS
from tests.helpers.vocabulary import CASED, make_vocabulary


def test_coverage_drops_only_the_rarest_characters():
    characters = {"e": 900, "a": 90, "z": 9, "q": 1}
    assert most_frequent_characters(characters, 1.0) == characters
    assert list(most_frequent_characters(characters, 0.99)) == ["e", "a"]
    assert list(most_frequent_characters(characters, 0.995)) == ["e", "a", "z"]
    words = {"ea": 500, "zq": 1, "ae": 400}
    vocabulary = make_vocabulary(CASED, words, 50, coverage=0.99)
    assert not any("q" in token for token in vocabulary if token not in SPECIAL_TOKENS)


def test_isolated_characters_have_one_form_and_all_others_two():
    assert closed_alphabet("aş.中", CASED) == ["a", "##a", "ş", "##ş", ".", "中"]
