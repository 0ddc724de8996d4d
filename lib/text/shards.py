"""Text shards: the corpus divided into train, dev and test, documents shuffled and never cut.

An external shuffle in three passes, in bounded memory, each over many files at once:

    1. scatter: the documents of corpus files go to buckets drawn at random.
    2. shuffle: each bucket, small enough for memory, is read and its documents are permuted.
    3. write:   the shuffled buckets, one after another, are cut into shards of nearly equal size.
"""

from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.atomic import new_file
from lib.run.copying import copy_range
from lib.run.pool import Workers, shard_map
from lib.text.documents import CorpusText, in_batches, join_ranges
from lib.text.layout import SPLITS
from lib.text.names import some_of
from lib.text.splits import SplitRule

# A bucket is shuffled in memory: small compared to the memory of a stage.
BUCKET_BYTES = 32 << 20
_BATCH_DOCUMENTS = 1 << 14  # written at once

# Bytes and lines of a document, its blank line included.
_SIZES = np.dtype([("bytes", "<u4"), ("lines", "<u4")])


@dataclass(frozen=True)
class ScatterTask:
    """Corpus files to scatter: `work` gets their documents sorted by bucket, and their index.

    Attributes:
        paths: consecutive files of the corpus.
        first: number of the first of them in the corpus.
        number: number of this task.
        stream: begins the names of its streams of random numbers.
    """

    paths: tuple[Path, ...]
    first: int
    number: int
    stream: str
    rule: SplitRule
    buckets: int
    seed: int
    work: Path

    def __str__(self) -> str:
        return some_of(list(map(str, self.paths)), 1)


def scatter(task: ScatterTask) -> np.ndarray:
    """Sorts the documents of corpus files by split and bucket; returns the bytes of each split."""
    corpora, parts = [], []
    for number, path in enumerate(task.paths, task.first):
        corpus = CorpusText.read(path)
        corpus.check_encoding(path)
        splits = task.rule.of(path, corpus)
        draws = random.hashes(
            task.seed, f"{task.stream}bucket-{number}", np.arange(len(splits), dtype=np.uint64)
        )
        parts.append(splits * np.uint64(task.buckets) + draws % np.uint64(task.buckets))
        corpora.append(corpus)
    corpus = CorpusText.join(corpora)
    corpora.clear()
    groups = np.concatenate(parts)
    order = np.argsort(groups, kind="stable")
    sizes = np.zeros(len(order), _SIZES)
    sizes["bytes"], sizes["lines"] = np.diff(corpus.starts), np.diff(corpus.documents)
    name = f"scattered-{task.number}"
    _write_documents(task.work / name, corpus.text, corpus.starts, order)
    sizes = sizes[order]
    _save(task.work / f"{name}-sizes", sizes)
    # Start of each group (split and bucket), in documents and in bytes: int64 [groups + 1, 2].
    firsts = np.searchsorted(groups[order], np.arange(len(SPLITS) * task.buckets + 1))
    offsets = np.concatenate(([0], np.cumsum(sizes["bytes"], dtype=np.int64)))
    _save(task.work / f"{name}-index", np.stack([firsts, offsets[firsts]], axis=1))
    bounds: np.ndarray = offsets[firsts[:: task.buckets]]
    return np.diff(bounds)


@dataclass(frozen=True)
class BucketTask:
    """Consecutive buckets of a split, to gather from all scattered files and to shuffle.

    Attributes:
        first, past: the buckets.
        buckets: number of buckets of each split.
        scattered: number of scattered files.
    """

    split: str
    first: int
    past: int
    buckets: int
    scattered: int
    stream: str
    seed: int
    work: Path

    def __str__(self) -> str:
        return f"buckets {self.first} to {self.past - 1} of {self.split}"


def shuffle(task: BucketTask) -> None:
    """Gathers buckets and writes the documents of each in random order."""
    count = task.past - task.first
    group = SPLITS.index(task.split) * task.buckets + task.first
    texts: list[list[bytes]] = [[] for _ in range(count)]
    tables: list[list[np.ndarray]] = [[np.zeros(0, _SIZES)] for _ in range(count)]
    for number in range(task.scattered):
        # The buckets of a split are next to each other in a scattered file.
        base = task.work / f"scattered-{number}"
        found = _read_part(Path(f"{base}-index"), np.dtype("<i8"), 2 * group, 2 * (count + 1))
        documents, offsets = found.reshape(-1, 2).T  # [2 * (buckets + 1)] -> 2 x [buckets + 1]
        if documents[0] == documents[-1]:
            continue
        text = _read_part(base, np.dtype("u1"), offsets[0], offsets[-1] - offsets[0]).tobytes()
        sizes = _read_part(
            Path(f"{base}-sizes"), _SIZES, documents[0], documents[-1] - documents[0]
        )
        for bucket in range(count):
            start, stop = offsets[bucket : bucket + 2] - offsets[0]
            first, past = documents[bucket : bucket + 2] - documents[0]
            if first < past:
                texts[bucket].append(text[start:stop])
                tables[bucket].append(sizes[first:past])
    for bucket in range(count):
        text = b"".join(texts[bucket])
        texts[bucket].clear()
        sizes = np.concatenate(tables[bucket])
        starts = np.concatenate(([0], np.cumsum(sizes["bytes"], dtype=np.int64)))
        number = task.first + bucket
        purpose = f"{task.stream}shuffle-{task.split}"
        order = random.generator(task.seed, purpose, number).permutation(len(sizes))
        _write_documents(task.work / f"{task.split}-{number}", text, starts, order)
        _save(task.work / f"{task.split}-{number}-sizes", sizes[order])


def _read_part(path: Path, dtype: np.dtype, first: int, count: int) -> np.ndarray:
    return np.fromfile(path, dtype, count, offset=int(first) * dtype.itemsize)


def _write_documents(path: Path, text: bytes, starts: np.ndarray, order: np.ndarray) -> None:
    with new_file(path, synchronise=False) as temporary, temporary.open("wb") as stream:
        for first in range(0, len(order), _BATCH_DOCUMENTS):
            some = order[first : first + _BATCH_DOCUMENTS]
            stream.write(join_ranges(text, starts[some], starts[some + 1]))


def _save(path: Path, array: np.ndarray) -> None:
    with new_file(path, synchronise=False) as temporary:
        array.tofile(temporary)


@dataclass
class ShardTask:
    """A shard to write: byte ranges of shuffled buckets, and the documents and lines in them."""

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
    """Cuts the shuffled documents of a split into as few shards as the limits allow, evenly.

    A shard ends when it reaches its target size, and always before it would exceed a limit; only a
    single document larger than the limit exceeds it. With max_bytes 100, documents of 250 bytes
    in all go to 3 shards of about 83 bytes, not to 100 + 100 + 50.
    """

    def sizes() -> Iterator[tuple[int, np.ndarray]]:
        for bucket in range(buckets):
            yield bucket, np.fromfile(work / f"{split}-{bucket}-sizes", _SIZES)

    # The limit that requires more shards decides their number and the target size.
    totals = {
        name: sum(int(table[name].sum(dtype=np.int64)) for _, table in sizes())
        for name in ("bytes", "lines")
    }
    limits = {"bytes": max_bytes, "lines": max_lines}
    needed = {name: -(-totals[name] // limits[name]) for name in limits}
    measure = max(needed, key=lambda name: (totals[name] / limits[name], name))
    left, shards_left = totals[measure], needed[measure]
    shards: list[ShardTask] = []
    target_size = 0.0
    full = True
    for bucket, table in sizes():
        ends = {name: np.cumsum(table[name], dtype=np.int64) for name in limits}
        document = 0
        while document < len(table):
            if full:
                target_size = left / max(shards_left, 1)
                shards_left -= 1
                shards.append(ShardTask(target / f"{len(shards):05d}.txt", []))
            shard = shards[-1]
            before = {name: int(ends[name][document - 1]) if document else 0 for name in limits}
            held = {"bytes": shard.bytes, "lines": shard.lines}
            stop = min(
                int(np.searchsorted(ends[name], before[name] + limits[name] - held[name], "right"))
                for name in limits
            )
            # The document with which the shard reaches its target size still belongs to it.
            target_end = before[measure] + target_size - held[measure]
            target_stop = int(np.searchsorted(ends[measure], target_end)) + 1
            full = target_stop <= stop or stop < len(table)
            stop = min(target_stop, stop)
            if stop <= document:
                if shard.documents:
                    full = True
                    continue
                stop = document + 1
            added = {name: int(ends[name][stop - 1]) - before[name] for name in limits}
            start = before["bytes"]
            shard.parts.append((work / f"{split}-{bucket}", start, start + added["bytes"]))
            shard.documents += stop - document
            shard.bytes += added["bytes"]
            shard.lines += added["lines"]
            left -= added[measure]
            document = stop
    return shards


def write_shard(task: ShardTask) -> None:
    """Copies the parts of a shard into its file."""
    with (
        # Not synchronised by itself: the folder of all shards is, as a whole.
        new_file(task.target, synchronise=False) as temporary,
        temporary.open("wb", buffering=0) as target,
    ):
        for path, start, stop in task.parts:
            with path.open("rb", buffering=0) as source:
                copy_range(source, start, stop, target)


@dataclass(frozen=True)
class SplitCounts:
    """The size of one split."""

    documents: int
    sentences: int
    bytes: int
    shards: int


def sum_counts(counts: Iterable[SplitCounts]) -> SplitCounts:
    """The sizes of several parts of a split together."""
    return SplitCounts(*map(sum, zip(*map(astuple, counts), strict=True)))


def write_shards(
    files: list[Path],
    rule: SplitRule,
    target: Path,
    work: Path,
    max_lines: int,
    max_bytes: int,
    seed: int,
    workers: Workers,
    name: str = "",
) -> dict[str, SplitCounts]:
    """Writes `target/{train,dev,test}/NNNNN.txt`, or `target/{train,dev,test}/NAME/NNNNN.txt`.

    Args:
        files: the corpus, or those of its files that are of one input.
        work: an empty folder for the shuffle, which needs twice the size of the corpus.
        max_lines: lines per shard, blank ones included.
        max_bytes: bytes per shard; only a single larger document exceeds it.
        name: of the input. What is drawn for an input does not depend on the others.
    """
    stream = f"{name}/" if name else ""
    buckets = -(-sum(path.stat().st_size for path in files) // BUCKET_BYTES)
    scatters: list[ScatterTask] = []
    first = 0
    for paths in in_batches(files):
        number = len(scatters)
        scatters.append(ScatterTask(tuple(paths), first, number, stream, rule, buckets, seed, work))
        first += len(paths)
    none = np.zeros(len(SPLITS), np.int64)
    sizes = sum(shard_map(scatter, scatters, workers, "scatter"), start=none)
    shuffles = []
    for split, size in zip(SPLITS, sizes.tolist(), strict=True):
        # As many as fit in memory: of a small split, all at once.
        step = max(1, int(BUCKET_BYTES * buckets // max(size, 1)))
        shuffles += [
            BucketTask(
                split,
                bucket,
                min(bucket + step, buckets),
                buckets,
                len(scatters),
                stream,
                seed,
                work,
            )
            for bucket in range(0, buckets, step)
        ]
    shard_map(shuffle, shuffles, workers, "shuffle", "buckets")
    for path in work.glob("scattered-*"):
        path.unlink()
    counts = {}
    writes = []
    for split in SPLITS:
        folder = target / split / name
        shards = plan_shards(work, split, buckets, folder, max_lines, max_bytes)
        (folder if shards else target / split).mkdir(parents=True, exist_ok=True)
        documents = sum(shard.documents for shard in shards)
        # Each document ends with a blank line, which is not a sentence.
        sentences = sum(shard.lines for shard in shards) - documents
        size = sum(shard.bytes for shard in shards)
        counts[split] = SplitCounts(documents, sentences, size, len(shards))
        writes += shards
    shard_map(write_shard, writes, workers, "shards", "shards")
    return counts
