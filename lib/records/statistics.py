"""Counts of what was written, as they stand in the manifest, the metrics and the plots."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import add
from typing import Self

import numpy as np

from lib.records.manifest import ShardEntry

_MAX_BINS = 64


def _histogram() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass
class RecordStatistics:
    """Counts of what was written; the sum of two is that of both.

    Attributes:
        examples: examples written.
        rows: rows that they stand in: as many, or fewer when packed.
        tokens: tokens of all rows, special ones included, padding not.
        predictions: masked positions.
        masked_tokens: cells that show [MASK]: about 80 % of the predictions.
        random_next: pairs whose second segment is a random one.
        dropped_segments: sentences too short to be an example (see `make_pairs`).
        example_lengths: int64 [max_seq_length + 1]: number of examples of each length.
        sequence_lengths: int64 [max_seq_length + 1]: number of rows with so many tokens.
    """

    examples: int = 0
    sequences: int = 0
    tokens: int = 0
    predictions: int = 0
    masked_tokens: int = 0
    random_next: int = 0
    dropped_segments: int = 0
    example_lengths: np.ndarray = field(default_factory=_histogram)
    sequence_lengths: np.ndarray = field(default_factory=_histogram)

    def __add__(self, other: Self) -> Self:
        sums = {}
        for each in fields(self):
            one, two = getattr(self, each.name), getattr(other, each.name)
            if isinstance(one, np.ndarray):
                size = max(len(one), len(two))
                one, two = (np.pad(array, (0, size - len(array))) for array in (one, two))
            sums[each.name] = one + two
        return type(self)(**sums)

    def metrics(self, max_seq_length: int, masked: bool) -> dict[str, float]:
        """The numbers and shares that tell whether the examples are what one wanted.

        Args:
            masked: whether there are masks to speak of.
        """
        predictions = {
            "predictions": self.predictions,
            "masked_fraction": self.predictions / max(self.tokens, 1),
        }
        return {
            "examples": self.examples,
            "sequences": self.sequences,
            "tokens": self.tokens,
            "fill": self.tokens / max(self.sequences * max_seq_length, 1),
            **(predictions if masked else {}),
            "random_next_fraction": self.random_next / max(self.examples, 1),
            "dropped_segments": self.dropped_segments,
        }


@dataclass(frozen=True)
class WrittenShard:
    """A record file that has been written.

    Attributes:
        file: its path within the folder of records, such as train/00000.tfrecord.
        source, source_md5: see `lib.records.manifest.ShardEntry`.
        statistics: what the file holds.
    """

    file: str
    source: str
    source_md5: str
    statistics: RecordStatistics

    @property
    def split(self) -> str:
        return self.file.partition("/")[0]

    @property
    def entry(self) -> ShardEntry:
        """What the manifest says of the file."""
        counts = self.statistics.examples, self.statistics.sequences
        return ShardEntry(self.file, *counts, self.source, self.source_md5)


def total(shards: Iterable[WrittenShard]) -> RecordStatistics:
    """The statistics of all files together."""
    return reduce(add, (shard.statistics for shard in shards), RecordStatistics())


def histogram_csv(counts: np.ndarray, column: str) -> str:
    """A histogram of lengths for a plot, in at most 64 bins of equal width.

    Args:
        counts: int64 [max_seq_length + 1]: how many have each length.
        column: what is counted.

    Returns:
        CSV with the columns `tokens`, the longest length of the bin, and `column`.
    """
    longest = len(counts) - 1
    width = -(-longest // _MAX_BINS)
    ends = np.arange(width, longest + width, width)
    padded = np.pad(counts[1:], (0, len(ends) * width - longest))
    sums = padded.reshape(len(ends), width).sum(axis=1)
    lines = [f"{end},{count}" for end, count in zip(ends, sums, strict=True)]
    return "\n".join([f"tokens,{column}", *lines]) + "\n"
