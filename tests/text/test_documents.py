"""Grouping lines into documents, and Google's input format."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given

from lib.text import documents as documents_module
from lib.text.documents import CorpusText, format_document, gather, read_corpus, regroup
from tests.helpers.corpus import sentence_lists


@pytest.mark.parametrize(
    ("lines", "groups"), [(None, [["a", "b", "c", "d", "e"]]), (2, [["a", "b"], ["c", "d"], ["e"]])]
)
def test_lines_are_grouped_into_documents(lines, groups):
    text = ["", "a", "b", "", " ", "c", "d", "e", ""]
    counts: Counter[str] = Counter()
    documents = [document for batch in gather(text, counts) for document in batch]
    assert documents == [["a", "b"], ["c", "d", "e"]]
    regrouped = regroup([documents], lines, counts)
    assert [document for batch in regrouped for document in batch] == groups


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
