"""Exact duplicate documents over the whole corpus, in bounded memory."""

from collections.abc import Sequence

import numpy as np

# Documents whose digests are sorted at once: 32 MiB of digests, some 150 MiB with the sorting.
_BUCKET_DOCUMENTS = 2_000_000


def first_occurrences(tables: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Marks the first of each set of equal documents, in the order of the tables.

    The digests are taken a bucket at a time (by their leading bits), so that memory is bounded by
    the bucket and one byte a document, never by the text.

    Args:
        tables: DOCUMENT arrays (see lib.text.maps), one per raw file.

    Returns:
        bool arrays of the tables' shapes: True for a document to keep.
    """
    kept = [np.zeros(len(table), bool) for table in tables]
    total = sum(map(len, tables))
    buckets = -(-total // _BUCKET_DOCUMENTS)
    width = -(-(1 << 64) // max(buckets, 1))
    for bucket in range(buckets):
        highs, lows, owners, places = [], [], [], []
        for owner, table in enumerate(tables):
            inside = (
                np.flatnonzero(table["high"] // np.uint64(width) == bucket)
                if buckets > 1
                else np.arange(len(table))
            )
            highs.append(table["high"][inside])
            lows.append(table["low"][inside])
            places.append(inside)
            owners.append(np.full(len(inside), owner, np.int32))
        high, low = np.concatenate(highs), np.concatenate(lows)
        place, owner_of = np.concatenate(places), np.concatenate(owners)
        # lexsort is stable: among equal digests the first in reading order comes first.
        order = np.lexsort((low, high))
        new = np.ones(len(order), bool)
        new[1:] = (high[order][1:] != high[order][:-1]) | (low[order][1:] != low[order][:-1])
        first = order[new]
        for owner in np.unique(owner_of[first]):
            kept[owner][place[first[owner_of[first] == owner]]] = True
    return kept
