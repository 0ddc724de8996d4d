"""Statistics of records: counts and length histograms for the manifest, metrics and plots."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import reduce
from operator import add
from pathlib import PurePosixPath
from typing import Any, Self

import numpy as np

from lib.text.layout import shard_input

_MAX_BINS = 64
# Pairs of which this fraction has one label teach hardly more than that label.
_CONSTANT = 0.9


def _histogram() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


@dataclass
class RecordStatistics:
    """Counts over some records; statistics of several parts can be added.

    Attributes:
        examples: number of examples.
        sequences: number of sequences: the same, or fewer if examples are packed.
        tokens: tokens of all sequences, special tokens included, padding not.
        predictions: masked positions.
        masked_tokens: tokens replaced by [MASK]: about 80 % of the predictions.
        random_next: pairs whose second segment is random.
        unmasked_sequences: external sequences without a masked position.
        two_segments: external sequences with two segments.
        dropped_segments: sentences too short to be an example (see `make_pairs`).
        example_lengths: int64 [max_seq_length + 1]: number of examples of each length.
        sequence_lengths: int64 [max_seq_length + 1]: number of sequences of each length.
    """

    examples: int = 0
    sequences: int = 0
    tokens: int = 0
    predictions: int = 0
    masked_tokens: int = 0
    random_next: int = 0
    unmasked_sequences: int = 0
    two_segments: int = 0
    dropped_segments: int = 0
    example_lengths: np.ndarray = field(default_factory=_histogram)
    sequence_lengths: np.ndarray = field(default_factory=_histogram)

    def __add__(self, other: Self) -> Self:
        sums = {}
        for attribute in fields(self):
            a, b = getattr(self, attribute.name), getattr(other, attribute.name)
            if isinstance(a, np.ndarray):
                size = max(len(a), len(b))
                a, b = (np.pad(array, (0, size - len(array))) for array in (a, b))
            sums[attribute.name] = a + b
        return type(self)(**sums)

    def metrics(
        self, max_seq_length: int, masked: bool, imported: bool = False
    ) -> dict[str, float]:
        """The counts and fractions of `metrics.json`; `fill` is tokens / token positions.

        Args:
            masked: the sequences are masked; otherwise there are no figures on predictions.
            imported: the examples are external, of which some may lack masks.
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
            **({"unmasked_sequences": self.unmasked_sequences} if imported else {}),
            "random_next_fraction": self.random_next / max(self.examples, 1),
            "dropped_segments": self.dropped_segments,
        }


def constant_pairs(random_next: float) -> str | None:
    """What is wrong with sentence pairs that nearly all have the same label; None if they do not.

    Args:
        random_next: fraction of the pairs whose second segment is random.
    """
    if max(random_next, 1 - random_next) < _CONSTANT:
        return None
    kind = "a random second segment" if random_next > 0.5 else "the next segment as their second"
    return (
        f"{max(random_next, 1 - random_next):.1%} of the training pairs have {kind}, so next "
        "sentence prediction learns hardly more than to give that answer always"
    )


@dataclass(frozen=True)
class WrittenShard:
    """A record file that has been written.

    Attributes:
        file: its path within the folder of records, such as train/00000.tfrecord.
        source: path of the text within the folder of shards, or of the file of external examples
            within `records.source`; source_md5 is the MD5 of that file.
        statistics: what the file holds.
        digest: of its records (see `lib.records.tfrecord.new_digest`).
    """

    file: str
    source: str
    source_md5: str
    statistics: RecordStatistics
    digest: str

    @property
    def split(self) -> str:
        return self.file.partition("/")[0]

    @property
    def input(self) -> str:
        """The named input of the text, or ""."""
        return shard_input(PurePosixPath(self.file), self.split)

    @property
    def entry(self) -> dict[str, Any]:
        """The manifest's entry for the file."""
        return {
            "file": self.file,
            "examples": self.statistics.examples,
            "sequences": self.statistics.sequences,
            "source": self.source,
            "source_md5": self.source_md5,
            "digest": self.digest,
            **({"input": self.input, "tokens": self.statistics.tokens} if self.input else {}),
        }


def total(shards: Iterable[WrittenShard]) -> RecordStatistics:
    """The statistics of all files together."""
    return reduce(add, (shard.statistics for shard in shards), RecordStatistics())


def by_input(shards: Sequence[WrittenShard], max_seq_length: int) -> dict[str, dict[str, float]]:
    """The metrics of each named input; see `RecordStatistics.metrics`."""
    return {
        name: total([shard for shard in shards if shard.input == name]).metrics(
            max_seq_length, masked=False
        )
        for name in sorted({shard.input for shard in shards} - {""})
    }


def histogram_csv(counts: np.ndarray, column: str) -> str:
    """A histogram of lengths for a plot, in at most 64 bins of equal width.

    Args:
        counts: int64 [max_seq_length + 1]: number of each length.
        column: name of what is counted.

    Returns:
        CSV with the columns `tokens`, the greatest length in the bin, and `column`.
    """
    longest = len(counts) - 1
    width = -(-longest // _MAX_BINS)
    ends = np.arange(width, longest + width, width)
    padded = np.pad(counts[1:], (0, len(ends) * width - longest))
    sums = padded.reshape(len(ends), width).sum(axis=1)  # [bins, width] -> [bins]
    lines = [f"{end},{count}" for end, count in zip(ends, sums, strict=True)]
    return "\n".join([f"tokens,{column}", *lines]) + "\n"
