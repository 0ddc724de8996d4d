"""Exactly N sentences of one split, uniformly and without replacement."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lib.run import random
from lib.text.documents import read_corpus
from lib.text.splits import SplitRule

_CHUNK = 1 << 20


def threshold(total: int, wanted: int, seed: int, purpose: str) -> int:
    """The largest hash among the `wanted` smallest of `total` items' keyed hashes.

    Memory: 8 bytes for each wanted item and a chunk, whatever `total` is.
    """
    smallest = np.empty(0, np.uint64)
    for start in range(0, total, _CHUNK):
        ordinals = np.arange(start, min(start + _CHUNK, total), dtype=np.uint64)
        smallest = np.concatenate([smallest, random.hashes(seed, purpose, ordinals)])
        if len(smallest) > wanted:
            smallest = np.partition(smallest, wanted - 1)[:wanted]
    return int(smallest.max())


def _documents(files: list[Path], rule: SplitRule, split: str) -> Iterator[bytes]:
    for path in files:
        for document in read_corpus(path):
            if rule.of(path, document) == split:
                yield document


def count_sentences(files: list[Path], rule: SplitRule) -> dict[str, int]:
    """Sentences in each split."""
    counts = {"train": 0, "dev": 0, "test": 0}
    for path in files:
        for document in read_corpus(path):
            counts[rule.of(path, document)] += document.count(b"\n")
    return counts


def write_sample(
    files: list[Path],
    rule: SplitRule,
    split: str,
    total: int,
    wanted: int,
    seed: int,
    target: BinaryIO,
) -> int:
    """Writes min(wanted, total) sentences of a split, in corpus order, LF-ended.

    Args:
        total: sentences in the split, as counted by `count_sentences`.

    Returns:
        The number of sentences written.
    """
    if not total or not wanted:
        return 0
    purpose = f"sample-{split}"
    limit = np.uint64(threshold(total, wanted, seed, purpose))
    ordinal = written = 0
    for document in _documents(files, rule, split):
        sentences = document.split(b"\n")[:-1]
        ordinals = np.arange(ordinal, ordinal + len(sentences), dtype=np.uint64)
        ordinal += len(sentences)
        chosen = np.flatnonzero(random.hashes(seed, purpose, ordinals) <= limit)
        for index in chosen:
            target.write(sentences[index] + b"\n")
        written += len(chosen)
    return written
