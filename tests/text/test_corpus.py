"""Documents in Google's input format, exact duplicates, and the corpus files."""

import hashlib
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text import corpus as corpus_module
from lib.text import documents as documents_module
from lib.text.cleaning.chunks import DOCUMENT
from lib.text.corpus import CorpusWriter
from lib.text.dedup import exact_duplicates as duplicates_module
from lib.text.dedup.exact_duplicates import first_occurrences
from lib.text.documents import CorpusText, format_document, gather, read_corpus, regroup
from lib.text.splits import corpus_files


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


documents = st.lists(
    st.lists(
        st.text("abé漢 .", min_size=1, max_size=12).map(lambda text: f"x{text}y"),
        min_size=1,
        max_size=5,
    ),
    min_size=1,
    max_size=30,
)


@given(documents)
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


def table_of(texts: list[bytes]) -> np.ndarray:
    table = np.zeros(len(texts), DOCUMENT)
    for document, text in zip(table, texts, strict=True):
        digest = hashlib.blake2b(text, digest_size=16).digest()
        document["high"] = int.from_bytes(digest[:8], "little")
        document["low"] = int.from_bytes(digest[8:], "little")
    return table


@given(st.lists(st.lists(st.binary(max_size=2), max_size=20), max_size=5), st.integers(1, 30))
def test_only_the_first_of_equal_documents_is_kept(tmp_path_factory, files, bucket):
    folder = tmp_path_factory.mktemp("tables")
    seen: set[bytes] = set()
    expected = []
    for texts in files:
        expected.append([text not in seen and not seen.add(text) for text in texts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates_module, "_BUCKET_DOCUMENTS", bucket)
        patch.setattr(duplicates_module, "_READ_DOCUMENTS", 7)
        tables = [folder / f"{number}.documents" for number in range(len(files))]
        for path, texts in zip(tables, files, strict=True):
            table_of(texts).tofile(path)
        kept = first_occurrences(tables, folder)
    assert [mask.tolist() for mask in kept] == expected


@given(documents, st.integers(1, 60), st.randoms())
def test_the_corpus_consists_of_the_kept_documents(tmp_path_factory, groups, size, chance):
    folder = tmp_path_factory.mktemp("corpus")
    texts = [format_document("\n".join(group)) for group in groups]
    (folder / "chunk.txt").write_bytes(b"".join(texts))
    kept = np.array([chance.random() < 0.6 for _ in texts])
    sizes = np.array([len(text) for text in texts], np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_MAX_FILE_BYTES", size * 4)
        patch.setattr(corpus_module, "_COPY_BYTES", size)
        with CorpusWriter(folder / "corpus") as writer:
            half = len(texts) // 2
            writer.write(folder / "chunk.txt", 0, sizes[:half], kept[:half], "")
            offset = int(sizes[:half].sum())
            writer.write(folder / "chunk.txt", offset, sizes[half:], kept[half:], "")
    files = corpus_files(folder / "corpus")
    assert b"".join(path.read_bytes() for path in files) == b"".join(
        text for text, keep in zip(texts, kept, strict=True) if keep
    )
    for path in files:
        assert path.read_bytes().endswith(b"\n\n")
