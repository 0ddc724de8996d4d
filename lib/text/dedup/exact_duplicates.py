"""Exact duplicate documents over the whole corpus, in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import numpy as np

from lib.text.cleaning.chunks import DOCUMENT

# Documents whose digests are sorted at once: about 20 MiB including the sort.
_BUCKET_DOCUMENTS = 250_000
_MAX_BUCKETS = 512  # files open at once; from 128 M documents on, buckets get larger
_READ_DOCUMENTS = 1 << 16

# Digest of a document, and its number in all tables.
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("document", "<u8")])


def read_table(path: Path) -> Iterator[np.ndarray]:
    """A document table (dtype DOCUMENT, see lib.text.cleaning.chunks), a part at a time."""
    with path.open("rb") as stream:
        while len(part := np.fromfile(stream, DOCUMENT, _READ_DOCUMENTS)):
            yield part


def first_occurrences(tables: Sequence[Path], work: Path) -> list[np.ndarray]:
    """Masks that keep the first of equal documents, in the order of the tables.

    Digests are scattered over buckets on disk by their leading bits, and the buckets are sorted one
    at a time. So memory is bounded by a bucket plus one byte per document, whatever the text. An
    example, with letters for digests:

        tables    [a, b, a]              [b, c]
        bucket 1  a 0  a 2  b 1  b 3                           sorted by digest
        bucket 2  c 4
        kept      [True, True, False]    [False, True]

    Args:
        tables: files of DOCUMENT elements, one per cleaned chunk.
        work: an empty folder for the buckets: 24 bytes per document.

    Returns:
        One bool array [documents] per table: True for a document to keep.
    """
    sizes = [path.stat().st_size // DOCUMENT.itemsize for path in tables]
    # Table i has the documents bounds[i] to bounds[i + 1] - 1 of all.
    bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    kept = np.zeros(int(bounds[-1]), bool)
    count = min(max(1, -(-len(kept) // _BUCKET_DOCUMENTS)), _MAX_BUCKETS)
    width = np.uint64(-(-(1 << 64) // count)) if count > 1 else np.uint64((1 << 64) - 1)
    paths = [work / f"digests-{bucket}" for bucket in range(count)]
    with ExitStack() as stack:
        buckets = [stack.enter_context(path.open("wb")) for path in paths]
        first = 0
        for path in tables:
            for part in read_table(path):
                entries = np.zeros(len(part), _ENTRY)
                entries["high"], entries["low"] = part["high"], part["low"]
                entries["document"] = np.arange(first, first + len(part))
                first += len(part)
                bucket_of = np.minimum(part["high"] // width, np.uint64(count - 1))
                for bucket in np.unique(bucket_of):
                    buckets[int(bucket)].write(entries[bucket_of == bucket].tobytes())
    for path in paths:
        entries = np.fromfile(path, _ENTRY)
        path.unlink()
        # lexsort is stable: equal digests stay in reading order.
        order = np.lexsort((entries["low"], entries["high"]))
        ordered = entries[order]
        new = np.ones(len(ordered), bool)
        new[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (
            ordered["low"][1:] != ordered["low"][:-1]
        )
        kept[ordered["document"][new]] = True
    return [kept[start:stop] for start, stop in pairwise(bounds.tolist())]
