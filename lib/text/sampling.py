"""Exactly N sentences of one split, uniformly: those with the N smallest keyed hashes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.copying import copy_range
from lib.run.pool import shard_map
from lib.text.documents import CorpusText, join_ranges
from lib.text.splits import SPLITS, SplitRule

_CHUNK = 1 << 20
_HIGHEST = (1 << 64) - 1
_AT_ONCE = 1 << 16  # sentences hashed, and joined where they are drawn


@dataclass(frozen=True)
class _CountTask:
    """A corpus file whose sentences are to be counted; `splits` is where to keep its splits."""

    path: Path
    splits: Path
    rule: SplitRule

    def __str__(self) -> str:
        return str(self.path)


def _count_sentences(task: _CountTask) -> dict[str, int]:
    """Sentences of each split in one corpus file; keeps the splits of its documents."""
    corpus = CorpusText.read(task.path)
    splits = task.rule.of(task.path, corpus)
    np.save(task.splits, splits)
    sentences = np.diff(corpus.documents) - 1
    counts = np.bincount(splits, sentences, len(SPLITS)).astype(np.int64)
    return dict(zip(SPLITS, counts.tolist(), strict=True))


def threshold(total: int, wanted: int, seed: int, purpose: str) -> int:
    """The largest hash among the `wanted` smallest of `total` items' keyed hashes, or a larger.

    Memory: 8 bytes for each wanted item and a chunk, whatever `total` is.
    """
    if total <= wanted:
        return _HIGHEST
    smallest = np.empty(0, np.uint64)
    for start in range(0, total, _CHUNK):
        ordinals = np.arange(start, min(start + _CHUNK, total), dtype=np.uint64)
        smallest = np.concatenate([smallest, random.hashes(seed, purpose, ordinals)])
        if len(smallest) > wanted:
            smallest = np.partition(smallest, wanted - 1)[:wanted]
    return int(smallest.max())


@dataclass(frozen=True)
class _PartTask:
    """A corpus file to draw sentences of one split from.

    Attributes:
        splits: the splits of its documents, as kept by `_count_sentences`.
        first: sentences of this split in the files before.
        limit: sentences whose keyed hash is at most this are drawn.
        target: the file to write.
    """

    path: Path
    splits: Path
    split: str
    first: int
    limit: int
    seed: int
    target: Path

    def __str__(self) -> str:
        return str(self.path)


def _write_part(task: _PartTask) -> int:
    """Writes the drawn sentences of one file in their order, LF-ended; gives their number."""
    corpus = CorpusText.read(task.path)
    mine = np.load(task.splits) == SPLITS.index(task.split)
    is_sentence = np.repeat(mine, np.diff(corpus.documents))
    is_sentence[corpus.documents[1:] - 1] = False  # the blank lines
    places = np.flatnonzero(is_sentence)
    written = 0
    with task.target.open("wb") as stream:
        for start in range(0, len(places), _AT_ONCE):
            some = places[start : start + _AT_ONCE]
            first = task.first + start
            ordinals = np.arange(first, first + len(some), dtype=np.uint64)
            hashes = random.hashes(task.seed, f"sample-{task.split}", ordinals)
            some = some[hashes <= np.uint64(task.limit)]
            stream.write(join_ranges(corpus.text, corpus.lines[some], corpus.lines[some + 1]))
            written += len(some)
    return written


@dataclass(frozen=True)
class Sample:
    """What is wanted of one split, and where to write it."""

    split: str
    sentences: int
    target: Path


def write_samples(
    files: list[Path], rule: SplitRule, samples: list[Sample], seed: int, work: Path, workers: int
) -> list[tuple[int, int]]:
    """Writes sentences in corpus order, LF-ended; all of a split if it has fewer than wanted.

    Args:
        work: an empty folder.

    Returns:
        For each sample the sentences of its split, and how many of them were written.
    """
    splits = [work / f"{number}.npy" for number in range(len(files))]
    counts = shard_map(
        _count_sentences,
        [_CountTask(path, kept, rule) for path, kept in zip(files, splits, strict=True)],
        workers,
        "count",
    )
    results = []
    for sample in samples:
        total = sum(count[sample.split] for count in counts)
        written = 0
        with sample.target.open("wb", buffering=0) as target:
            if total and sample.sentences:
                limit = threshold(total, sample.sentences, seed, f"sample-{sample.split}")
                parts: list[_PartTask] = []
                first = 0
                for path, kept, count in zip(files, splits, counts, strict=True):
                    part = work / f"{sample.split}-{len(parts)}.txt"
                    parts.append(_PartTask(path, kept, sample.split, first, limit, seed, part))
                    first += count[sample.split]
                written = sum(shard_map(_write_part, parts, workers, f"sample {sample.split}"))
                for task in parts:
                    with task.target.open("rb", buffering=0) as part_file:
                        copy_range(part_file, 0, task.target.stat().st_size, target)
                    task.target.unlink()
        results.append((total, written))
    return results
