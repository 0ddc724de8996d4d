"""Near-duplicate documents over the whole corpus: MinHash signatures in locality-sensitive buckets.

MinHash (Broder, 1997): two documents agree in a slot of their signatures with a probability that
is the Jaccard similarity of their sets of shingles. Buckets (Indyk and Motwani, 1998): bands of
slots that are equal bring the similar together without comparing every two.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rensa import RMinHash

from lib.run import random
from lib.run.atomic import new_file
from lib.run.progress import Progress
from lib.text.dedup.shingles import shingles
from lib.text.documents import read_corpus

# Slots of a signature: the estimate's standard deviation is 0.035 at a similarity of 0.8.
SLOTS = 128
# Signatures of another format must not be compared with these. The first number is raised by hand
# when the shingles change.
FORMAT = (1, SLOTS, RMinHash.ALGORITHM_VERSION)

# The share of pairs exactly as similar as the threshold that meet in some bucket, at least.
_FOUND = 0.99

_CHUNK_DOCUMENTS = 1 << 16  # signatures read at once: 16 MiB
_SORTED_DOCUMENTS = 1 << 21  # keys sorted at once: some 100 MiB
_BATCH_DOCUMENTS = 1 << 16  # documents of shared buckets compared at once: 48 MiB with copies
_COMPARED_DOCUMENTS = 1 << 13

# Survivors of a bucket that the others are compared with. Where all documents follow one template,
# without being similar enough, a bucket may hold most of them: not each is compared with each.
_LEADERS = 100

_HALF = np.uint64(32)


def signatures(documents: Iterable[bytes]) -> Iterator[np.ndarray]:
    """MinHash signatures of documents (UTF-8), some at a time, the same whatever the batch.

    Yields:
        uint16 [documents, SLOTS]. Half of the library's 32 bits: two slots agree by chance once in
        65,536, which moves no estimate, and the table takes half the space.
    """
    for hashes, offsets in shingles(documents):
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), SLOTS, 1
        )
        yield np.array(matrix.to_rows(), np.uint32).astype(np.uint16)


@dataclass(frozen=True)
class SignatureTask:
    """Text in Google's input format whose documents are to be signed; how many there are."""

    text: Path
    documents: int

    @property
    def target(self) -> Path:
        """The .npy file beside the text: uint16 [documents, SLOTS]."""
        return self.text.with_suffix(".signatures-" + "-".join(map(str, FORMAT)) + ".npy")

    def __str__(self) -> str:
        return str(self.text)


def write_signatures(task: SignatureTask) -> None:
    """Signs all documents of a text unless that was done before."""
    if task.target.exists():
        return
    header = {"descr": "<u2", "fortran_order": False, "shape": (task.documents, SLOTS)}
    with new_file(task.target) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in signatures(read_corpus(task.text)):
            stream.write(block.astype("<u2").tobytes())


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

    def chunks(self, wanted: np.ndarray, slots: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The wanted documents (ascending ordinals) and these slots of their signatures."""
        while len(wanted):
            piece = int(np.searchsorted(self.bounds, wanted[0], side="right")) - 1
            past = min(self.bounds[piece + 1], wanted[0] + _CHUNK_DOCUMENTS)
            ordinals, wanted = np.split(wanted, [np.searchsorted(wanted, past)])
            rows = np.load(self._paths[piece], mmap_mode="r")[:, slots]
            yield ordinals, rows[ordinals - self.bounds[piece]]

    def of(self, ordinals: np.ndarray) -> np.ndarray:
        """Signatures of documents, uint16 [ordinals, SLOTS], in any order."""
        order = np.argsort(ordinals)
        rows = np.empty((len(ordinals), SLOTS), np.uint16)
        place = 0
        for some, signature in self.chunks(ordinals[order], slice(None)):
            rows[order[place : place + len(some)]] = signature
            place += len(some)
        return rows


def _keys(slots: np.ndarray) -> np.ndarray:
    """uint64 [documents] of uint16 [documents, slots of a band], equal where all of them are."""
    weights = random.hashes(0, "band", np.arange(slots.shape[1], dtype=np.uint64))
    sums = np.zeros(len(slots), np.uint64)
    for slot, weight in zip(slots.T, weights, strict=True):
        sums += slot * (weight | np.uint64(1))
    return random.hashes(0, "band", sums)


def _buckets(
    tables: _Tables, kept: np.ndarray, band: slice
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents that share a bucket of a band with others, sorted by bucket, then by ordinal.

    Yields:
        int64 [documents], ordinals, and bool [documents], True where a bucket begins; the
        documents of a bucket are never divided between two of these.
    """
    parts = -(-int(kept.sum()) // _SORTED_DOCUMENTS)
    for part in range(parts):
        ordinals, keys = [], []
        for first, past in itertools.pairwise(tables.bounds):
            for some, slots in tables.chunks(first + np.flatnonzero(kept[first:past]), band):
                key = _keys(slots)
                inside = ((key >> _HALF) * np.uint64(parts)) >> _HALF == part
                ordinals.append(some[inside])
                keys.append(key[inside])
        ordinal, key = np.concatenate(ordinals), np.concatenate(keys)
        order = np.argsort(key, kind="stable")
        key = key[order]
        begins = np.ones(len(key), bool)
        begins[1:] = key[1:] != key[:-1]
        shared = ~begins
        shared[:-1] |= ~begins[1:]
        yield ordinal[order[shared]], begins[shared]


def _alike(one: np.ndarray, other: np.ndarray, needed: int) -> np.ndarray:
    """Which rows agree with their counterparts in enough slots: bool [documents]."""
    alike = np.empty(len(one), bool)
    for start in range(0, len(one), _COMPARED_DOCUMENTS):
        some = slice(start, start + _COMPARED_DOCUMENTS)
        alike[some] = (one[some] == other[some]).sum(axis=1) >= needed
    return alike


def _survivors(rows: np.ndarray, begins: np.ndarray, needed: int) -> np.ndarray:
    """Documents that are not like one of their bucket's first survivors: bool [documents]."""
    survives = np.ones(len(rows), bool)
    buckets = np.cumsum(begins)
    left = np.arange(len(rows))
    for _ in range(_LEADERS):
        if not len(left):
            break
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
    then the first of the rest does, and so on a hundred times. So each dropped document was similar
    to an earlier one, which stays or was itself dropped in a later band for a still earlier one;
    and two documents that are left are not similar to each other, unless in each bucket that both
    are in a hundred documents before them were left.

    Memory is bounded by a constant and two bytes a document.

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
    bands = [slice(first, first + width) for first in range(0, SLOTS - width + 1, width)]
    with Progress("near duplicates", len(bands), "bands") as progress:
        for band in bands:
            for ordinals, begins in _buckets(stored, left, band):
                for dropped in _dropped(stored, ordinals, begins, needed):
                    left[dropped] = False
            progress.advance()
    return [left[first:past] for first, past in itertools.pairwise(stored.bounds)]


def _dropped(
    tables: _Tables, ordinals: np.ndarray, begins: np.ndarray, needed: int
) -> Iterator[np.ndarray]:
    """Ordinals of documents to drop, from what `_buckets` yields, a bounded batch at a time."""
    carried = ordinals[:0]  # survivors of the bucket in which the batch before ended
    for first in range(0, len(ordinals), _BATCH_DOCUMENTS):
        past = first + _BATCH_DOCUMENTS
        batch = np.concatenate((carried, ordinals[first:past]))
        opens = np.concatenate((np.zeros(len(carried), bool), begins[first:past]))
        survives = _survivors(tables.of(batch), opens, needed)
        yield batch[~survives]
        carried = ordinals[:0]
        if past < len(ordinals) and not begins[past]:
            last = int(np.flatnonzero(opens)[-1]) if opens.any() else 0
            carried = batch[last:][survives[last:]][:_LEADERS]
