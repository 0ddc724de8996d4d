"""Shingles: words of many scripts, and hashes that do not depend on blocks."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lib.text.dedup import shingles as shingle_module
from lib.text.dedup.shingles import shingles
from tests.helpers.similarity import word_runs


def shingle_sets(documents):
    sets = []
    for hashes, offsets in shingles(documents):
        sets += [set(hashes[start:past].tolist()) for start, past in pairwise(offsets)]
    return sets


ascii_texts = st.lists(
    st.sampled_from(["a", "b", "cc", "c", "aB", "7", " ", " ", ", ", "\n", "-", "."]), max_size=25
).map("".join)


@given(st.lists(ascii_texts, max_size=6))
@example(["", "", "a"])
@example(["...", "a b", "?"])
def test_shingles_are_the_runs_of_three_words(texts):
    sets = shingle_sets([text.encode() for text in texts])
    runs = [word_runs(text) for text in texts]
    assert [len(each) for each in sets] == [len(each) for each in runs]
    for one, one_runs in zip(sets, runs, strict=True):
        for other, other_runs in zip(sets, runs, strict=True):
            assert len(one & other) == len(one_runs & other_runs)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, WORLD!\nHow are you?\n", "hello world how are you\n"),
        ("Ağaç ÇİÇEK Σοφός", "ağaç çiçek σοφόσ"),
        ("今天很好。你呢？", "今天很好 你呢"),
        ("so good 🎉❤️", "so good 🎉❤"),
        ("ＡＢＣ　１２３ x", "ａｂｃ １２３ x"),
    ],
)
def test_case_punctuation_and_emoji_variants_do_not_count(one, other):
    first, second = shingle_sets([one.encode(), other.encode()])
    assert first == second


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("今天很好你呢", 4),  # six words of one character each
        ("สวัสดี", 4),
        ("tokyo東京tower", 2),  # tokyo, 東, 京, tower
        ("🎉🎉🎊🎊🎉", 3),
        ("naïve café größe", 1),
        ("می‌خواهم بروم", 1),
    ],
)
def test_words_of_scripts_without_spaces_are_single_characters(text, count):
    assert [len(each) for each in shingle_sets([text.encode()])] == [count]


def test_order_and_count_of_words_matter_in_short_documents():
    sets = shingle_sets([b"a b", b"b a", b"a", b"a a", b"ab", b"a a a", b":)", b":("])
    assert len({frozenset(each) for each in sets}) == 8


@given(st.lists(st.text(max_size=30), max_size=12), st.sampled_from([1, 7, 20, 64]))
def test_shingles_do_not_depend_on_blocks(texts, block):
    documents = [text.encode() for text in texts]
    whole = shingle_sets(documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shingle_module, "_BLOCK_CHARACTERS", block)
        shingle_module._block_powers.cache_clear()
        try:
            assert shingle_sets(documents) == whole
        finally:
            shingle_module._block_powers.cache_clear()


def test_only_the_beginning_of_a_very_long_document_counts(monkeypatch):
    monkeypatch.setattr(shingle_module, "_MAX_BYTES", 8)
    # The limit cuts the second character of two bytes in half.
    assert shingle_sets(["one twoéé three".encode()]) == shingle_sets([b"one two"])
