"""Overlap of held-out documents with training documents, measured in one pass over the latter.

A near twin in training text makes a held-out number look better than it is. All documents are
compared exactly, by the Jaccard similarity of their shingles; none is missed. What makes it fast
is the prefix filter of set similarity joins (Chaudhuri et al., 2006, "A primitive operator for
similarity joins in data cleaning"): a document that shares the share t of another's shingles lacks
so few of them that it must have most of any selection of them, so only a selection is looked up.
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

# From this similarity on two documents are near twins: one word changed among some 25.
NEAR = 0.8

SAMPLE_DOCUMENTS = 2000
# Bounds the memory where documents are long: some 700,000 shingles, 60 MiB while they are indexed.
SAMPLE_BYTES = 4 << 20

# Where documents follow a template, many pass the filter for each one. The sample is then cut, to
# no fewer than 200, until a document has some 10 to be compared with.
_FEWEST_DOCUMENTS = 200
_MOST_COMPARED = 10

_FILTER_BITS = 22
_MOST_HITS = 1 << 20  # looked up at once: some 50 MiB


def sample(documents: Iterable[bytes], seed: int) -> list[bytes]:
    """At most 2,000 documents and 4 MiB, those of the smallest keyed hashes of their content.

    It depends on which documents there are, not on their order. A first document that alone is
    larger than 4 MiB is taken.
    """
    key = random.key(seed, "overlap").to_bytes(16, "little")
    heap: list[tuple[int, bytes]] = []  # negated draws: the largest draw comes out first
    size = 0
    limit = 1 << 64  # past the first document that had no room, none is taken
    for document in documents:
        digest = hashlib.blake2b(document, digest_size=8, key=key).digest()
        draw = int.from_bytes(digest, "little")
        if draw >= limit:
            continue
        heapq.heappush(heap, (-draw, document))
        size += len(document)
        while len(heap) > SAMPLE_DOCUMENTS or (size > SAMPLE_BYTES and len(heap) > 1):
            negated, last = heapq.heappop(heap)
            size -= len(last)
            limit = -negated
    return [document for _, document in sorted(heap, reverse=True)]


class Overlap:
    """Which held-out documents have a near twin among training documents.

    Near twins are documents whose sets of shingles (lib.text.dedup.shingles) have a Jaccard
    similarity of NEAR or more.

    Args:
        documents: a sample of the held-out documents in random order. Of more than 200 that are so
            alike that comparing them all would take long only the first are used.

    Attributes:
        near: bool [used documents], True if a near twin was seen. Results of passes over parts of
            the training documents, by several workers say, join by `|`.
    """

    def __init__(self, documents: Iterable[bytes]) -> None:
        self._sets = [
            np.unique(hashes[start:past])
            for hashes, offsets in shingles(documents)
            for start, past in itertools.pairwise(offsets)
        ]
        self._index()
        fewest = _FEWEST_DOCUMENTS
        if len(self._sets) > fewest:
            # How many pass the filter for a document is measured on the sample's own first ones.
            probe = self._sets[:fewest]
            offsets = np.cumsum([0, *map(len, probe)])
            passed = sum(len(pairs) for pairs in self._passed(np.concatenate(probe), offsets))
            wanted = int(len(self._sets) * _MOST_COMPARED * len(probe) / passed)
            if wanted < len(self._sets):
                self._sets = self._sets[: max(wanted, fewest)]
                self._index()
        self.near = np.zeros(len(self._sets), bool)

    def _index(self) -> None:
        """Selects the shingles to look up, of each document its rarest in the sample.

        |A and B| >= t |A or B| asks for |A and B| >= t |A|. So a near twin lacks at most
        m = n - ceil(t n) of a document's n shingles, and has at least m + 1 of any 2 m + 1 of
        them. Which ones are selected decides how many documents pass by chance, never the result.
        """
        self._sizes = np.array([len(own) for own in self._sets], np.int64)
        everything = np.concatenate([np.zeros(0, np.uint64), *self._sets])
        _, inverse, counts = np.unique(everything, return_inverse=True, return_counts=True)
        frequencies = counts[inverse]
        self._needed = np.zeros(len(self._sets), np.int64)
        chosen, owners = [], []
        place = 0
        for owner, own in enumerate(self._sets):
            # 0.8 * 35 is 28.000000000000004.
            missing = len(own) - math.ceil(NEAR * len(own) - 1e-9)
            rarest = np.argsort(frequencies[place : place + len(own)], kind="stable")
            place += len(own)
            chosen.append(own[rarest[: 2 * missing + 1]])
            owners.append(np.full(len(chosen[-1]), owner))
            self._needed[owner] = len(chosen[-1]) - missing
        hashes = np.concatenate([np.zeros(0, np.uint64), *chosen])
        owner_of = np.concatenate([np.zeros(0, np.int64), *owners])
        order = np.argsort(hashes, kind="stable")
        # Postings: self._owners[self._bounds[i]:self._bounds[i + 1]] have the shingle i.
        self._owners = owner_of[order]
        self._hashes, first = np.unique(hashes[order], return_index=True)
        self._bounds = np.append(first, len(hashes))
        self._filter = np.zeros(1 << _FILTER_BITS, bool)
        self._filter[_filter_places(self._hashes)] = True

    def see(self, documents: Iterable[bytes]) -> None:
        """Compares training documents with all held-out ones, whatever their order or batches.

        Args:
            documents: UTF-8 text, in Google's input format or not.
        """
        for hashes, offsets in shingles(documents):
            self.see_block(hashes, offsets)

    def see_block(self, hashes: np.ndarray, offsets: np.ndarray) -> None:
        """The same for a block of training documents as `shingles` gives it."""
        for pairs in self._passed(hashes, offsets):
            seen, owners = np.divmod(pairs, len(self._sets))
            new = ~self.near[owners]
            seen, owners = seen[new], owners[new]
            for document in np.unique(seen):
                other = np.unique(hashes[offsets[document] : offsets[document + 1]])
                self._compare(owners[seen == document], other)

    def _passed(self, hashes: np.ndarray, offsets: np.ndarray) -> Iterator[np.ndarray]:
        """Pairs of documents, of a block of shingles and held out, that may be near twins.

        Yields:
            int64 [pairs], distinct: document of the block * held-out documents + held-out document.
        """
        places = np.flatnonzero(np.take(self._filter, _filter_places(hashes)))
        # In sorted order, neighbours in the search share the cache.
        places = places[np.argsort(hashes[places])]
        found = np.searchsorted(self._hashes, hashes[places])
        found[found == len(self._hashes)] = 0
        hits = self._hashes[found] == hashes[places]
        seen = np.searchsorted(offsets, places[hits], side="right") - 1
        # A document's repeated shingles count once.
        seen, found = np.divmod(
            np.unique(seen * len(self._hashes) + found[hits]), max(len(self._hashes), 1)
        )
        counts = self._bounds[found + 1] - self._bounds[found]
        ends = np.cumsum(counts)
        start = 0
        while start < len(seen):
            # As many whole documents as stay below the limit, but one at least.
            done = ends[start - 1] if start else 0
            past = int(np.searchsorted(ends, done + _MOST_HITS, side="right"))
            if past < len(seen):
                past = int(np.searchsorted(seen, seen[past]))
            past = max(past, int(np.searchsorted(seen, seen[start], side="right")))
            some = slice(start, past)
            start = past
            within = np.arange(counts[some].sum()) - np.repeat(
                ends[some] - counts[some] - done, counts[some]
            )
            owners = self._owners[np.repeat(self._bounds[found[some]], counts[some]) + within]
            pairs, shared = np.unique(
                np.repeat(seen[some], counts[some]) * len(self._sets) + owners, return_counts=True
            )
            yield pairs[shared >= self._needed[pairs % len(self._sets)]]

    def _compare(self, owners: np.ndarray, other: np.ndarray) -> None:
        """Compares some held-out documents with the set of shingles of one training document."""
        sizes = self._sizes[owners]
        # The smaller set's share of the larger bounds the similarity.
        close = np.minimum(sizes, len(other)) / np.maximum(sizes, len(other)) >= NEAR
        owners, sizes = owners[close], sizes[close]
        if not len(owners):
            return
        own = np.concatenate([self._sets[owner] for owner in owners])
        found = np.searchsorted(other, own)
        found[found == len(other)] = 0
        shared = np.add.reduceat(other[found] == own, np.cumsum(sizes) - sizes, dtype=np.int64)
        self.near[owners] |= shared / (sizes + len(other) - shared) >= NEAR


def _filter_places(hashes: np.ndarray) -> np.ndarray:
    """Places of hashes in the bitmap that spares most of them the search."""
    return hashes >> np.uint64(64 - _FILTER_BITS)


@dataclass(frozen=True)
class OverlapTask:
    """A training shard to compare with the documents of the files `samples`."""

    shard: Path
    samples: tuple[Path, ...]

    def __str__(self) -> str:
        return str(self.shard)


@lru_cache(1)
def _of_samples(paths: tuple[Path, ...]) -> list[Overlap]:
    """Indexed once in a worker. Shards that they saw before do no harm: results join by `|`."""
    return [Overlap(read_corpus(path)) for path in paths]


def compare_shard(task: OverlapTask) -> list[np.ndarray]:
    """Which documents of each sample have a near twin in a training shard: bool [documents]."""
    overlaps = _of_samples(task.samples)
    # The shingles take longer than the comparing: once for all samples.
    for hashes, offsets in shingles(read_corpus(task.shard)):
        for overlap in overlaps:
            overlap.see_block(hashes, offsets)
    return [overlap.near.copy() for overlap in overlaps]


def measure_overlap(
    shards: Path, splits: Sequence[str], seed: int, work: Path, workers: Workers
) -> dict[str, dict[str, float]]:
    """The share of a sample of each split's documents that have a near twin in training text.

    Args:
        shards: folder with the text shards of all splits.
        work: a folder for the samples.

    Returns:
        By split, documents: how many were compared; near_duplicates: how many of them have a near twin;
        share.
    """
    samples = []
    for split in splits:
        held_out = map(read_corpus, sorted((shards / split).iterdir()))
        chosen = sample(itertools.chain.from_iterable(held_out), seed)
        samples.append(work / f"overlap-{split}.txt")
        samples[-1].write_bytes(b"".join(document + b"\n" for document in chosen))
    tasks = [OverlapTask(shard, tuple(samples)) for shard in sorted((shards / "train").iterdir())]
    found = shard_map(compare_shard, tasks, workers, "overlap", "shards")
    measured = {}
    for split, nears in zip(splits, zip(*found, strict=True), strict=True):
        near = np.any(nears, axis=0)
        twins = int(np.count_nonzero(near))
        measured[split] = {
            "documents": len(near),
            "near_duplicates": twins,
            "fraction": twins / len(near),
        }
    return measured
