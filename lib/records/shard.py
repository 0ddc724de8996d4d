"""From the tokens of a shard to its TFRecords: pairs, shuffling, rows, masks, bytes.

Every random draw is keyed by (seed, purpose, shard, pass or block), so that the bytes depend on
the tokens, the settings and the seed only. Memory stays flat: all passes are held as ranges of
token positions (17 bytes an example), and only one block of rows exists at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from lib.records import tfrecord
from lib.records.documents import Tokens
from lib.records.masking import Masked, VocabularyFacts, mask_rows
from lib.records.pairs import Examples, make_pairs, make_single
from lib.records.rows import Rows, assemble
from lib.run.atomic import new_file
from lib.run.errors import UserError
from lib.run.random import generator

# Cells of a block of rows: large against numpy's call overhead, small against the cache. (With
# half as many the work takes 1-7 % longer, with a quarter 10-16 % [m]. The output depends on it.)
CELLS_PER_BLOCK = 1 << 17


@dataclass(frozen=True)
class RecordSettings:
    """How examples are made; the names are Google's where Google has one.

    Attributes:
        max_seq_length: tokens of a row, special ones included.
        max_predictions_per_seq: masked positions of a row at most.
        masked_lm_prob: share of a row's tokens to be predicted.
        short_seq_prob: share of documents that are cut into shorter examples.
        dupe_factor: passes over the text, each with other pairs and other masks.
        whole_word_mask: mask words instead of pieces.
        next_sentence: make sentence pairs; otherwise one segment a row.
        random_next_prob: share of pairs whose second segment is replaced by a random one.

    Raises:
        UserError: a value out of range.
    """

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    whole_word_mask: bool = False
    next_sentence: bool = True
    random_next_prob: float = 0.5

    def __post_init__(self) -> None:
        # 5: three special tokens and one of each segment. The target length of Google's short
        # examples, drawn from 2 on, needs as much.
        for name, low in ("max_seq_length", 5), ("max_predictions_per_seq", 1), ("dupe_factor", 1):
            if getattr(self, name) < low:
                raise UserError(
                    f"`{name}` should be at least {low}. Received: {getattr(self, name)}"
                )
        for name in "masked_lm_prob", "short_seq_prob", "random_next_prob":
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"`{name}` should be in 0 to 1. Received: {getattr(self, name)}")


@dataclass
class RecordStatistics:
    """Counts of what was written; the sum of two is that of both.

    Attributes:
        examples: rows written.
        tokens: tokens of all rows, special ones included, padding not.
        padded_cells: cells of padding; tokens + padded_cells = examples * max_seq_length.
        predictions: masked positions.
        masked_tokens: cells that show [MASK]: about 80 % of the predictions.
        random_next: pairs whose second segment is a random one.
        dropped_segments: sentences too short to be an example (see `make_pairs`).
        lengths: int64 [max_seq_length + 1]: number of rows of each length.
    """

    examples: int = 0
    tokens: int = 0
    padded_cells: int = 0
    predictions: int = 0
    masked_tokens: int = 0
    random_next: int = 0
    dropped_segments: int = 0
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __add__(self, other: Self) -> Self:
        lengths = np.zeros(max(len(self.lengths), len(other.lengths)), dtype=np.int64)
        lengths[: len(self.lengths)] += self.lengths
        lengths[: len(other.lengths)] += other.lengths
        return type(self)(
            examples=self.examples + other.examples,
            tokens=self.tokens + other.tokens,
            padded_cells=self.padded_cells + other.padded_cells,
            predictions=self.predictions + other.predictions,
            masked_tokens=self.masked_tokens + other.masked_tokens,
            random_next=self.random_next + other.random_next,
            dropped_segments=self.dropped_segments + other.dropped_segments,
            lengths=lengths,
        )


def write_shard(
    path: Path,
    tokens: Tokens,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
) -> RecordStatistics:
    """Writes one TFRecord file, whole or not at all."""
    total = RecordStatistics()
    with new_file(path) as temporary, temporary.open("wb") as file:
        for records, statistics in shard_records(tokens, settings, vocabulary, seed, shard):
            file.write(records)
            total += statistics
    return total


def shard_records(
    tokens: Tokens, settings: RecordSettings, vocabulary: VocabularyFacts, seed: int, shard: int
) -> Iterator[tuple[bytes, RecordStatistics]]:
    """The shard's records, a block at a time, in an order shuffled over all passes.

    Yields:
        The framed records of a block (first of all an empty one, with the dropped segments), and
        their statistics.
    """
    examples = make_examples(tokens, settings, seed, shard)
    yield b"", RecordStatistics(dropped_segments=examples.dropped_segments)
    for rows, masked in masked_blocks(tokens, examples, settings, vocabulary, seed, shard):
        yield tfrecord.encode(features(rows, masked)), _count(rows, masked, vocabulary)


def make_examples(tokens: Tokens, settings: RecordSettings, seed: int, shard: int) -> Examples:
    """The examples of all passes, pass after pass, in the order of the text."""
    return Examples.concatenate(
        [_one_pass(tokens, settings, seed, shard, number) for number in range(settings.dupe_factor)]
    )


def masked_blocks(
    tokens: Tokens,
    examples: Examples,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
) -> Iterator[tuple[Rows, Masked]]:
    """Rows of all examples in an order shuffled over the passes, masked, a block at a time."""
    order = generator(seed, "shuffle", shard).permutation(np.arange(len(examples), dtype=np.int32))
    rows_per_block = max(1, CELLS_PER_BLOCK // settings.max_seq_length)
    for block, start in enumerate(range(0, len(order), rows_per_block)):
        chosen = order[start : start + rows_per_block]
        rows = assemble(
            tokens,
            examples,
            chosen,
            settings.max_seq_length,
            vocabulary.cls_id,
            vocabulary.sep_id,
        )
        masked = mask_rows(
            rows.input_ids,
            rows.lengths,
            vocabulary,
            settings.masked_lm_prob,
            settings.max_predictions_per_seq,
            settings.whole_word_mask,
            generator(seed, "mask", shard, block),
        )
        yield rows, masked


def _one_pass(
    tokens: Tokens, settings: RecordSettings, seed: int, shard: int, number: int
) -> Examples:
    draws = generator(seed, "pairs", shard, number)
    if not settings.next_sentence:
        return make_single(tokens, settings.max_seq_length, settings.short_seq_prob, draws)
    return make_pairs(
        tokens,
        settings.max_seq_length,
        settings.short_seq_prob,
        settings.random_next_prob,
        draws,
    )


def features(rows: Rows, masked: Masked) -> dict[str, np.ndarray]:
    """Google's features, in the order in which its script writes them.

    Rows of one segment have them all, too, with label 0, so that there is one format to read.
    """
    return {
        "input_ids": masked.input_ids,
        "input_mask": rows.input_mask,
        "segment_ids": rows.segment_ids,
        "masked_lm_positions": masked.positions,
        "masked_lm_ids": masked.ids,
        "masked_lm_weights": masked.weights,
        "next_sentence_labels": rows.next_sentence_labels,
    }


def _count(rows: Rows, masked: Masked, vocabulary: VocabularyFacts) -> RecordStatistics:
    tokens = int(rows.lengths.sum())
    return RecordStatistics(
        examples=len(rows.lengths),
        tokens=tokens,
        padded_cells=rows.input_ids.size - tokens,
        predictions=int(np.count_nonzero(masked.weights)),
        masked_tokens=int(np.count_nonzero(masked.input_ids == vocabulary.mask_id)),
        random_next=int(np.count_nonzero(rows.next_sentence_labels)),
        lengths=np.bincount(rows.lengths, minlength=rows.input_ids.shape[1] + 1),
    )
