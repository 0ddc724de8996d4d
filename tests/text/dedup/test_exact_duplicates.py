"""Exact duplicates over several tables and buckets."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.text.cleaning.chunks import DOCUMENT
from lib.text.dedup import exact_duplicates as duplicates_module
from lib.text.dedup.exact_duplicates import first_occurrences


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
