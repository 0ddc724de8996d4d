"""Words of a text, and which of them are masked."""

import math
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation.masked_words import WordFinder, masked_words
from lib.vocab.settings import ZERO_WIDTH
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.held_out import LARGE, PROBABILITY, SEED, SMALL

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=40)


@given(
    TEXT, st.booleans(), st.sampled_from(["", "[MASK]", " naïve\u0301x ", "\u212b;\u037e", "中文a"])
)
@settings(max_examples=150)
def test_the_tokens_of_the_words_are_the_tokens_of_the_text(text, lowercase, more):
    text += more
    tokenizer = LARGE if lowercase else SMALL
    words = WordFinder().words(text)
    assert [token for word in words for token in tokenizer.encode(word)] == tokenizer.encode(text)


@given(st.text("abÉ.中 \u0301\u200b\u200c", max_size=20))
@settings(max_examples=150)
def test_zero_width_characters_stay_with_their_words(text):
    # Alone between spaces they are no word.
    text = re.sub("(?<![^ ])[\u200b\u200c]+(?![^ ])", "", text)
    words = WordFinder().words(text)
    bare = re.sub("[\u200b\u200c]", "", text)
    assert [re.sub("[\u200b\u200c]", "", word) for word in words] == WordFinder().words(bare)
    vocabulary = [*SMALL.vocabulary, *ZERO_WIDTH]
    tokens_for_them = WordPieceTokenizer(vocabulary, False, False, zero_width=ZERO_WIDTH)
    for tokenizer in (tokens_for_them, SMALL):
        tokens = [token for word in words for token in tokenizer.encode(word)]
        assert tokens == tokenizer.encode(text)


@given(TEXT, TEXT)
@settings(max_examples=60)
def test_words_do_not_depend_on_the_text_after_them(one, two):
    finder = WordFinder()
    assert finder.words(one + " " + two) == finder.words(one) + finder.words(two)


def test_masking_depends_only_on_the_document_and_the_number_of_the_word():
    masked = masked_words(b"one document\n", 100_000, PROBABILITY, SEED)
    assert (masked_words(b"one document\n", 10, PROBABILITY, SEED) == masked[:10]).all()
    # Five standard deviations.
    assert abs(masked.mean() - PROBABILITY) < 5 * math.sqrt(
        PROBABILITY * (1 - PROBABILITY) / 100_000
    )
    other = masked_words(b"another document\n", 100_000, PROBABILITY, SEED)
    both = (masked & other).mean()
    assert abs(both - PROBABILITY**2) < 5 * math.sqrt(PROBABILITY**2 / 100_000)
    # With a higher probability the same words are masked, and more.
    assert not (masked & ~masked_words(b"one document\n", 100_000, 0.3, SEED)).any()
