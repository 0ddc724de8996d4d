"""Text shards: the corpus divided into train, dev and test, documents shuffled and never cut.

An external shuffle in three passes, in bounded memory, each over many files at once:

    1. scatter: the documents of each corpus file go to buckets drawn at random.
    2. shuffle: each bucket, small enough for memory, is read and its documents are permuted.
    3. write:   the shuffled buckets, one after another, are cut into shards of nearly equal size.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.atomic import new_file
from lib.run.copying import copy_range
from lib.run.errors import UserError
from lib.run.pool import Workers, shard_map
from lib.text.documents import CorpusText, join_ranges
from lib.text.splits import SPLITS, SplitRule

# A bucket is shuffled in memory: small compared to the memory of a stage.
BUCKET_BYTES = 32 << 20
_BATCH_DOCUMENTS = 1 << 14  # written at once

# Bytes and lines of a document, its blank line included.
_SIZES = np.dtype([("bytes", "<u4"), ("lines", "<u4")])


@dataclass(frozen=True)
class ScatterTask:
    """A corpus file to scatter: `work` gets its documents sorted by bucket, and their index."""

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
    corpus.check_encoding(task.path)
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
    # Start of each group (split and bucket), in documents and in bytes: int64 [2, groups + 1].
    firsts = np.searchsorted(groups[order], np.arange(len(SPLITS) * task.buckets + 1))
    offsets = np.concatenate(([0], np.cumsum(sizes["bytes"][order], dtype=np.int64)))
    _save(task.work / f"scattered-{task.number}-index.npy", np.stack([firsts, offsets[firsts]]))


@dataclass(frozen=True)
class BucketTask:
    """A bucket of a split, to gather from all scattered files and to shuffle."""

    split: str
    bucket: int
    buckets: int
    files: int
    seed: int
    work: Path

    def __str__(self) -> str:
        return f"bucket {self.bucket} of {self.split}"


def shuffle(task: BucketTask) -> None:
    """Gathers a bucket and writes its documents in random order."""
    group = SPLITS.index(task.split) * task.buckets + task.bucket
    texts, tables = [], []
    for number in range(task.files):
        path = task.work / f"scattered-{number}"
        index = np.load(f"{path}-index.npy", mmap_mode="r")
        (first, past), (start, stop) = index[:, group : group + 2].tolist()
        if first == past:
            continue
        with path.open("rb") as stream:
            stream.seek(start)
            texts.append(stream.read(stop - start))
        tables.append(np.array(np.load(f"{path}-sizes.npy", mmap_mode="r")[first:past]))
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
        for first in range(0, len(order), _BATCH_DOCUMENTS):
            some = order[first : first + _BATCH_DOCUMENTS]
            stream.write(join_ranges(text, starts[some], starts[some + 1]))


def _save(path: Path, array: np.ndarray) -> None:
    with new_file(path, synchronise=False) as temporary, temporary.open("wb") as stream:
        np.save(stream, array)


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
            yield bucket, np.load(work / f"{split}-{bucket}-sizes.npy", mmap_mode="r")

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


def refuse_other_names(shards: Path) -> None:
    """Refuses a folder of text shards that has other names than `{train,dev,test}/NNNNN.txt`.

    Raises:
        UserError: a split has no folder, or a file another name.
    """
    for split in SPLITS:
        folder = shards / split
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; split writes {split}/00000.txt and so on")
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(".") and not re.fullmatch(r"\d{5,}\.txt", path.name):
                raise UserError(
                    f"{path}: text shards are called 00000.txt, 00001.txt and so on; rename it"
                )


@dataclass(frozen=True)
class SplitCounts:
    """The size of one split."""

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
        work: an empty folder for the shuffle, which needs twice the size of the corpus.
        max_lines: lines per shard, blank ones included.
        max_bytes: bytes per shard; only a single larger document exceeds it.
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
        # Each document ends with a blank line, which is not a sentence.
        sentences = sum(shard.lines for shard in shards) - documents
        size = sum(shard.bytes for shard in shards)
        counts[split] = SplitCounts(documents, sentences, size, len(shards))
        writes += shards
    shard_map(write_shard, writes, workers, "shards", "shards")
    return counts
