"""Grouping lines into documents, and Google's input format."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.records.tokens import read_tokens
from lib.run.errors import UserError
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
    texts = ["\n".join(group) for group in groups]
    cut = data.draw(st.integers(0, len(texts)))
    characters = 0
    for part in (texts[:cut], texts[cut:]):
        complete = grouping.add(part, [0] * len(part), list(map(len, part)))
        found += complete[0]
        characters += sum(complete[2])
    rest = grouping.rest()
    found += rest[0]
    assert characters + sum(rest[2]) == sum(map(len, texts))
    assert [group.split("\n") for group in found] == [
        sentences[start : start + size] for start in range(0, len(sentences), size)
    ]
    assert grouping.rest() == ([], [], []) and not counts


def test_a_group_of_endless_sentences_is_cut(monkeypatch):
    monkeypatch.setattr(documents_module, "MAX_DOCUMENT", 10)
    counts: Counter[str] = Counter()
    grouping = SentenceGroups(3, counts)
    assert grouping.add(["aaaa\nbbbb\ncccc\ndddd"], [0], [19]) == (["aaaa\nbbbb"], [0], [19])
    assert grouping.rest() == (["cccc\ndddd"], [0], [0]) and counts == {"documents_cut": 1}


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


def documents_of_google(text: bytes) -> list[list[str]]:
    """Documents as create_pretraining_data.py reads them, which strips every line."""
    documents: list[list[str]] = [[]]
    for line in text.decode("utf-8-sig").split("\n"):
        if line.strip():
            documents[-1].append(line.strip())
        else:
            documents.append([])
    return [document for document in documents if document]


def stripped(documents: list[bytes]) -> list[list[str]]:
    """Sentences of documents whose every line LF ends, none of them blank."""
    lines = [document.decode().split("\n") for document in documents]
    assert all(document.pop() == "" and all(document) for document in lines)
    return [[line.strip() for line in document] for document in lines]


@given(
    st.lists(
        st.sampled_from(
            [
                "a.",
                "b c.",
                "\u00e9\u6f22 ",
                "\td",
                "\n",
                "\n",
                "\n\n",
                "\r\n",
                "\r\n\r\n",
                " \n",
                "\t \r\n",
            ]
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_the_corpus_of_another_tool_is_read_as_google_reads_it(tmp_path_factory, parts, mark):
    text = ("\ufeff" if mark else "").encode() + "".join(parts).encode()
    expected = documents_of_google(text)
    path = tmp_path_factory.mktemp("corpus") / "00000.txt"
    path.write_bytes(text)
    for size in (1, 2, 5, 1 << 20):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents_module, "_BLOCK_BYTES", size)
            assert stripped(list(read_corpus(path))) == expected
            corpus = CorpusText.read(path)
        texts = [corpus.text[start:stop] for start, stop in pairwise(corpus.starts)]
        assert stripped([document.removesuffix(b"\n") for document in texts]) == expected
        assert corpus.lines[-1] == corpus.starts[-1] == len(corpus.text)


def test_text_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    path = tmp_path / "00000.txt"
    path.write_bytes("Ä.\nB.\n\n".encode() * 1000 + "Ä.\n\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"00000.txt: not UTF-8 \(near line (2,99|3,00)\d\)"):
        CorpusText.read(path).check_encoding(path)
    with pytest.raises(UserError, match=r"00000\.txt: line 3,001 is not UTF-8"):
        read_tokens(path, lambda text: (np.zeros(0, int), np.zeros(text.count("\n") + 1, int)))
    path.write_bytes("Ä漢😀.\n\n".encode() * 100)
    for size in (1, 2, 3, 5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(documents_module, "_BLOCK_BYTES", size)
            CorpusText.read(path).check_encoding(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.removesuffix(b"\n"),  # no blank line at the end
        lambda text: text.removesuffix(b"\n\n"),  # nor the end of the last line
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r\n").removesuffix(b"\r\n\r\n"),
        lambda text: b"\n" + text.replace(b"\n\n", b"\n \n\n\n"),
        lambda text: b"\xef\xbb\xbf" + text,
    ],
)
def test_every_reader_of_the_corpus_keeps_all_documents(tmp_path, damage):
    groups = [["One.", "Two."], ["Three."], ["Four.", "Five."]]
    plain = b"".join(map(format_document, map("\n".join, groups)))
    path = tmp_path / "00000.txt"
    path.write_bytes(damage(plain))
    assert CorpusText.read(path).text == plain
    assert list(read_corpus(path)) == [
        "".join(f"{line}\n" for line in lines).encode() for lines in groups
    ]
    numbers = {"One.": 0, "Two.": 1, "Three.": 2, "Four.": 3, "Five.": 4}

    def encode_lines(text: str) -> tuple[np.ndarray, np.ndarray]:
        """A token per line that is not blank."""
        lines = text.split("\n")[:-1]
        ids = [numbers[line] for line in lines if line]
        return np.array(ids), np.cumsum([0, *map(bool, lines)])

    tokens = read_tokens(path, encode_lines)
    assert tokens.ids.tolist() == list(range(5))
    assert tokens.document_offsets.tolist() == [0, 2, 3, 5]
