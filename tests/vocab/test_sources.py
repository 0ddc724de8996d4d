"""Vocabularies from every source: no unknown words in training text, and the size asked for."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.samples.languages import LANGUAGES, synthetic_text
from lib.vocab import words as words_module
from lib.vocab.characters import BasicTokenizer
from lib.vocab.export import write_tokenizer
from lib.vocab.report import unreachable_tokens
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.sources import existing_tokenizer, from_characters
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from lib.vocab.words import count_words
from tests.helpers.vocabulary import (
    CASED,
    UNCASED,
    basic_tokenizer,
    greedy_split,
    make_vocabulary,
    word_counts,
)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_word_of_the_training_text_is_unknown(language, algorithm):
    basic = basic_tokenizer(language)
    words = word_counts(synthetic_text(language, 1500, 1), basic)
    vocabulary = make_vocabulary(basic, words, 900, algorithm)
    assert vocabulary[:5] == list(SPECIAL_TOKENS)
    assert len(set(vocabulary)) == len(vocabulary) <= 900
    tokens = set(vocabulary)
    assert not any("[UNK]" in greedy_split(word, tokens) for word in words)
    heldout = word_counts(synthetic_text(language, 300, 2), basic)
    unknown = sum(count for word, count in heldout.items() if "[UNK]" in greedy_split(word, tokens))
    assert unknown <= 0.0005 * heldout.total()


@settings(max_examples=30)
@given(
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["bpe", "unigram"]),
)
def test_any_text_can_be_spelt(texts, lowercase, strip_accents, algorithm):
    basic = BasicTokenizer(lowercase, strip_accents)
    words = word_counts("\n".join(texts), basic)
    if not words:
        return
    vocabulary = make_vocabulary(basic, words, 2000, algorithm)
    tokens = set(vocabulary)
    assert len(tokens) == len(vocabulary)
    assert not tokens & {"", "##"}
    tokenizer = WordPieceTokenizer(vocabulary, lowercase, strip_accents)
    for word in words:
        split = tokenizer.wordpiece.split(word)
        assert split is not None
        assert [vocabulary[token_id] for token_id in split] == greedy_split(word, tokens)
    assert not unreachable_tokens(tokenizer)


def test_the_vocabulary_has_exactly_the_size_if_the_text_suffices():
    words = word_counts(synthetic_text("turkish", 800, 1), CASED)
    for size in (300, 301, 477):
        for algorithm in ("bpe", "unigram"):
            assert len(make_vocabulary(CASED, words, size, algorithm)) == size


def test_a_small_text_gives_the_largest_possible_vocabulary():
    words = word_counts("a small text, small indeed\n", UNCASED)
    vocabulary = make_vocabulary(UNCASED, words, 30_000)
    assert len(vocabulary) < 200 and len(vocabulary) % 8 == 0
    tokens = set(vocabulary)
    assert all(greedy_split(word, tokens) == [word] for word in words)
    unused = [token for token in vocabulary if token.startswith("[unused")]
    assert unused == [f"[unused{number}]" for number in range(len(unused))]


def test_the_smallest_size_is_reported_and_works():
    words = word_counts(synthetic_text("turkish", 50, 1), CASED)
    with pytest.raises(UserError, match=r"vocab\.size: 20 cannot hold") as caught:
        make_vocabulary(CASED, words, 20)
    smallest = int(re.search(r"at least (\d+)", str(caught.value))[1])
    vocabulary = make_vocabulary(CASED, words, smallest)
    assert len(vocabulary) == smallest
    assert not any("[UNK]" in greedy_split(word, set(vocabulary)) for word in words)
    with pytest.raises(UserError):
        make_vocabulary(CASED, words, smallest - 1)


def test_characters_that_sentencepiece_reserves_are_still_covered():
    words = Counter({"a▁b": 5, "▅x": 3, "plain": 9, "▁": 2})
    tokens = set(make_vocabulary(CASED, words, 100))
    assert all("[UNK]" not in greedy_split(word, tokens) for word in words)


def test_words_not_trained_on_can_be_spelt():
    words = {"hello": 10, "xyzzy": 10}
    vocabulary = set(make_vocabulary(CASED, words, 100, trained={"hello": 10}))
    assert "hello" in vocabulary and "xyzzy" not in vocabulary
    assert greedy_split("xyzzy", vocabulary) == ["x", "##y", "##z", "##z", "##y"]


def test_characters_below_the_minimum_frequency_are_dropped():
    words = {"中": 5, "国": 3, "龘": 2, "ab": 4}
    assert from_characters(words, CASED, 100, 3) == [
        *SPECIAL_TOKENS,
        *["中", "a", "##a", "b", "##b", "国"],
        *[f"[unused{number}]" for number in range(5)],
    ]
    with pytest.raises(UserError, match=r"set at least 11, or raise vocab\.min_frequency"):
        from_characters(words, CASED, 10, 3)


def test_vocabularies_are_equal_in_all_runs_and_for_any_number_of_workers(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text(synthetic_text("turkish", 600, 1), encoding="utf-8")
    monkeypatch.setattr(words_module, "_MIN_CHUNK_BYTES", 1 << 12)
    for algorithm in ("bpe", "unigram"):
        vocabularies = []
        for workers in (1, 1, 1, 2, 5):
            counted = count_words(text, CASED, None, workers)
            vocabularies.append(make_vocabulary(CASED, counted.words, 400, algorithm))
        assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)


def test_settings_that_differ_from_the_models_are_refused(tmp_path):
    write_tokenizer(tmp_path, [*SPECIAL_TOKENS, "a"], True, False, 128)
    with pytest.raises(UserError, match=r"vocab\.strip_accents: true, but .* has false"):
        existing_tokenizer("extend", tmp_path, UNCASED)
    with pytest.raises(UserError, match=r"vocab\.lowercase: false, but .* has true"):
        existing_tokenizer("model", tmp_path, CASED)
