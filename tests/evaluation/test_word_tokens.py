"""Tokens of masked words: each masked word has its own, whatever the vocabulary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.evaluation.masked_words import WordFinder
from lib.evaluation.sequences import MaskedWordSequences
from lib.evaluation.word_tokens import word_tokens
from lib.vocab.loading import load_tokenizer
from tests.helpers.library_tokenizers import KINDS, training_text, write_library_tokenizer
from tests.helpers.project import sentences

LINES = [
    "don't swim (early), the cats... and “more”; x's [MASK] 3.14!",
    "Merhaba dünya, İstanbul’da 汉字，标点。 a\u200bb \x01control\x02s e\u0301te\u0301",
    "  leading (spaces)  and   trailing  ",
    "…",
    "",
]
words_of = WordFinder().words


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tmp_path_factory):
    folder = write_library_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    return load_tokenizer(folder)


def decoded(tokenizer, ids):
    return "".join(tokenizer._backend.decode(ids, skip_special_tokens=False).split())


@pytest.mark.parametrize("line", LINES)
def test_without_masked_words_the_tokens_are_those_of_the_line(tokenizer, line):
    words = words_of(line)
    found = word_tokens(tokenizer, line, words, [False] * len(words))
    if words:
        assert [number for ids in found for number in ids] == tokenizer.encode(line)
    assert len(found) == len(words)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(training_text()[-6:]), st.integers(0, 2**12))
def test_masked_words_have_tokens_of_their_own(tokenizer, line, bits):
    words = words_of(line)
    masked = [bool(bits >> n & 1) for n in range(len(words))]
    found = word_tokens(tokenizer, line, words, masked)
    if tokenizer.unk_id in (number for ids in found for number in ids):
        return
    for word, ids, is_masked in zip(words, found, masked, strict=True):
        if is_masked and word != "[MASK]":
            expected = tokenizer._backend.normalizer.normalize_str(word)
            assert decoded(tokenizer, ids) == expected
    # Nothing is lost on the way.
    text = decoded(tokenizer, [number for ids in found for number in ids])
    normalized = "".join(tokenizer._backend.normalizer.normalize_str(line).split())
    assert text.lower() == normalized.lower()


def test_every_vocabulary_is_evaluated_on_the_same_words(tmp_path):
    text = sentences(300, 7)
    shard = tmp_path / "00000.txt"
    shard.write_text(
        "".join(f"{line}\n\n" if n % 5 == 4 else f"{line}\n" for n, line in enumerate(text))
    )
    seen = {}
    for kind in KINDS:
        tokenizer = load_tokenizer(write_library_tokenizer(kind, tmp_path / kind))
        sequences = MaskedWordSequences(tokenizer, 64, 0.3, 1)
        batches = list(sequences.batches([shard], 10_000))
        characters = np.concatenate([batch.characters for batch in batches])
        documents = np.concatenate([batch.documents for batch in batches])
        seen[kind] = documents.tolist(), characters.tolist()
        assert sequences.counts["masked_words_without_tokens"] == 0
        for batch in batches:
            shown = np.take_along_axis(batch.input_ids, batch.positions, 1)
            assert (shown[batch.masked_tokens()] == tokenizer.mask_id).all()
    assert len(set(map(str, seen.values()))) == 1
