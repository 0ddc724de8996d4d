"""Exact duplicate documents over the whole corpus, in bounded memory."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lib.text.cleaning.chunks import DOCUMENT

# Documents whose digests are sorted at once: some 20 MiB with the sorting.
_BUCKET_DOCUMENTS = 250_000
_MOST_BUCKETS = 512  # files open at once; from 128 M documents on buckets get larger
_READ_DOCUMENTS = 1 << 16

# A document's digest, and where it stands: the number of its table and its row there.
_ENTRY = np.dtype([("high", "<u8"), ("low", "<u8"), ("table", "<u4"), ("row", "<u4")])


def table_parts(path: Path) -> Iterator[np.ndarray]:
    """A table of documents (DOCUMENT arrays, see lib.text.cleaning.chunks) a part at a time."""
    with path.open("rb") as stream:
        while len(part := np.fromfile(stream, DOCUMENT, _READ_DOCUMENTS)):
            yield part


def first_occurrences(tables: Sequence[Path], work: Path) -> list[np.ndarray]:
    """Marks the first of each set of equal documents, in the order of the tables.

    Digests are scattered over buckets on disk by their leading bits, and each bucket is sorted by
    itself. So memory is bounded by a bucket and one byte a document, never by the text.

    Args:
        tables: files of DOCUMENT rows, one per piece of the raw text.
        work: an empty folder for the buckets: 24 bytes a document.

    Returns:
        bool arrays [documents], one per table: True for a document to keep.
    """
    kept = [np.zeros(path.stat().st_size // DOCUMENT.itemsize, bool) for path in tables]
    count = min(max(1, -(-sum(map(len, kept)) // _BUCKET_DOCUMENTS)), _MOST_BUCKETS)
    width = np.uint64(-(-(1 << 64) // count)) if count > 1 else np.uint64((1 << 64) - 1)
    names = [work / f"digests-{bucket}" for bucket in range(count)]
    with ExitStack() as stack:
        buckets = [stack.enter_context(name.open("wb")) for name in names]
        for number, path in enumerate(tables):
            row = 0
            for part in table_parts(path):
                entries = np.zeros(len(part), _ENTRY)
                entries["high"], entries["low"] = part["high"], part["low"]
                entries["table"] = number
                entries["row"] = np.arange(row, row + len(part))
                row += len(part)
                bucket = np.minimum(part["high"] // width, np.uint64(count - 1))
                for index in np.unique(bucket):
                    buckets[int(index)].write(entries[bucket == index].tobytes())
    for name in names:
        entries = np.fromfile(name, _ENTRY)
        name.unlink()
        # lexsort is stable: among equal digests the first in reading order comes first.
        order = np.lexsort((entries["low"], entries["high"]))
        ordered = entries[order]
        new = np.ones(len(ordered), bool)
        new[1:] = (ordered["high"][1:] != ordered["high"][:-1]) | (
            ordered["low"][1:] != ordered["low"][:-1]
        )
        first = ordered[new]
        del entries, ordered
        for table in np.unique(first["table"]):
            kept[table][first["row"][first["table"] == table]] = True
    return kept
