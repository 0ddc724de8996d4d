"""Tokens of a shard: lines become sentences and documents."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.records.tokens import Tokens


@given(
    st.lists(st.integers(0, 3) | st.none(), max_size=20),  # tokens of a line; None: a blank line
)
def test_lines_are_grouped_into_documents(lines: list[int | None]) -> None:
    blank = [line is None for line in lines]
    offsets = np.cumsum([0, *(line or 0 for line in lines)])
    ids = np.arange(offsets[-1], dtype=np.uint16)
    tokens = Tokens.build(ids, offsets, np.array(blank, dtype=bool))
    expected = [
        [line for line in group if line]
        for is_blank, group in itertools.groupby(lines, lambda line: line is None)
        if not is_blank
    ]
    expected = [document for document in expected if document]
    assert tokens.documents == len(expected)
    assert tokens.sentences == sum(map(len, expected))
    widths = np.diff(tokens.sentence_offsets).tolist()
    bounds = itertools.pairwise(tokens.document_offsets.tolist())
    assert [widths[start:end] for start, end in bounds] == expected
    assert tokens.sentence_offsets.dtype == tokens.document_offsets.dtype == np.int64


def test_contradicting_arrays_are_refused() -> None:
    ids = np.zeros(3, dtype=np.uint16)
    for offsets, blank in (
        ([0, 2], [False]),
        ([0, 3], [False, False]),
        ([1, 3], [False]),
        ([0, 3], [True]),
        ([0, 4, 3], [False, False]),
    ):
        with pytest.raises(ValueError, match="should"):
            Tokens.build(ids, np.array(offsets), np.array(blank))
