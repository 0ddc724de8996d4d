"""Tokenizers that the library runs: its ids on every text, and the words their tokens belong to."""

import json
import re

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lib.run.errors import UserError
from lib.vocab import library_tokenizer
from lib.vocab.directory import read_directory, refuse_disagreement
from lib.vocab.loading import load_tokenizer
from lib.vocab.tokenizer import CONTINUES_WORD
from lib.vocab.word_marks import continues_by_offsets
from tests.helpers.library_tokenizers import KINDS, training_text, write_library_tokenizer

PIECES = st.sampled_from(
    [
        *("the", "cats", "sat", " ", " ", "  ", "\t", "\r", ".", ",", "'", "'s", "don't", "(", ")"),
        *("naïve", "e\u0301", "İ", "ﬁ", "…", "“", "’", "ﱞ", "\u0958", "ｱﾞ", "½", "⑴", "_", "\u00a0"),
        *("[MASK]", "<mask>", "[unused1]", "|||IP_ADDRESS|||", "   ", "汉字", "，", "😀", "👨‍👩‍👧"),
        *(
            "\u200b",
            "\u200d",
            "\ufeff",
            "\x1f",
            "\x00",
            "▁",
            "Ġ",
            "ক্ষ",
            "नि",
            "가",
            "각",
            "ไทย",
            "#",
            "12",
            "3.14",
        ),
    ]
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\n")
TEXTS = st.lists(st.one_of(PIECES, CHARACTERS), max_size=25).map("".join)


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """Our tokenizer and the library's, of one folder."""
    folder = write_library_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    return load_tokenizer(folder), tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def assert_equal_ids(pair, lines):
    ours, library = pair
    ids, offsets = ours.encode_lines("".join(f"{line}\n" for line in lines))
    expected = [each.ids for each in library.encode_batch(lines, add_special_tokens=False)]
    assert np.diff(offsets).tolist() == [len(each) for each in expected]
    assert ids.tolist() == [number for each in expected for number in each]


def lines_of(form, codes):
    """A line with each of the characters; without surrogates and newline."""
    return [form.format(chr(code)) for code in codes if not 0xD800 <= code < 0xE000 and code != 10]


def test_ids_of_a_text_are_the_librarys(pair):
    assert_equal_ids(pair, training_text())
    # Once more, from the cache.
    assert_equal_ids(pair, training_text())


@settings(max_examples=300, deadline=None)
@given(lines=st.lists(TEXTS, min_size=1, max_size=6))
@example(lines=["", " ", "  a", " a", "a ", "a  b", "a [MASK] b", "a[MASK] b", " [MASK]"])
@example(lines=["(word) (word, word), 'tis o'clock don't. it's", "İ, ̇, e\u0301, \u0958, ½,"])
def test_ids_of_any_text_are_the_librarys(pair, lines):
    assert_equal_ids(pair, lines)


@pytest.mark.parametrize("form", ["a{0}b {0} {0}. ,{0} {0}c", "{0}"])
def test_ids_of_all_sorts_of_characters_are_the_librarys(pair, form):
    assert_equal_ids(pair, lines_of(form, [*range(0x3000), *range(0x3000, 0x110000, 97)]))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["a{0}b {0} {0}. ,{0} {0}c", "{0}", "1{0} ({0}) '{0}"])
def test_ids_of_every_character_are_the_librarys(pair, form):
    for start in range(0, 0x110000, 0x4000):
        codes = range(start, start + 0x4000)
        lines = [
            form.format(chr(code)) for code in codes if not 0xD800 <= code < 0xE000 and code != 10
        ]
        assert_equal_ids(pair, lines)


def test_ids_do_not_depend_on_how_much_is_cached(pair, monkeypatch):
    monkeypatch.setattr("lib.vocab.tokenizer._MAX_CACHED_SPANS", 20)
    monkeypatch.setattr("lib.vocab.tokenizer._CHUNK_CHARACTERS", 300)
    monkeypatch.setattr(library_tokenizer, "_MANY_SPANS", 5)
    assert_equal_ids(pair, training_text())


@settings(max_examples=300, deadline=None)
@given(line=TEXTS)
@example(line="don't swim, naïve e\u0301te\u0301 (unbelievable) 汉字 😀x ▁")
def test_the_words_of_tokens_are_those_of_their_offsets(pair, line):
    ours, library = pair
    marked, _ = ours.encode_marked_lines(f"{line}\n")
    encoding = library.encode(line, add_special_tokens=False)
    # Unigram gives all bytes of neighbouring characters without a token the same offsets.
    assume(not any(token.startswith("<0x") for token in encoding.tokens))
    found = ((marked & CONTINUES_WORD) != 0).tolist()
    assert found == continues_by_offsets(line, encoding.offsets)


def test_tokens_that_continue_a_word_are_those_within_letters():
    """An independent rule for plain text: a token continues a word if it begins between letters."""
    text = "don't swim, unbelievable cats (early) 3.14"
    offsets = [(0, 2), (2, 3), (3, 5), (5, 8), (8, 10), (10, 11), (11, 16), (16, 24)]
    expected = [
        bool(start and re.match(r"\w\w", text[start - 1 : start + 1])) for start, _ in offsets
    ]
    assert continues_by_offsets(text, offsets) == expected
    # A space alone belongs to the word after it, and so do the bytes of one character.
    assert continues_by_offsets("a é", [(0, 1), (1, 2), (2, 3), (2, 3)]) == [
        False,
        False,
        True,
        True,
    ]


def test_words_by_themselves_are_as_in_a_line(pair):
    ours, library = pair
    words = ["cats", "unbelievable", "naïve", "汉字", "x"]
    context = len(library.encode("x", add_special_tokens=False).ids)
    for word, ids in zip(words, ours.encode_words(words), strict=True):
        assert ids == library.encode(f"x {word}", add_special_tokens=False).ids[context:]


def test_special_tokens_are_read_from_the_files(pair):
    ours, library = pair
    names = ["<pad>", "<s>", "</s>", "<mask>", "<unk>"]
    if library.token_to_id("<s>") is None:
        names = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]"]
    ids = [library.token_to_id(name) for name in names]
    assert [ours.pad_id, ours.cls_id, ours.sep_id, ours.mask_id, ours.unk_id] == ids


def edit(path, change):
    values = json.loads(path.read_text("utf-8"))
    change(values)
    path.write_text(json.dumps(values), "utf-8")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokenizer_config.json", lambda v: v.pop("mask_token"), "no mask_token"),
        ("tokenizer_config.json", lambda v: v.pop("pad_token"), "no pad_token"),
        (
            "tokenizer_config.json",
            lambda v: v.update(mask_token="<other>"),
            "mask_token is '<other>', which is not a token of tokenizer.json",
        ),
        (
            "tokenizer_config.json",
            lambda v: v.update(cls_token="<pad>"),
            "cls_token is '<pad>', but tokenizer.json puts '<s>' there",
        ),
        ("tokenizer.json", lambda v: v["model"].update(type="WordLevel"), "model.type should be"),
        (
            "tokenizer.json",
            lambda v: v["model"].update(vocab={}),
            "the library tokenizers cannot read it",
        ),
        ("tokenizer.json", lambda v: v.update(normalizer={"type": "X"}), "cannot read it"),
        (
            "tokenizer_config.json",
            lambda v: v.update(added_tokens_decoder={"9999": {"content": "covid"}}),
            "added_tokens_decoder has 'covid' with the id 9999, but in tokenizer.json it has none",
        ),
    ],
)
def test_what_is_missing_or_contradicts_is_refused(tmp_path, name, change, message):
    write_library_tokenizer("unigram", tmp_path)
    edit(tmp_path / name, change)
    with pytest.raises(UserError) as caught:
        read_directory(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / name}: ") and "\n" not in str(caught.value)


def test_without_a_post_processor_the_ends_of_a_text_must_be_named(tmp_path):
    write_library_tokenizer("unigram", tmp_path)
    edit(tmp_path / "tokenizer.json", lambda v: v.pop("post_processor"))
    with pytest.raises(UserError, match=r"no cls_token \(the token for the start of a sequence\)"):
        read_directory(tmp_path)
    config = {"cls_token_id": 2, "sep_token_id": 3}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    assert read_directory(tmp_path).library.special["cls"] == "<s>"


def test_what_is_written_gives_the_same_ids_and_special_tokens(pair, tmp_path):
    ours, _ = pair
    ours.write(tmp_path, 128, segments=False)
    again = load_tokenizer(tmp_path)
    assert again.vocabulary == ours.vocabulary
    assert again.files.special == ours.files.special
    text = "".join(f"{line}\n" for line in training_text()[-3:])
    assert again.encode(text) == ours.encode(text)
    refuse_disagreement(tmp_path)
    listing = (tmp_path / "vocab.txt").read_text("utf-8").splitlines()
    assert len(listing) == len(ours.vocabulary)
    listing[20], listing[21] = listing[21], listing[20]
    (tmp_path / "vocab.txt").write_text("\n".join(listing) + "\n", "utf-8")
    with pytest.raises(UserError, match=r"does not list the tokens of tokenizer\.json"):
        refuse_disagreement(tmp_path)
