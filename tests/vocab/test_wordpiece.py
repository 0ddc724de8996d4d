"""WordPiece against its definition."""

from hypothesis import given
from hypothesis import strategies as st

from lib.vocab.wordpiece import WordPiece
from tests.helpers.vocabulary import greedy_split


@given(
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=12),
    st.lists(st.text("abcd", min_size=1, max_size=9), min_size=1, max_size=8),
)
def test_splits_equal_those_of_the_definition(texts, words):
    vocabulary = sorted({"a", "##a", *texts, *(f"##{text}" for text in texts[::2])})
    wordpiece = WordPiece({token: token_id for token_id, token in enumerate(vocabulary)})
    for word in words:
        split = wordpiece.split(word)
        found = ["[UNK]"] if split is None else [vocabulary[token_id] for token_id in split]
        assert found == greedy_split(word, set(vocabulary))
        prefixes = [word[:end] for end in range(len(word), 0, -1) if word[:end] in vocabulary]
        assert wordpiece.longest_prefix(word) == (prefixes[0] if prefixes else None)


def test_the_longest_token_is_taken_and_there_is_no_backtracking():
    vocabulary = ["un", "aff", "##a", "##aff", "##able", "##e", "##n"]
    wordpiece = WordPiece({token: token_id for token_id, token in enumerate(vocabulary)})
    splits = [wordpiece.split(word) for word in ("unaffable", "unable", "affe", "unaffx")]
    assert splits == [[0, 3, 4], [0, 4], [1, 5], None]
