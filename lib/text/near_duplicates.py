"""Near-duplicate documents over the whole corpus: MinHash signatures in locality-sensitive buckets.

MinHash (Broder, 1997): two documents agree in a slot of their signatures with a probability that
is the Jaccard similarity of their sets of shingles. Buckets (Indyk and Motwani, 1998): bands of
slots that are equal bring the similar together without comparing every two.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rensa import RMinHash

from lib.run import random
from lib.text.shingles import shingles

# Slots of a signature: the estimate's standard deviation is 0.035 at a similarity of 0.8.
SLOTS = 128
# The signatures' own version: those of another must not be compared with these.
VERSION = RMinHash.ALGORITHM_VERSION

# The share of pairs exactly as similar as the threshold that meet in some bucket, at least.
_FOUND = 0.99

_CHUNK_DOCUMENTS = 1 << 16  # signatures read at once: 16 MiB
_SORTED_DOCUMENTS = 1 << 22  # keys sorted at once: some 150 MiB
_BATCH_DOCUMENTS = 1 << 17  # documents of shared buckets in memory at once: 96 MiB with copies
_COMPARED_DOCUMENTS = 1 << 13

_HALF = np.uint64(32)


def signatures(documents: Iterable[bytes]) -> np.ndarray:
    """MinHash signatures of documents (UTF-8), on the same shingles whatever the batch.

    Returns:
        uint16 [documents, SLOTS]. Half of the library's 32 bits: two slots agree by chance once in
        65,536, which moves no estimate, and the table takes half the space.
    """
    blocks = [np.zeros((0, SLOTS), np.uint16)]
    for hashes, offsets in shingles(documents):
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), SLOTS, 1
        )
        blocks.append(np.array(matrix.to_rows(), np.uint32).astype(np.uint16))
    return np.concatenate(blocks)


def band_rows(threshold: float) -> int:
    """Slots of a band: as many as still let pairs at the threshold meet, 99 times in 100."""
    rows = [
        rows
        for rows in range(1, SLOTS + 1)
        if 1 - (1 - threshold**rows) ** (SLOTS // rows) >= _FOUND
    ]
    return max(rows, default=1)


class _Tables:
    """The signatures of all documents, read in pieces: a memory map held open would count whole."""

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int]) -> None:
        self._paths = paths
        self.bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def chunks(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Ordinals and signatures of the wanted documents (ascending ordinals), chunk by chunk."""
        for path, first, past in zip(self._paths, self.bounds, self.bounds[1:], strict=False):
            inside = wanted[slice(*np.searchsorted(wanted, (first, past)))]
            while len(inside):
                start = int(inside[0] - first)
                ordinals = inside[: np.searchsorted(inside, first + start + _CHUNK_DOCUMENTS)]
                inside = inside[len(ordinals) :]
                rows = np.load(path, mmap_mode="r")[start : start + _CHUNK_DOCUMENTS]
                yield ordinals, rows[ordinals - first - start]

    def of(self, ordinals: np.ndarray) -> np.ndarray:
        """Signatures of documents, uint16 [ordinals, SLOTS], in any order."""
        order = np.argsort(ordinals)
        rows = np.empty((len(ordinals), SLOTS), np.uint16)
        place = 0
        for some, signature in self.chunks(ordinals[order]):
            rows[order[place : place + len(some)]] = signature
            place += len(some)
        return rows


def _band_keys(rows: np.ndarray, band: int, width: int) -> np.ndarray:
    """One uint64 for each document's slots of a band; chance equality is sorted out later."""
    weights = random.hashes(0, "band", np.arange(width, dtype=np.uint64)) | np.uint64(1)
    sums = np.zeros(len(rows), np.uint64)
    for column, weight in zip(range(band * width, (band + 1) * width), weights, strict=True):
        sums += rows[:, column] * weight
    return random.hashes(0, "band", sums)


def _buckets(
    tables: _Tables, kept: np.ndarray, band: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents that share a bucket of a band with others, sorted by bucket, then by ordinal.

    Yields:
        int64 [documents], ordinals, and bool [documents], True where a bucket begins; the
        documents of a bucket are never divided between two of these.
    """
    parts = -(-int(kept.sum()) // _SORTED_DOCUMENTS)
    for part in range(parts):
        ordinals, keys = [], []
        for some, rows in tables.chunks(np.flatnonzero(kept)):
            key = _band_keys(rows, band, width)
            inside = ((key >> _HALF) * np.uint64(parts)) >> _HALF == part
            ordinals.append(some[inside])
            keys.append(key[inside])
        ordinal, key = np.concatenate(ordinals), np.concatenate(keys)
        order = np.argsort(key, kind="stable")
        key = key[order]
        begins = np.concatenate(([True], key[1:] != key[:-1]))
        shared = ~begins | np.concatenate((~begins[1:], [False]))
        yield ordinal[order[shared]], begins[shared]


def _alike(one: np.ndarray, other: np.ndarray, needed: int) -> np.ndarray:
    """Which rows agree with their counterparts in enough slots: bool [documents]."""
    alike = np.empty(len(one), bool)
    for start in range(0, len(one), _COMPARED_DOCUMENTS):
        some = slice(start, start + _COMPARED_DOCUMENTS)
        alike[some] = (one[some] == other[some]).sum(axis=1) >= needed
    return alike


def _survivors(rows: np.ndarray, begins: np.ndarray, needed: int) -> np.ndarray:
    """Documents that are not like an earlier survivor of their bucket: bool [documents]."""
    survives = np.ones(len(rows), bool)
    buckets = np.cumsum(begins)
    left = np.arange(len(rows))
    while len(left):
        # In all buckets at once: the first document that is left survives, as it is like none of
        # the survivors before it; those that are like it are dropped.
        bucket = buckets[left]
        leads = np.concatenate(([True], bucket[1:] != bucket[:-1]))
        leader = left[leads][np.cumsum(leads) - 1][~leads]
        left = left[~leads]
        alike = _alike(rows[left], rows[leader], needed)
        survives[left[alike]] = False
        left = left[~alike]
    return survives


def near_duplicates(
    tables: Sequence[Path], kept: Sequence[np.ndarray], threshold: float
) -> list[np.ndarray]:
    """Marks the documents that are left when of similar ones the first in reading order stays.

    Two documents are similar if the share of slots in which their signatures agree, an estimate of
    their Jaccard similarity, is at least `threshold`, and one of the bands of `band_rows` slots is
    equal (so that pairs just at the threshold are missed at most once in a hundred times). The
    bands are taken one after another: in each bucket the first document drops those similar to it,
    then the first of the rest does, and so on. So of any two documents that are left none is
    similar to the other, and each dropped one was similar to an earlier document, which stays or
    was itself dropped in a later band for a still earlier one.

    Memory is bounded by a constant and two bytes a document. Documents of one bucket none of which
    is similar to another are compared each with each.

    Args:
        tables: .npy files of what `signatures` gave, one per piece of the corpus, in its order.
        kept: bool arrays, one per table; only documents that are True are looked at.
        threshold: above 0, at most 1.

    Returns:
        bool arrays of the shapes of `kept`: True for a document to keep.
    """
    stored = _Tables(tables, [len(mask) for mask in kept])
    left = np.concatenate([np.zeros(0, bool), *kept])
    width = band_rows(threshold)
    needed = math.ceil(threshold * SLOTS)
    for band in range(SLOTS // width):
        for ordinals, begins in _buckets(stored, left, band, width):
            carried = ordinals[:0]  # survivors of a bucket that began in an earlier batch
            for start in range(0, len(ordinals), _BATCH_DOCUMENTS):
                some = slice(start, start + _BATCH_DOCUMENTS)
                batch = np.concatenate((carried, ordinals[some]))
                opens = np.concatenate((np.zeros(len(carried), bool), begins[some]))
                survives = _survivors(stored.of(batch), opens, needed)
                left[batch[~survives]] = False
                past = start + _BATCH_DOCUMENTS
                carried = ordinals[:0]
                if past < len(ordinals) and not begins[past]:
                    last = int(np.flatnonzero(opens)[-1]) if opens.any() else 0
                    carried = batch[last:][survives[last:]]
    return np.split(left, stored.bounds[1:-1])
