"""Splitting the corpus into shards: documents shuffled, never cut."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.run import random
from lib.text.documents import read_corpus
from lib.text.splits import SPLITS, SplitRule

# A bucket is shuffled in memory: its documents stay well below the limit of a stage's memory.
_BUCKET_BYTES = 32 << 20


@dataclass
class SplitCounts:
    documents: int = 0
    sentences: int = 0
    bytes: int = 0
    shards: int = 0


class _ShardWriter:
    """Fills NNNNN.txt files of one split up to a number of lines and bytes."""

    def __init__(self, directory: Path, lines: int, size: int) -> None:
        directory.mkdir(parents=True)
        self._directory, self._max_lines, self._max_bytes = directory, lines, size
        self._stream: BinaryIO | None = None
        self._lines = self._bytes = 0
        self.counts = SplitCounts()

    def write(self, document: bytes) -> None:
        lines = document.count(b"\n")
        if self._stream and (
            self._lines + lines + 1 > self._max_lines
            or self._bytes + len(document) + 1 > self._max_bytes
        ):
            self.close()
        if self._stream is None:
            path = self._directory / f"{self.counts.shards:05d}.txt"
            self._stream = path.open("wb")
            self._lines = self._bytes = 0
            self.counts.shards += 1
        self._stream.write(document + b"\n")
        self._lines += lines + 1
        self._bytes += len(document) + 1
        self.counts.documents += 1
        self.counts.sentences += lines
        self.counts.bytes += len(document) + 1

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None


def _scatter(files: list[Path], rule: SplitRule, folder: Path, buckets: int, seed: int) -> None:
    """First half of the shuffle: each document to a bucket drawn by its ordinal."""
    streams: dict[tuple[str, int], BinaryIO] = {}
    try:
        ordinal = 0
        for path in files:
            for document in read_corpus(path):
                draw = random.hashes(seed, "bucket", np.array([ordinal], np.uint64))[0]
                ordinal += 1
                place = rule.of(path, document), int(draw % np.uint64(buckets))
                if place not in streams:
                    streams[place] = (folder / f"{place[0]}-{place[1]:05d}").open("wb")
                streams[place].write(document + b"\n")
    finally:
        for stream in streams.values():
            stream.close()


def _shuffled(folder: Path, split: str, buckets: int, seed: int) -> Iterator[bytes]:
    """Second half: each bucket is shuffled in memory and forgotten."""
    for bucket in range(buckets):
        path = folder / f"{split}-{bucket:05d}"
        if path.exists():
            documents = list(read_corpus(path))
            path.unlink()
            order = random.generator(seed, f"shuffle-{split}", bucket).permutation(len(documents))
            for index in order:
                yield documents[index]


def write_shards(
    files: list[Path], rule: SplitRule, target: Path, work: Path, lines: int, size: int, seed: int
) -> dict[str, SplitCounts]:
    """Writes `target/{train,dev,test}/NNNNN.txt`.

    Args:
        work: an empty folder for the buckets of the shuffle; as large as the corpus.
        lines: most lines of a shard, blank ones included.
        size: most bytes of a shard; only a document that is larger alone passes it.
    """
    total = sum(path.stat().st_size for path in files)
    buckets = -(-total // _BUCKET_BYTES)
    _scatter(files, rule, work, buckets, seed)
    counts = {}
    for split in SPLITS:
        writer = _ShardWriter(target / split, lines, size)
        for document in _shuffled(work, split, buckets, seed):
            writer.write(document)
        writer.close()
        counts[split] = writer.counts
    return counts
