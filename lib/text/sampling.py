"""Uniform samples of exactly N sentences of a split: those with the N smallest keyed hashes.

A sentence is hashed by its ordinal among the sentences of its split, so that workers can draw from
several files at once: the threshold, the N-th smallest hash of all ordinals, is computed first.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.run import random
from lib.run.copying import copy_range
from lib.run.pool import shard_map
from lib.text.documents import CorpusText, in_batches, join_ranges
from lib.text.layout import SPLITS
from lib.text.names import some_of
from lib.text.splits import SplitRule

_BLOCK_ORDINALS = 1 << 20
_MAX_HASH = (1 << 64) - 1
_BATCH_SENTENCES = 1 << 16


@dataclass(frozen=True)
class _CountTask:
    """Corpus files whose sentences to count; `splits` is the file for the splits it finds."""

    paths: tuple[Path, ...]
    splits: Path
    rule: SplitRule

    def __str__(self) -> str:
        return some_of(list(map(str, self.paths)), 1)


def _count_sentences(task: _CountTask) -> dict[str, int]:
    """Sentences of each split in some corpus files; saves the splits of their documents."""
    corpora = [CorpusText.read(path) for path in task.paths]
    for path, each in zip(task.paths, corpora, strict=True):
        each.check_encoding(path)
    parts = [task.rule.of(path, each) for path, each in zip(task.paths, corpora, strict=True)]
    splits = np.concatenate(parts)
    np.save(task.splits, splits)
    sentences = np.diff(CorpusText.join(corpora).documents) - 1
    counts = np.bincount(splits, sentences, len(SPLITS)).astype(np.int64)
    return dict(zip(SPLITS, counts.tolist(), strict=True))


def threshold(total: int, size: int, seed: int, purpose: str) -> int:
    """Largest hash in a sample: the `size`-th smallest of the keyed hashes of `total` ordinals.

    If all are to be drawn, it is the largest hash there can be. Memory: 8 bytes per ordinal drawn
    plus a block.
    """
    if total <= size:
        return _MAX_HASH
    smallest = np.empty(0, np.uint64)
    for start in range(0, total, _BLOCK_ORDINALS):
        ordinals = np.arange(start, min(start + _BLOCK_ORDINALS, total), dtype=np.uint64)
        smallest = np.concatenate([smallest, random.hashes(seed, purpose, ordinals)])
        if len(smallest) > size:
            smallest = np.partition(smallest, size - 1)[:size]
    return int(smallest.max())


@dataclass(frozen=True)
class _PartTask:
    """Corpus files to draw sentences of one split from.

    Attributes:
        splits: the splits of their documents, as saved by `_count_sentences`.
        first: ordinal of their first sentence: sentences of this split in earlier files.
        limit: sentences whose keyed hash is at most this are drawn.
        target: the file to write.
    """

    paths: tuple[Path, ...]
    splits: Path
    split: str
    first: int
    limit: int
    seed: int
    target: Path

    def __str__(self) -> str:
        return some_of(list(map(str, self.paths)), 1)


def _write_part(task: _PartTask) -> int:
    """Writes the drawn sentences of some files in their order, LF-ended; returns their number."""
    corpus = CorpusText.join([CorpusText.read(path) for path in task.paths])
    in_split = np.load(task.splits) == SPLITS.index(task.split)
    is_sentence = np.repeat(in_split, np.diff(corpus.documents))  # [documents] -> [lines]
    is_sentence[corpus.documents[1:] - 1] = False  # the blank lines
    sentences = np.flatnonzero(is_sentence)
    written = 0
    with task.target.open("wb") as stream:
        for start in range(0, len(sentences), _BATCH_SENTENCES):
            batch = sentences[start : start + _BATCH_SENTENCES]
            first = task.first + start
            ordinals = np.arange(first, first + len(batch), dtype=np.uint64)
            hashes = random.hashes(task.seed, f"sample-{task.split}", ordinals)
            drawn = batch[hashes <= np.uint64(task.limit)]
            stream.write(join_ranges(corpus.text, corpus.lines[drawn], corpus.lines[drawn + 1]))
            written += len(drawn)
    return written


@dataclass(frozen=True)
class Sample:
    """A sample to draw: its split, number of sentences and file."""

    split: str
    sentences: int
    target: Path


def write_samples(
    files: list[Path], rule: SplitRule, samples: list[Sample], seed: int, work: Path, workers: int
) -> list[tuple[int, int]]:
    """Writes samples of sentences, in corpus order and LF-ended.

    Args:
        files: the corpus, in its order.
        samples: if a split has fewer sentences than a sample should have, all are written.
        work: an empty folder.

    Returns:
        For each sample the number of sentences in its split, and of those written.
    """
    tasks = [
        _CountTask(tuple(paths), work / f"{number}.npy", rule)
        for number, paths in enumerate(in_batches(files))
    ]
    counts = shard_map(_count_sentences, tasks, workers, "count")
    results = []
    for sample in samples:
        total = sum(count[sample.split] for count in counts)
        written = 0
        with sample.target.open("wb", buffering=0) as target:
            if total and sample.sentences:
                limit = threshold(total, sample.sentences, seed, f"sample-{sample.split}")
                parts: list[_PartTask] = []
                first = 0
                for task, count in zip(tasks, counts, strict=True):
                    part = work / f"{sample.split}-{len(parts)}.txt"
                    parts.append(
                        _PartTask(task.paths, task.splits, sample.split, first, limit, seed, part)
                    )
                    first += count[sample.split]
                written = sum(shard_map(_write_part, parts, workers, f"sample {sample.split}"))
                for drawn in parts:
                    with drawn.target.open("rb", buffering=0) as part_file:
                        copy_range(part_file, 0, drawn.target.stat().st_size, target)
                    drawn.target.unlink()
        results.append((total, written))
    return results
