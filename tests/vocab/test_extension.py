"""Extension: new words take unused entries first, and each is the one that saves the most."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.vocab.extension import extend
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.vocabulary import greedy_split

VOCABULARY = [
    *SPECIAL_TOKENS,
    "[unused0]",
    *[form + letter for letter in "abcdeilnorstuvwh" for form in ("", "##")],
    *["the", "nurse", "##ion", "co", "##vid", "lo", "##w"],
    "[unused1]",
]
WORDS = {"covid": 50, "covids": 20, "wuhan": 30, "the": 100, "nurse": 40, "🦠": 9, "lion": 2}


def test_new_words_take_unused_entries_first_and_no_id_changes():
    base = WordPieceTokenizer(list(dict.fromkeys(VOCABULARY)), True, True)
    size = len(base.vocabulary) + 1
    vocabulary, extension = extend(base, WORDS, size, 3)
    # covid saves one token 50 + 20 times, wuhan four tokens 30 times, and 🦠 one [UNK] 9 times.
    assert [new.token for new in extension.new_tokens] == ["wuhan", "covid", "covids"]
    assert [new.id for new in extension.new_tokens] == [5, len(base.vocabulary) - 1, size - 1]
    assert len(vocabulary) == size
    for token_id, token in enumerate(base.vocabulary):
        assert vocabulary[token_id] == token or token.startswith("[unused")
    uses = Counter(
        token for word in WORDS for token in greedy_split(word, set(base.vocabulary)) * WORDS[word]
    )
    for new in extension.new_tokens:
        base_tokens = [base.vocabulary[token_id] for token_id in new.base_ids]
        assert base_tokens == greedy_split(new.token, set(base.vocabulary))
        logs = [math.log(WORDS[new.token] / uses[token]) for token in base_tokens]
        assert new.log_fraction == pytest.approx(sum(logs) / len(logs), abs=1e-6)
        assert new.log_fraction <= 0


def test_unknown_words_are_added_and_rare_words_are_not():
    base = WordPieceTokenizer(list(dict.fromkeys(VOCABULARY)), True, True)
    vocabulary, extension = extend(base, WORDS, 1000, 3)
    words = {new.token: new.base_ids for new in extension.new_tokens}
    assert words["🦠"] == (base.unk_id,)
    assert "lion" not in words and "the" not in words
    assert len(vocabulary) == len(base.vocabulary) + len(words) - 2


def test_a_size_below_that_of_the_base_is_refused():
    base = WordPieceTokenizer(list(dict.fromkeys(VOCABULARY)), True, True)
    size = len(base.vocabulary)
    with pytest.raises(UserError, match=rf"set {size} to use only its 2 \[unusedN\] entries"):
        extend(base, WORDS, size - 1, 3)
    _, extension = extend(base, WORDS, size, 3)
    assert len(extension.new_tokens) == 2


@settings(max_examples=60)
@given(
    st.dictionaries(st.text("abco", min_size=1, max_size=5), st.integers(1, 20), max_size=12),
    st.integers(0, 4),
)
def test_each_new_word_is_the_one_that_saves_most(words, max_words):
    base = WordPieceTokenizer([*SPECIAL_TOKENS, "a", "##a", "ab", "b", "##b", "##c", "##ab"], 1, 1)
    size = len(base.vocabulary)
    vocabulary, extension = extend(base, words, size + max_words, 1)

    def cost(tokens: list[str]) -> int:
        splits = {word: greedy_split(word, set(tokens)) for word in words}
        return sum(
            count * (2 if splits[word] == ["[UNK]"] else len(splits[word]))
            for word, count in words.items()
        )

    assert vocabulary[:size] == base.vocabulary
    assert [new.token for new in extension.new_tokens] == vocabulary[size:]
    costs = [cost(vocabulary[:end]) for end in range(size, len(vocabulary) + 1)]
    assert all(later < earlier for earlier, later in pairwise(costs))
    if extension.new_tokens:
        best = min(cost([*base.vocabulary, word]) for word in words)
        assert costs[1] == best
    elif max_words:
        assert min([cost([*base.vocabulary, word]) for word in words], default=0) >= costs[0] or (
            all(word in base.vocabulary for word in words)
        )
