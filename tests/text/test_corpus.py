"""The corpus files hold the kept documents."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text import corpus as corpus_module
from lib.text.corpus import CorpusWriter
from lib.text.documents import format_document
from lib.text.layout import corpus_files
from tests.helpers.corpus import sentence_lists


@given(sentence_lists, st.integers(1, 60), st.randoms())
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
    files = corpus_files(folder / "corpus") if kept.any() else []
    assert b"".join(path.read_bytes() for path in files) == b"".join(
        text for text, keep in zip(texts, kept, strict=True) if keep
    )
    for path in files:
        assert path.read_bytes().endswith(b"\n\n")
