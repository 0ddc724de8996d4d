"""Near-duplicate documents in the whole corpus: MinHash signatures, locality-sensitive hashing.

MinHash (Broder, 1997): the probability that two documents agree in a slot of their signatures is
the Jaccard similarity of their sets of shingles. Locality-sensitive hashing (Indyk and Motwani,
1998): documents whose slots are all equal in some band share a bucket, and only documents of one
bucket are compared. An example, with 6 slots instead of 128 and bands of 2 slots:

    document                                            signature
    A  "the cat sat on the mat today"                   7 3 | 9 1 | 4 4
    B  "the cat sat on the mat yesterday"               7 3 | 9 2 | 4 4
    C  "prices rose again in May"                       5 8 | 6 1 | 2 0

    A and B share a bucket of the first band (7 3) and one of the third (4 4); C shares none.
    A and B agree in 5 of 6 slots: an estimated similarity of 0.83. (Their 5 shingles each have 4
    in common, of 6 together: the similarity is 0.67.)
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
from lib.run.sealed_files import is_intact, write_seal
from lib.text.dedup.shingles import shingles
from lib.text.documents import read_corpus

# Slots of a signature: the standard deviation of the estimate is 0.035 at a similarity of 0.8.
SLOTS = 128
# The module whose code and imports determine what a signature is.
MODULE = "lib/text/dedup/near_duplicates.py"

# Minimal recall: the fraction of pairs exactly at the threshold that share a bucket.
_MIN_RECALL = 0.99

_READ_DOCUMENTS = 1 << 16  # signatures read at once: 16 MiB
_SORTED_DOCUMENTS = 1 << 21  # keys sorted at once: about 100 MiB
_BATCH_DOCUMENTS = 1 << 16  # documents of shared buckets compared at once: 48 MiB with copies
_COMPARED_DOCUMENTS = 1 << 13

# Kept documents of a bucket that the others are compared with. A bucket may contain most of the
# corpus, where all documents follow one template without being similar enough: comparing all pairs
# would take too long.
_LEADERS = 100

_HALF = np.uint64(32)


def signatures(documents: Iterable[bytes]) -> Iterator[np.ndarray]:
    """MinHash signatures of documents (UTF-8), a batch at a time; batching does not change them.

    Yields:
        uint16 [documents, SLOTS]: half of the library's 32 bits. Two slots agree by chance once in
        65,536 times, too rarely to affect an estimate, and the table takes half the space.
    """
    for hashes, offsets in shingles(documents):
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            hashes, offsets.astype(np.uint64), SLOTS, 1
        )
        yield np.array(matrix.to_rows(), np.uint32).astype(np.uint16)


@dataclass(frozen=True)
class SignatureTask:
    """A text in Google's input format whose documents need signatures.

    Attributes:
        documents: their number.
        code: digest of the code that makes the signatures.
    """

    text: Path
    documents: int
    code: str

    @property
    def target(self) -> Path:
        """The .npy file of the signatures, next to the text: uint16 [documents, SLOTS]."""
        return self.text.with_suffix(f".signatures-{self.code}.npy")

    def __str__(self) -> str:
        return str(self.text)


def write_signatures(task: SignatureTask) -> None:
    """Writes the signatures of all documents of a text, unless that was done before."""
    seal = task.target.with_suffix(".json")
    if is_intact(seal, [task.target]):
        return
    header = {"descr": "<u2", "fortran_order": False, "shape": (task.documents, SLOTS)}
    with new_file(task.target, synchronise=False) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for block in signatures(read_corpus(task.text)):
            stream.write(block.astype("<u2").tobytes())
    write_seal(seal, [task.target])


def slots_per_band(threshold: float) -> int:
    """The longest bands with which at least 99 % of pairs at the threshold share a bucket.

    A pair of similarity s agrees in all r slots of a band with probability s^r, so it shares a
    bucket of one of the SLOTS // r bands with probability 1 - (1 - s^r)^(SLOTS // r).
    """
    sufficient = [
        slots
        for slots in range(1, SLOTS + 1)
        if 1 - (1 - threshold**slots) ** (SLOTS // slots) >= _MIN_RECALL
    ]
    return max(sufficient, default=1)


class _Signatures:
    """The signatures of all documents, read in parts.

    Ordinals number the documents of all tables consecutively. A memory map that stays open would
    count fully as memory of the process.
    """

    def __init__(self, paths: Sequence[Path], sizes: Sequence[int]) -> None:
        self._paths = paths
        # Table i has the ordinals bounds[i] to bounds[i + 1] - 1.
        self.bounds = np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def read(self, ordinals: np.ndarray, slots: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some slots of the signatures of some documents (ordinals ascending), in parts.

        Yields:
            int64 [documents], their ordinals, and uint16 [documents, slots].
        """
        while len(ordinals):
            table = int(np.searchsorted(self.bounds, ordinals[0], side="right")) - 1
            stop = min(self.bounds[table + 1], ordinals[0] + _READ_DOCUMENTS)
            some, ordinals = np.split(ordinals, [np.searchsorted(ordinals, stop)])
            stored = np.load(self._paths[table], mmap_mode="r")[:, slots]
            yield some, stored[some - self.bounds[table]]

    def of(self, ordinals: np.ndarray) -> np.ndarray:
        """Signatures of documents in any order: uint16 [documents, SLOTS]."""
        order = np.argsort(ordinals)
        found = np.empty((len(ordinals), SLOTS), np.uint16)
        start = 0
        for some, signature in self.read(ordinals[order], slice(None)):
            found[order[start : start + len(some)]] = signature
            start += len(some)
        return found


def _keys(slots: np.ndarray) -> np.ndarray:
    """Bucket keys of a band: uint16 [documents, slots] -> uint64 [documents].

    Keys are equal if all slots are.
    """
    weights = random.hashes(0, "band", np.arange(slots.shape[1], dtype=np.uint64))
    sums = np.zeros(len(slots), np.uint64)
    for slot, weight in zip(slots.T, weights, strict=True):
        sums += slot * (weight | np.uint64(1))
    return random.hashes(0, "band", sums)


def _buckets(
    signatures: _Signatures, kept: np.ndarray, band: slice
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents that share a bucket of a band with others, sorted by bucket, then by ordinal.

    Yields:
        int64 [documents], ordinals, and bool [documents], True where a bucket begins; no bucket is
        divided between two of these.
    """
    parts = -(-int(kept.sum()) // _SORTED_DOCUMENTS)
    for part in range(parts):
        ordinals, keys = [], []
        for first, past in itertools.pairwise(signatures.bounds):
            for some, slots in signatures.read(first + np.flatnonzero(kept[first:past]), band):
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


def _similar(one: np.ndarray, other: np.ndarray, min_equal: int) -> np.ndarray:
    """Which pairs agree in enough slots: two uint16 [documents, SLOTS] -> bool [documents]."""
    similar = np.empty(len(one), bool)
    for start in range(0, len(one), _COMPARED_DOCUMENTS):
        some = slice(start, start + _COMPARED_DOCUMENTS)
        similar[some] = (one[some] == other[some]).sum(axis=1) >= min_equal
    return similar


def _survivors(signatures: np.ndarray, begins: np.ndarray, min_equal: int) -> np.ndarray:
    """Documents to keep: those unlike each of the first `_LEADERS` kept in their bucket.

    Args:
        signatures: uint16 [documents, SLOTS], by bucket.
        begins: bool [documents], True where a bucket begins.
        min_equal: slots in which similar documents agree.

    Returns:
        bool [documents].
    """
    survives = np.ones(len(signatures), bool)
    buckets = np.cumsum(begins)
    left = np.arange(len(signatures))
    for _ in range(_LEADERS):
        if not len(left):
            break
        # In all buckets at once: the first document left is kept, since it is similar to none of
        # those kept before it, and the documents similar to it are dropped.
        bucket = buckets[left]
        leads = np.concatenate(([True], bucket[1:] != bucket[:-1]))
        leader = left[leads][np.cumsum(leads) - 1][~leads]
        left = left[~leads]
        similar = _similar(signatures[left], signatures[leader], min_equal)
        survives[left[similar]] = False
        left = left[~similar]
    return survives


def near_duplicates(
    tables: Sequence[Path], kept: Sequence[np.ndarray], threshold: float
) -> list[np.ndarray]:
    """Masks that keep, of similar documents, the first in reading order.

    Two documents are similar if the fraction of slots in which their signatures agree, an estimate
    of their Jaccard similarity, is at least `threshold`, and all slots of some band are equal (of
    pairs just at the threshold at most one in a hundred fails this: see `slots_per_band`).

    The bands are processed one after another. In each bucket the first document drops those similar
    to it, then the first of the rest does, and so on, up to a hundred times. So each dropped
    document was similar to an earlier one, which is kept or was itself dropped, in a later band,
    for a still earlier one. Two documents that are kept are not similar to each other, unless a
    hundred documents before them were kept in every bucket that they share.

    Memory is bounded by a constant plus two bytes per document.

    Args:
        tables: .npy files of `signatures`, one per cleaned chunk, in the order of the corpus.
        kept: bool arrays, one per table; only documents that are True are considered.
        threshold: above 0, at most 1.

    Returns:
        bool arrays of the shapes of `kept`: True for a document to keep.
    """
    stored = _Signatures(tables, [len(mask) for mask in kept])
    left = np.concatenate([np.zeros(0, bool), *kept])
    width = slots_per_band(threshold)
    min_equal = math.ceil(threshold * SLOTS)
    bands = [slice(first, first + width) for first in range(0, SLOTS - width + 1, width)]
    with Progress("near duplicates", len(bands), "bands") as progress:
        for band in bands:
            for ordinals, begins in _buckets(stored, left, band):
                for dropped in _dropped(stored, ordinals, begins, min_equal):
                    left[dropped] = False
            progress.advance()
    return [left[first:past] for first, past in itertools.pairwise(stored.bounds)]


def _dropped(
    signatures: _Signatures, ordinals: np.ndarray, begins: np.ndarray, min_equal: int
) -> Iterator[np.ndarray]:
    """Ordinals of documents to drop, from what `_buckets` yields, a bounded batch at a time."""
    carried = ordinals[:0]  # kept documents of the bucket in which the previous batch ended
    for first in range(0, len(ordinals), _BATCH_DOCUMENTS):
        past = first + _BATCH_DOCUMENTS
        batch = np.concatenate((carried, ordinals[first:past]))
        opens = np.concatenate((np.zeros(len(carried), bool), begins[first:past]))
        survives = _survivors(signatures.of(batch), opens, min_equal)
        yield batch[~survives]
        carried = ordinals[:0]
        if past < len(ordinals) and not begins[past]:
            last = int(np.flatnonzero(opens)[-1]) if opens.any() else 0
            carried = batch[last:][survives[last:]][:_LEADERS]
