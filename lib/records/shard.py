"""From the tokens of a shard to its TFRecords: pairs, shuffling, rows, masks, packs, bytes.

Every random draw is keyed by (seed, purpose, shard, pass or block), so that the bytes depend on
the tokens, the settings and the seed only. Memory stays flat: all passes are held as ranges of
token positions (17 bytes an example), and rows exist a block at a time, or when they are packed a
window of blocks.
"""

import gzip
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from lib.records import tfrecord
from lib.records.masking import Masked, VocabularyFacts, mask_sequences
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack
from lib.records.pairs import Examples, make_pairs, make_single_segments
from lib.records.sequences import Sequences, assemble
from lib.records.settings import RecordSettings
from lib.records.statistics import RecordStatistics
from lib.records.tokens import Tokens
from lib.run.atomic import new_file
from lib.run.random import generator

# Cells of a block of rows: large against numpy's call overhead, small against the cache. (With
# half as many the work takes 1-7 % longer, with a quarter 10-16 % [m]. The output depends on it.)
POSITIONS_PER_BATCH = 1 << 17
# Blocks whose examples are packed together. The examples come shuffled, so that those of a window
# are a fair sample, and more of them hardly fill better.
BATCHES_PER_WINDOW = 16

FILE_SUFFIXES = {"none": ".tfrecord", "gzip": ".tfrecord.gz"}
# A fifth of the size; level 6 makes a sixth of it at half the speed [m]. The compressed bytes are
# those of one version of zlib; what they hold is the same with any.
_GZIP_LEVEL = 1


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
    with new_records(path, settings.compression) as target:
        for records, statistics in shard_records(tokens, settings, vocabulary, seed, shard):
            target.write(records)
            total += statistics
    return total


@contextmanager
def new_records(path: Path, compression: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Opens a record file for writing; it appears when it is finished."""
    with new_file(path) as temporary, temporary.open("wb") as file:
        stream: AbstractContextManager[IO[bytes] | gzip.GzipFile] = nullcontext(file)
        if compression == "gzip":
            # Neither a name nor a time in the header: equal records are equal files.
            stream = gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
        with stream as target:
            yield target


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
    blocks = sequence_batches(tokens, examples, settings, vocabulary, seed, shard)
    if settings.packing:
        yield from _packed_records(blocks, len(examples), settings, vocabulary, seed, shard)
        return
    for rows, masked in blocks:
        statistics = _count(rows, masked, vocabulary)
        statistics.sequences, statistics.sequence_lengths = (
            statistics.examples,
            statistics.example_lengths,
        )
        yield tfrecord.encode(features(rows, masked)), statistics


def make_examples(tokens: Tokens, settings: RecordSettings, seed: int, shard: int) -> Examples:
    """The examples of all passes, pass after pass, in the order of the text."""
    return Examples.concatenate(
        [_one_pass(tokens, settings, seed, shard, number) for number in range(settings.dupe_factor)]
    )


def sequence_batches(
    tokens: Tokens,
    examples: Examples,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
) -> Iterator[tuple[Sequences, Masked | None]]:
    """Sequences of all examples in an order shuffled over the passes, a block at a time.

    Yields:
        The rows, and their masks unless masking is dynamic.
    """
    order = generator(seed, "shuffle", shard).permutation(np.arange(len(examples), dtype=np.int32))
    block_rows = sequences_per_batch(settings)
    for block, start in enumerate(range(0, len(order), block_rows)):
        chosen = order[start : start + block_rows]
        rows = assemble(
            tokens,
            examples,
            chosen,
            settings.max_seq_length,
            vocabulary.cls_id,
            vocabulary.sep_id,
        )
        masked = None
        if settings.masking == "static":
            masked = mask_sequences(
                rows.input_ids,
                rows.lengths,
                vocabulary,
                settings.masked_lm_prob,
                settings.max_predictions_per_seq,
                settings.whole_word_mask,
                generator(seed, "mask", shard, block),
            )
        yield rows, masked


def sequences_per_batch(settings: RecordSettings) -> int:
    return max(1, POSITIONS_PER_BATCH // settings.max_seq_length)


def _one_pass(
    tokens: Tokens, settings: RecordSettings, seed: int, shard: int, number: int
) -> Examples:
    draws = generator(seed, "pairs", shard, number)
    if not settings.next_sentence:
        return make_single_segments(tokens, settings.max_seq_length, settings.short_seq_prob, draws)
    return make_pairs(
        tokens,
        settings.max_seq_length,
        settings.short_seq_prob,
        settings.random_next_prob,
        draws,
    )


def _packed_records(
    blocks: Iterator[tuple[Sequences, Masked | None]],
    examples: int,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
) -> Iterator[tuple[bytes, RecordStatistics]]:
    """Packs the blocks' rows, masked as they would be in rows of their own."""
    block_rows = sequences_per_batch(settings)
    predictions_per_sequence = settings.predictions_per_sequence()
    windows = max(1, -(-examples // (block_rows * BATCHES_PER_WINDOW)))
    # All windows of about one size: a small last one would be packed badly.
    blocks_per_window = -(-examples // (block_rows * windows))
    for window in range(windows):
        statistics = RecordStatistics()
        parts, lengths = [], []
        for rows, masked in islice(blocks, blocks_per_window):
            statistics += _count(rows, masked, vocabulary)
            parts.append(features(rows, masked))
            lengths.append(rows.lengths)
        if not parts:
            return
        together = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        sizes = np.concatenate(lengths)
        packs = pack(sizes, settings.max_seq_length, settings.max_examples_per_pack)
        # The packer puts rows of long examples first.
        packs = generator(seed, "packs", shard, window).permutation(packs)
        statistics.sequences = len(packs)
        statistics.sequence_lengths = np.bincount(
            np.where(packs >= 0, sizes[packs], 0).sum(axis=1), minlength=settings.max_seq_length + 1
        )
        for start in range(0, len(packs), block_rows):
            some = packs[start : start + block_rows]
            packed = assemble_packed(
                together, sizes, some, predictions_per_sequence, settings.next_sentence
            )
            yield tfrecord.encode(packed), statistics
            statistics = RecordStatistics()


def features(rows: Sequences, masked: Masked | None) -> dict[str, np.ndarray]:
    """Google's features, in the order in which its script writes them.

    Sequences of one segment have them all, too, with label 0, so that there is one format to read.
    Unmasked rows have those that need no masks; all else that a trainer needs for masking whole
    words, too, is in the vocabulary: [CLS], [SEP], and which pieces begin with ##.
    """
    if masked is None:
        return {
            "input_ids": rows.input_ids,
            "input_mask": rows.input_mask,
            "segment_ids": rows.segment_ids,
            "next_sentence_labels": rows.next_sentence_labels,
        }
    return {
        "input_ids": masked.input_ids,
        "input_mask": rows.input_mask,
        "segment_ids": rows.segment_ids,
        "masked_lm_positions": masked.positions,
        "masked_lm_ids": masked.ids,
        "masked_lm_weights": masked.weights,
        "next_sentence_labels": rows.next_sentence_labels,
    }


def _count(rows: Sequences, masked: Masked | None, vocabulary: VocabularyFacts) -> RecordStatistics:
    """All but what only is known of finished rows."""
    statistics = RecordStatistics(
        examples=len(rows.lengths),
        tokens=int(rows.lengths.sum()),
        random_next=int(np.count_nonzero(rows.next_sentence_labels)),
        example_lengths=np.bincount(rows.lengths, minlength=rows.input_ids.shape[1] + 1),
    )
    if masked is not None:
        statistics.predictions = int(np.count_nonzero(masked.weights))
        statistics.masked_tokens = int(np.count_nonzero(masked.input_ids == vocabulary.mask_id))
    return statistics
