"""Near duplicates of held-out documents in the training text, counted in one pass over that text.

Such a document makes held-out numbers look better than they are. Documents are compared exactly, by
the Jaccard similarity of their sets of shingles, and no near duplicate is missed. The prefix filter
of set similarity joins makes this fast (Chaudhuri et al., 2006, "A primitive operator for
similarity joins in data cleaning"). An example, at a similarity of 0.8:

    A held-out document has 10 shingles. A document with similarity 0.8 or more shares at least 8
    of them, so it lacks at most 2. Therefore it contains at least 3 of any 5 shingles of the
    held-out document. The index holds the 5 that are rarest in the sample; only a training
    document that contains 3 of them or more is compared in full.
"""

import hashlib
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.pool import Workers, shard_map
from lib.text.dedup.shingles import shingles
from lib.text.documents import read_corpus
from lib.text.layout import shard_files

# Documents of this similarity or more are near duplicates: one word in about 25 differs.
MIN_SIMILARITY = 0.8

SAMPLE_DOCUMENTS = 2000
# Bounds the memory where documents are long: about 700,000 shingles, 60 MiB during indexing.
SAMPLE_BYTES = 4 << 20

# Where documents follow a template, many held-out documents pass the filter for each training
# document. The sample is then reduced, to no fewer than 200, until about 10 pass.
_MIN_DOCUMENTS = 200
_MAX_COMPARISONS = 10

_BITMAP_BITS = 22
_MAX_MATCHES = 1 << 20  # looked up at once: about 50 MiB


def draw_sample(documents: Iterable[bytes], seed: int) -> list[bytes]:
    """At most 2,000 documents and 4 MiB: those with the smallest keyed hashes of their content.

    The sample depends on the documents, not on their order. It has at least one document, even one
    larger than 4 MiB.
    """
    key = random.key(seed, "overlap").to_bytes(16, "little")
    heap: list[tuple[int, bytes]] = []  # negated hashes: the largest hash comes out first
    size = 0
    limit = 1 << 64  # the smallest hash that had no room: larger ones have none either
    for document in documents:
        digest = hashlib.blake2b(document, digest_size=8, key=key).digest()
        hashed = int.from_bytes(digest, "little")
        if hashed >= limit:
            continue
        heapq.heappush(heap, (-hashed, document))
        size += len(document)
        while len(heap) > SAMPLE_DOCUMENTS or (size > SAMPLE_BYTES and len(heap) > 1):
            negated, last = heapq.heappop(heap)
            size -= len(last)
            limit = -negated
    return [document for _, document in sorted(heap, reverse=True)]


class Overlap:
    """Index of held-out documents that finds which have near duplicates in training documents.

    Near duplicates are documents whose sets of shingles (lib.text.dedup.shingles) have a Jaccard
    similarity of MIN_SIMILARITY or more.

    Args:
        documents: a sample of the held-out documents in random order. If they are so alike that
            comparing them all would take long, only the first are used, at least 200.

    Attributes:
        found: bool [held-out documents used], True if a near duplicate was found so far. Results of
            several workers, each with a part of the training documents, combine with `|`.
    """

    def __init__(self, documents: Iterable[bytes]) -> None:
        self._sets = [
            np.unique(hashes[start:past])
            for hashes, offsets in shingles(documents)
            for start, past in itertools.pairwise(offsets)
        ]
        self._index()
        if len(self._sets) > _MIN_DOCUMENTS:
            # Estimates from the first documents how many held-out documents pass the filter.
            probe = self._sets[:_MIN_DOCUMENTS]
            offsets = np.cumsum([0, *map(len, probe)])
            passed = sum(map(len, self._candidates(np.concatenate(probe), offsets)))
            target = int(len(self._sets) * _MAX_COMPARISONS * len(probe) / passed)
            if target < len(self._sets):
                self._sets = self._sets[: max(target, _MIN_DOCUMENTS)]
                self._index()
        self.found = np.zeros(len(self._sets), bool)

    def _index(self) -> None:
        """Indexes, of each held-out document, the shingles that are rarest in the sample.

        |A and B| >= t |A or B| implies |A and B| >= t |A|. So a near duplicate lacks at most
        m = n - ceil(t n) of a document's n shingles, and contains at least m + 1 of any 2 m + 1 of
        them. Which ones are selected affects how many documents pass by chance, not the result.
        """
        self._sizes = np.array([len(own) for own in self._sets], np.int64)
        everything = np.concatenate([np.zeros(0, np.uint64), *self._sets])
        _, inverse, counts = np.unique(everything, return_inverse=True, return_counts=True)
        frequencies = counts[inverse]
        self._min_matches = np.zeros(len(self._sets), np.int64)
        selected, documents = [], []
        start = 0
        for document, own in enumerate(self._sets):
            # 0.8 * 35 is 28.000000000000004.
            missing = len(own) - math.ceil(MIN_SIMILARITY * len(own) - 1e-9)
            rarest = np.argsort(frequencies[start : start + len(own)], kind="stable")
            start += len(own)
            selected.append(own[rarest[: 2 * missing + 1]])
            documents.append(np.full(len(selected[-1]), document))
            self._min_matches[document] = len(selected[-1]) - missing
        hashes = np.concatenate([np.zeros(0, np.uint64), *selected])
        document_of = np.concatenate([np.zeros(0, np.int64), *documents])
        order = np.argsort(hashes, kind="stable")
        # Postings: the documents with the shingle self._hashes[i] are
        # self._postings[self._bounds[i]:self._bounds[i + 1]].
        self._postings = document_of[order]
        self._hashes, first = np.unique(hashes[order], return_index=True)
        self._bounds = np.append(first, len(hashes))
        self._bitmap = np.zeros(1 << _BITMAP_BITS, bool)
        self._bitmap[_bitmap_positions(self._hashes)] = True

    def update(self, hashes: np.ndarray, offsets: np.ndarray) -> None:
        """Compares a block of training documents, as `shingles` yields it, with all held-out ones.

        The order of documents and how they fall into blocks do not matter.
        """
        for pairs in self._candidates(hashes, offsets):
            training, held_out = np.divmod(pairs, len(self._sets))
            new = ~self.found[held_out]
            training, held_out = training[new], held_out[new]
            for document in np.unique(training):
                other = np.unique(hashes[offsets[document] : offsets[document + 1]])
                self._compare(held_out[training == document], other)

    def _candidates(self, hashes: np.ndarray, offsets: np.ndarray) -> Iterator[np.ndarray]:
        """Pairs of a document of a block and a held-out document that may be near duplicates.

        Args:
            hashes, offsets: a block, as `shingles` yields it.

        Yields:
            int64 [pairs], distinct: (document of the block) * (number of held-out documents) +
            (held-out document).
        """
        positions = np.flatnonzero(np.take(self._bitmap, _bitmap_positions(hashes)))
        # Sorted, so that successive searches use the same cache lines.
        positions = positions[np.argsort(hashes[positions])]
        found = np.searchsorted(self._hashes, hashes[positions])
        found[found == len(self._hashes)] = 0
        matches = self._hashes[found] == hashes[positions]
        documents = np.searchsorted(offsets, positions[matches], side="right") - 1
        # A shingle that a document repeats counts once.
        documents, found = np.divmod(
            np.unique(documents * len(self._hashes) + found[matches]), max(len(self._hashes), 1)
        )
        counts = self._bounds[found + 1] - self._bounds[found]
        ends = np.cumsum(counts)
        start = 0
        while start < len(documents):
            # Whole documents only, at least one, and otherwise no more than the limit.
            done = ends[start - 1] if start else 0
            past = int(np.searchsorted(ends, done + _MAX_MATCHES, side="right"))
            if past < len(documents):
                past = int(np.searchsorted(documents, documents[past]))
            past = max(past, int(np.searchsorted(documents, documents[start], side="right")))
            some = slice(start, past)
            start = past
            # Position of each posting within the postings of its shingle: [postings].
            within = np.arange(counts[some].sum()) - np.repeat(
                ends[some] - counts[some] - done, counts[some]
            )
            held_out = self._postings[np.repeat(self._bounds[found[some]], counts[some]) + within]
            pairs, shared = np.unique(
                np.repeat(documents[some], counts[some]) * len(self._sets) + held_out,
                return_counts=True,
            )
            yield pairs[shared >= self._min_matches[pairs % len(self._sets)]]

    def _compare(self, held_out: np.ndarray, other: np.ndarray) -> None:
        """Compares held-out documents with one training document.

        Args:
            held_out: int64 [documents], their indices.
            other: uint64 [shingles], distinct and sorted, of the training document.
        """
        sizes = self._sizes[held_out]
        # The ratio of the sizes of two sets bounds their similarity.
        close = np.minimum(sizes, len(other)) / np.maximum(sizes, len(other)) >= MIN_SIMILARITY
        held_out, sizes = held_out[close], sizes[close]
        if not len(held_out):
            return
        own = np.concatenate([self._sets[document] for document in held_out])
        found = np.searchsorted(other, own)
        found[found == len(other)] = 0
        shared = np.add.reduceat(other[found] == own, np.cumsum(sizes) - sizes, dtype=np.int64)
        self.found[held_out] |= shared / (sizes + len(other) - shared) >= MIN_SIMILARITY


def _bitmap_positions(hashes: np.ndarray) -> np.ndarray:
    """Positions of hashes in the bitmap, which saves most of them the binary search."""
    return hashes >> np.uint64(64 - _BITMAP_BITS)


@dataclass(frozen=True)
class OverlapTask:
    """A training shard to compare with samples of held-out documents, a file each."""

    shard: Path
    samples: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.shard)


@lru_cache(1)
def _indexed(paths: tuple[Path, ...]) -> list[Overlap]:
    """One index per sample, made once per worker.

    They keep what earlier shards found. That does no harm, since results combine with `|`.
    """
    return [Overlap(read_corpus(path)) for path in paths]


def compare_shard(task: OverlapTask) -> list[np.ndarray]:
    """Which documents of each sample have near duplicates in a training shard: bool [documents]."""
    overlaps = _indexed(task.samples)
    # Shingles take longer than comparisons, so they are made once for all samples.
    for hashes, offsets in shingles(read_corpus(task.shard)):
        for overlap in overlaps:
            overlap.update(hashes, offsets)
    return [overlap.found.copy() for overlap in overlaps]


def measure_overlap(
    shards: Path, splits: Sequence[str], seed: int, work: Path, workers: Workers
) -> dict[str, dict[str, float]]:
    """Near duplicates in the training text of a sample of each split's documents.

    Args:
        shards: folder with the text shards of all splits.
        work: a folder for the samples.

    Returns:
        By split: `documents` compared, `near_duplicates` (those that have one in the training
        text) and their `fraction`.
    """
    samples = []
    for split in splits:
        held_out = map(read_corpus, shard_files(shards, split))
        documents = draw_sample(itertools.chain.from_iterable(held_out), seed)
        samples.append(work / f"overlap-{split}.txt")
        samples[-1].write_bytes(b"".join(document + b"\n" for document in documents))
    tasks = [OverlapTask(shard, tuple(samples)) for shard in shard_files(shards, "train")]
    results = shard_map(compare_shard, tasks, workers, "overlap", "shards")
    measured = {}
    for split, by_shard in zip(splits, zip(*results, strict=True), strict=True):
        found = np.any(by_shard, axis=0)
        near_duplicates = int(np.count_nonzero(found))
        measured[split] = {
            "documents": len(found),
            "near_duplicates": near_duplicates,
            "fraction": near_duplicates / len(found),
        }
    return measured
