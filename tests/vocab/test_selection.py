"""Selection keeps the tokens that save the most."""

import pytest

from lib.samples.languages import synthetic_text
from lib.vocab.alphabet import closed_alphabet
from lib.vocab.selection import CANDIDATE_RATIO, select_tokens
from lib.vocab.training import train_sentencepiece, wordpiece_tokens
from tests.helpers.vocabulary import basic_tokenizer, greedy_split, word_counts


def token_count(words: dict[str, int], vocabulary: list[str]) -> int:
    tokens = set(vocabulary)
    return sum(count * len(greedy_split(word, tokens)) for word, count in words.items())


@pytest.mark.parametrize("language", ["turkish", "tweets"])
def test_selection_saves_tokens_on_held_out_text(language):
    basic = basic_tokenizer(language)
    words = word_counts(synthetic_text(language, 3000, 1), basic)
    heldout = word_counts(synthetic_text(language, 500, 2), basic)
    alphabet = closed_alphabet(sorted({letter for word in words for letter in word}), basic)
    tokens = wordpiece_tokens(train_sentencepiece(words, "bpe", 1000, 64))
    candidates = [token for token in tokens if len(token.removeprefix("##")) > 1]
    size = int(len(candidates) / CANDIDATE_RATIO)
    chosen = select_tokens(candidates, alphabet, words, size)
    assert len(chosen) == size
    assert chosen == [token for token in candidates if token in set(chosen)]
    by_rank = [*alphabet, *candidates[:size]]
    assert token_count(words, [*alphabet, *chosen]) < token_count(words, by_rank)
    assert token_count(heldout, [*alphabet, *chosen]) < token_count(heldout, by_rank)


def test_the_least_useful_tokens_are_dropped_first():
    alphabet = ["a", "b", "c", "##a", "##b", "##c"]
    words = {"abc": 10, "abca": 1}
    # With `abc`, `ab` is never used; `abca` saves one token once, `abc` two tokens 10 times.
    assert select_tokens(["ab", "abca", "abc"], alphabet, words, 2) == ["abca", "abc"]
    assert select_tokens(["ab", "abca", "abc"], alphabet, words, 1) == ["abc"]
    assert select_tokens(["ab"], alphabet, words, 5) == ["ab"]
