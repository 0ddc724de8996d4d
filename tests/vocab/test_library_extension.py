"""Domain words added to a tokenizer that the library runs."""

import json
import re
from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.vocab.library_extension import extend_library
from lib.vocab.loading import load_tokenizer
from tests.helpers.library_tokenizers import KINDS, training_text, write_library_tokenizer

WORDS = Counter(lockdown=50, lockdowns=9, Covid=40, quarantine=30, zz=1, the=900, mRNA=20)


@pytest.fixture(scope="module", params=KINDS)
def extended(request, tmp_path_factory):
    """The base, its extension, and what was added."""
    base = load_tokenizer(
        write_library_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    )
    size = len(base.vocabulary) + 4
    words = Counter({word.lower(): n for word, n in WORDS.items()}) if base.lowercase else WORDS
    return base, *extend_library(base, words, size, 5)


def test_every_old_token_keeps_its_id_and_new_words_are_one_token(extended):
    base, tokenizer, extension = extended
    new = {token.token: token for token in extension.new_tokens}
    assert {"lockdown", "quarantine"} <= new.keys() and "zz" not in new and "the" not in new
    for number, token in enumerate(base.vocabulary):
        assert tokenizer.vocabulary[number] in (token, *new)
    for word, token in new.items():
        # With a space before it, at the beginning of a line, before punctuation.
        for text in (f"a {word} b", word, f"({word})", f"x {word}, y"):
            assert tokenizer.encode(text).count(token.id) == 1
        assert list(token.base_ids) == next(base.encode_words([word]))
        assert token.log_fraction <= 0
        spelt = base.encode(f"a {word}")
        assert tokenizer.encode(f"a {word}") == [*spelt[: -len(token.base_ids)], token.id]


def test_unused_entries_are_taken_first(extended):
    base, _, extension = extended
    unused = [n for n, token in enumerate(base.vocabulary) if re.match(r"\[unused\d", token)]
    expected = [*unused, *range(len(base.vocabulary), len(base.vocabulary) + 4)]
    assert [token.id for token in extension.new_tokens] == expected[: len(extension.new_tokens)]


PIECES = st.sampled_from(
    [
        "lockdownx",
        "xlockdown",
        "locks",
        "down",
        "covid19",
        "lock_down",
        "(",
        ")",
        ",",
        "the",
        "quarantined",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(PIECES, st.sampled_from([" ", "  ", "-", "\t"]), st.text(max_size=3)), max_size=12
    )
)
def test_text_without_the_words_is_split_as_before(extended, pieces):
    base, tokenizer, extension = extended
    text = "".join(pieces).replace("\n", "")
    new = {token.token.lower() for token in extension.new_tokens}
    if not new & set(re.findall(r"\w+", text.lower())):
        assert tokenizer.encode(text) == base.encode(text)


def test_the_librarys_own_ids_are_the_same(extended, tmp_path):
    _, tokenizer, extension = extended
    tokenizer.write(tmp_path, 128, segments=False)
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    words = [token.token for token in extension.new_tokens]
    lines = [*training_text()[-3:], f"the {words[0]} of {words[1]}, {words[0]}s ({words[-1]})"]
    for line in lines:
        assert tokenizer.encode(line) == library.encode(line, add_special_tokens=False).ids
    assert load_tokenizer(tmp_path).vocabulary == tokenizer.vocabulary
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["mask_token"]


def test_a_size_below_the_base_is_refused(extended):
    base = extended[0]
    with pytest.raises(UserError, match=r"vocab\.size: 10 is smaller than the vocabulary"):
        extend_library(base, WORDS, 10, 1)
