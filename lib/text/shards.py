"""Splitting the corpus into shards: documents shuffled, never cut, in bounded memory.

An external shuffle in three passes, each over many files at once: every corpus file is scattered
into buckets drawn at random; every bucket, small enough for memory, is shuffled; the shuffled
buckets, one after the other, are cut into shards of nearly equal size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.atomic import new_file
from lib.run.copying import copy_range
from lib.run.pool import Workers, shard_map
from lib.text.documents import CorpusText, join_ranges
from lib.text.splits import SPLITS, SplitRule

# A bucket is shuffled in memory: its documents stay well below the limit of a stage's memory.
BUCKET_BYTES = 32 << 20
_WRITTEN = 1 << 14  # documents joined at once

# Bytes and lines of a document, its blank line included.
_SIZES = np.dtype([("bytes", "<u4"), ("lines", "<u4")])


@dataclass(frozen=True)
class ScatterTask:
    """A corpus file whose documents go to buckets, into a file and its index in `work`."""

    path: Path
    number: int
    rule: SplitRule
    buckets: int
    seed: int
    work: Path

    def __str__(self) -> str:
        return str(self.path)


def scatter(task: ScatterTask) -> None:
    """Sorts the documents of one corpus file by split and bucket."""
    corpus = CorpusText.read(task.path)
    splits = task.rule.of(task.path, corpus)
    draws = random.hashes(
        task.seed, f"bucket-{task.number}", np.arange(len(splits), dtype=np.uint64)
    )
    groups = splits * np.uint64(task.buckets) + draws % np.uint64(task.buckets)
    order = np.argsort(groups, kind="stable")
    sizes = np.zeros(len(order), _SIZES)
    sizes["bytes"], sizes["lines"] = np.diff(corpus.starts), np.diff(corpus.documents)
    _write_documents(task.work / f"scattered-{task.number}", corpus.text, corpus.starts, order)
    _save(task.work / f"scattered-{task.number}-sizes.npy", sizes[order])
    # Where each group begins: in documents and in bytes.
    firsts = np.searchsorted(groups[order], np.arange(len(SPLITS) * task.buckets + 1))
    offsets = np.concatenate(([0], np.cumsum(sizes["bytes"][order], dtype=np.int64)))
    _save(task.work / f"scattered-{task.number}-index.npy", np.stack([firsts, offsets[firsts]]))


@dataclass(frozen=True)
class BucketTask:
    """One bucket of one split, to gather from all scattered files and to shuffle."""

    split: str
    bucket: int
    buckets: int
    files: int
    seed: int
    work: Path

    def __str__(self) -> str:
        return f"bucket {self.bucket} of {self.split}"


def shuffle(task: BucketTask) -> None:
    """Gathers a bucket and writes its documents in an order drawn at random."""
    group = SPLITS.index(task.split) * task.buckets + task.bucket
    texts, tables = [], []
    for number in range(task.files):
        name = task.work / f"scattered-{number}"
        first, past = np.load(f"{name}-index.npy", mmap_mode="r")[:, group : group + 2].T.tolist()
        if first[0] == past[0]:
            continue
        with name.open("rb") as stream:
            stream.seek(first[1])
            texts.append(stream.read(past[1] - first[1]))
        tables.append(np.array(np.load(f"{name}-sizes.npy", mmap_mode="r")[first[0] : past[0]]))
    text = b"".join(texts)
    texts.clear()
    sizes = np.concatenate(tables) if tables else np.zeros(0, _SIZES)
    starts = np.concatenate(([0], np.cumsum(sizes["bytes"], dtype=np.int64)))
    order = random.generator(task.seed, f"shuffle-{task.split}", task.bucket).permutation(
        len(sizes)
    )
    _write_documents(task.work / f"{task.split}-{task.bucket}", text, starts, order)
    _save(task.work / f"{task.split}-{task.bucket}-sizes.npy", sizes[order])


def _write_documents(path: Path, text: bytes, starts: np.ndarray, order: np.ndarray) -> None:
    with new_file(path, synchronise=False) as temporary, temporary.open("wb") as stream:
        for first in range(0, len(order), _WRITTEN):
            some = order[first : first + _WRITTEN]
            stream.write(join_ranges(text, starts[some], starts[some + 1]))


def _save(path: Path, array: np.ndarray) -> None:
    with new_file(path, synchronise=False) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


@dataclass
class ShardTask:
    """A shard to write: byte ranges of shuffled buckets, and what is in them."""

    target: Path
    parts: list[tuple[Path, int, int]]
    documents: int = 0
    lines: int = 0
    bytes: int = 0

    def __str__(self) -> str:
        return str(self.target)


def plan_shards(
    work: Path, split: str, buckets: int, target: Path, max_lines: int, max_bytes: int
) -> list[ShardTask]:
    """Cuts one split's shuffled documents into as few shards as the limits allow, evenly.

    A shard is full at its even share, and at the latest before it would pass a limit; only a
    document that is larger alone passes it.
    """

    def sizes() -> Iterator[tuple[int, np.ndarray]]:
        for bucket in range(buckets):
            yield bucket, np.load(work / f"{split}-{bucket}-sizes.npy", mmap_mode="r")

    # The limit of which more is needed decides how many shards there are and which share is even.
    totals = {
        name: sum(int(table[name].sum(dtype=np.int64)) for _, table in sizes())
        for name in ("bytes", "lines")
    }
    limits = {"bytes": max_bytes, "lines": max_lines}
    needed = {name: -(-totals[name] // limits[name]) for name in limits}
    measure = max(needed, key=lambda name: (totals[name] / limits[name], name))
    left, shards_left = totals[measure], needed[measure]
    shards: list[ShardTask] = []
    share = 0.0
    full = True
    for bucket, table in sizes():
        ends = {name: np.cumsum(table[name], dtype=np.int64) for name in limits}
        place = 0
        while place < len(table):
            if full:
                share = left / max(shards_left, 1)
                shards_left -= 1
                shards.append(ShardTask(target / f"{len(shards):05d}.txt", []))
            shard = shards[-1]
            before = {name: int(ends[name][place - 1]) if place else 0 for name in limits}
            held = {"bytes": shard.bytes, "lines": shard.lines}
            stop = min(
                int(np.searchsorted(ends[name], before[name] + limits[name] - held[name], "right"))
                for name in limits
            )
            # The first document that reaches the even share still belongs to the shard.
            even = int(np.searchsorted(ends[measure], before[measure] + share - held[measure])) + 1
            full = even <= stop or stop < len(table)
            stop = min(even, stop)
            if stop <= place:
                if shard.documents:
                    full = True
                    continue
                stop = place + 1
            taken = {name: int(ends[name][stop - 1]) - before[name] for name in limits}
            start = before["bytes"]
            shard.parts.append((work / f"{split}-{bucket}", start, start + taken["bytes"]))
            shard.documents += stop - place
            shard.bytes += taken["bytes"]
            shard.lines += taken["lines"]
            left -= taken[measure]
            place = stop
    return shards


def write_shard(task: ShardTask) -> None:
    """Copies a shard together."""
    with (
        new_file(task.target, synchronise=False) as temporary,  # Its folder will be, as a whole.
        temporary.open("wb", buffering=0) as target,
    ):
        for path, start, stop in task.parts:
            with path.open("rb", buffering=0) as source:
                copy_range(source, start, stop, target)


@dataclass(frozen=True)
class SplitCounts:
    """What one split holds."""

    documents: int
    sentences: int
    bytes: int
    shards: int


def write_shards(
    files: list[Path],
    rule: SplitRule,
    target: Path,
    work: Path,
    max_lines: int,
    max_bytes: int,
    seed: int,
    workers: Workers,
) -> dict[str, SplitCounts]:
    """Writes `target/{train,dev,test}/NNNNN.txt`.

    Args:
        work: an empty folder for the passes of the shuffle; they take twice the corpus's size.
        max_lines: most lines of a shard, blank ones included.
        max_bytes: most bytes of a shard; only a document that is larger alone passes it.
    """
    buckets = -(-sum(path.stat().st_size for path in files) // BUCKET_BYTES)
    scatters = [
        ScatterTask(path, number, rule, buckets, seed, work) for number, path in enumerate(files)
    ]
    shard_map(scatter, scatters, workers, "scatter")
    shuffles = [
        BucketTask(split, bucket, buckets, len(files), seed, work)
        for split in SPLITS
        for bucket in range(buckets)
    ]
    shard_map(shuffle, shuffles, workers, "shuffle", "buckets")
    for path in work.glob("scattered-*"):
        path.unlink()
    counts = {}
    writes = []
    for split in SPLITS:
        (target / split).mkdir(parents=True)
        shards = plan_shards(work, split, buckets, target / split, max_lines, max_bytes)
        documents = sum(shard.documents for shard in shards)
        # Each document ends with a blank line, which is no sentence.
        sentences = sum(shard.lines for shard in shards) - documents
        size = sum(shard.bytes for shard in shards)
        counts[split] = SplitCounts(documents, sentences, size, len(shards))
        writes += shards
    shard_map(write_shard, writes, workers, "shards", "shards")
    return counts
