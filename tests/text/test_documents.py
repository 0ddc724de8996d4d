"""Grouping lines into documents, and Google's input format."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text import documents as documents_module
from lib.text.documents import (
    CorpusText,
    SentenceGroups,
    format_document,
    gather,
    join_all,
    read_corpus,
)
from tests.helpers.corpus import sentence_lists


def test_lines_are_grouped_into_documents():
    text = ["", "a", "b", "", " ", "c", "d", "e", ""]
    counts: Counter[str] = Counter()
    documents = [document for batch in gather(text, counts) for document in batch]
    assert documents == [["a", "b"], ["c", "d", "e"]]
    joined = [[*documents[0], *documents[1], *documents[0]]]
    assert list(join_all([documents, documents[:1]], counts)) == [joined]


@given(sentence_lists, st.integers(1, 7), st.data())
def test_groups_have_as_many_sentences_as_they_should(groups, size, data):
    sentences = [sentence for group in groups for sentence in group]
    counts: Counter[str] = Counter()
    grouping = SentenceGroups(size, counts)
    found = []
    texts = ["\n".join(group) for group in groups] + [""]
    cut = data.draw(st.integers(0, len(texts)))
    for part in (texts[:cut], texts[cut:]):
        found += grouping.add(part)
    found += grouping.rest()
    assert [group.split("\n") for group in found] == [
        sentences[start : start + size] for start in range(0, len(sentences), size)
    ]
    assert grouping.rest() == [] and not counts


def test_a_group_of_endless_sentences_is_cut(monkeypatch):
    monkeypatch.setattr(documents_module, "MAX_DOCUMENT", 10)
    counts: Counter[str] = Counter()
    grouping = SentenceGroups(3, counts)
    assert grouping.add(["aaaa\nbbbb\ncccc\ndddd"]) == ["aaaa\nbbbb"]
    assert grouping.rest() == ["cccc\ndddd"] and counts == {"documents_cut": 1}


@given(sentence_lists)
def test_documents_are_read_back_as_written(tmp_path_factory, groups):
    path = tmp_path_factory.mktemp("corpus") / "00000.txt"
    path.write_bytes(b"".join(map(format_document, map("\n".join, groups))))
    for size in (1, 2, 7, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents_module, "_BLOCK_BYTES", size)
            found = list(read_corpus(path))
        assert [document.decode().splitlines() for document in found] == groups
    corpus = CorpusText.read(path)
    assert [
        corpus.text[start:stop].decode().splitlines()[:-1]
        for start, stop in pairwise(corpus.starts)
    ] == groups
