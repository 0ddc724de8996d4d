"""Word counts equal those of the basic tokenizer."""

from collections import Counter

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.vocab.characters import BasicTokenizer
from lib.vocab.settings import SPECIAL_TOKENS
from lib.vocab.words import count_words
from tests.helpers.vocabulary import UNCASED


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=20), st.booleans(), st.integers(1, 40))
def test_counts_equal_those_of_the_basic_tokenizer(tmp_path_factory, texts, lowercase, limit):
    lines = [text.replace("\n", " ").replace("\r", " ") for text in texts]
    assume(not any(token in line for token in SPECIAL_TOKENS for line in lines))
    path = tmp_path_factory.mktemp("counts") / "text.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    basic = BasicTokenizer(lowercase, lowercase)
    counted = count_words(path, basic, limit, 1)
    assert counted.words == Counter(word for line in lines for word in basic.words(line))
    assert counted.characters == sum(map(len, lines))
    assert counted.sentences == len(lines)
    short = [line for line in lines if len(line) <= limit]
    assert counted.long_sentences == len(lines) - len(short)
    assert counted.without_long_sentences() == Counter(
        word for line in short for word in basic.words(line)
    )


def test_special_tokens_in_the_text_are_not_counted(tmp_path):
    (tmp_path / "t").write_text("a [MASK] b [mask]\n[SEP]\n", encoding="utf-8")
    assert count_words(tmp_path / "t", UNCASED, None, 1).words == Counter(
        {"a": 1, "b": 1, "[": 1, "mask": 1, "]": 1}
    )
