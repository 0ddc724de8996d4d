"""Tokens of a shard -> TFRecords: pairs, shuffling, sequences, masks, packing, encoding.

Every random draw is keyed by (seed, purpose, shard, pass or batch), so that the bytes depend only
on the tokens, the settings and the seed. Memory stays bounded: all passes are held as ranges of
token positions (17 bytes per example), and sequences exist one batch at a time, or if they are
packed, one window of batches. Where examples are packed, they are assigned to sequences first (and
cut, see `lib.records.packing`), so that what is masked is an example as the model sees it.

Shapes: B sequences in a batch, S max_seq_length, P max_predictions_per_seq, K examples per packed
sequence.
"""

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np

from lib.records import tfrecord
from lib.records.masking import Masked, VocabularyFacts, mask_sequences
from lib.records.packed_sequences import assemble_packed
from lib.records.packing import pack, pack_and_cut
from lib.records.pairs import (
    SINGLE_SPECIAL_TOKENS,
    Examples,
    cut_documents,
    make_pairs,
    make_single_segments,
)
from lib.records.sequences import Sequences, assemble
from lib.records.settings import RecordSettings
from lib.records.statistics import RecordStatistics
from lib.records.tokens import Tokens
from lib.run.atomic import new_file
from lib.run.random import generator

# B * S of a batch: large compared with NumPy's call overhead, small compared with the cache. Half
# of it took 1-7 % longer, a quarter 10-16 %. The output depends on it.
POSITIONS_PER_BATCH = 1 << 17
# Batches whose examples are packed together. The examples are shuffled, so those of a window are
# a fair sample, and a larger window hardly packs better. The output depends on it.
BATCHES_PER_WINDOW = 16

FILE_SUFFIXES = {"none": ".tfrecord", "gzip": ".tfrecord.gz"}
# Compresses to a fifth of the size; level 6 compresses to a sixth at half the speed (measured).
# The compressed bytes depend on the version of zlib; the uncompressed ones do not.
_GZIP_LEVEL = 1


def write_shard(
    path: Path,
    tokens: Tokens,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
    digest: hashlib.blake2b | None = None,
) -> RecordStatistics:
    """Writes the TFRecord file of one shard; it appears at `path` only when it is complete.

    Args:
        digest: becomes that of its records (see `lib.records.tfrecord.new_digest`).
    """
    total = RecordStatistics()
    with new_records(path, settings.compression) as target:
        for records, statistics in shard_records(tokens, settings, vocabulary, seed, shard, digest):
            target.write(records)
            total += statistics
    return total


@contextmanager
def new_records(path: Path, compression: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Opens a record file for writing; it appears at `path` only when it is complete."""
    with new_file(path) as temporary, temporary.open("wb") as file:
        stream: AbstractContextManager[IO[bytes] | gzip.GzipFile] = nullcontext(file)
        if compression == "gzip":
            # No name and no time in the header: equal records are equal files.
            stream = gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0)
        with stream as target:
            yield target


def shard_records(
    tokens: Tokens,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    seed: int,
    shard: int,
    digest: hashlib.blake2b | None = None,
) -> Iterator[tuple[bytes, RecordStatistics]]:
    """The shard's records, batch by batch, in an order shuffled over all passes.

    Yields:
        The framed records of a batch and their statistics. First of all, no records and the number
        of dropped segments.
    """
    examples = make_examples(tokens, settings, seed, shard)
    yield b"", RecordStatistics(dropped_segments=examples.dropped_segments)
    order = generator(seed, "shuffle", shard).permutation(np.arange(len(examples), dtype=np.int32))
    batches = _Batches(tokens, settings, vocabulary, seed, shard)
    if settings.packing:
        for window, (own, packs) in enumerate(_windows(examples, order, settings)):
            # `pack` puts the sequences of the longest examples first.
            packs = generator(seed, "packs", shard, window).permutation(packs)  # [sequences, K]
            yield from _packed_records(batches.of(own), packs, settings, vocabulary, digest)
        return
    for sequences, masked in batches.of(examples, order):
        statistics = _count(sequences, masked, vocabulary)
        statistics.sequences = statistics.examples
        statistics.sequence_lengths = statistics.example_lengths
        yield tfrecord.encode(features(sequences, masked), digest), statistics


def make_examples(tokens: Tokens, settings: RecordSettings, seed: int, shard: int) -> Examples:
    """The examples of all passes, one pass after the other, in the order of the text."""
    return Examples.concatenate(
        [_one_pass(tokens, settings, seed, shard, number) for number in range(settings.dupe_factor)]
    )


class _Batches:
    """Makes sequences of examples, batch by batch; batches are numbered over the whole shard."""

    def __init__(
        self,
        tokens: Tokens,
        settings: RecordSettings,
        vocabulary: VocabularyFacts,
        seed: int,
        shard: int,
    ) -> None:
        self._tokens, self._settings, self._vocabulary = tokens, settings, vocabulary
        self._seed, self._shard, self._number = seed, shard, 0

    def of(
        self, examples: Examples, order: np.ndarray | None = None
    ) -> Iterator[tuple[Sequences, Masked | None]]:
        """The sequences of some examples, in this order.

        Args:
            order: indices of the examples; None: all as they are.

        Yields:
            The unmasked sequences, and the masked ones with their labels unless masking is dynamic.
        """
        settings, vocabulary = self._settings, self._vocabulary
        order = np.arange(len(examples)) if order is None else order
        batch_size = sequences_per_batch(settings)
        for start in range(0, len(order), batch_size):
            sequences = assemble(
                self._tokens,
                examples,
                order[start : start + batch_size],
                settings.max_seq_length,
                vocabulary.cls_id,
                vocabulary.sep_id,
            )
            if vocabulary.continuation is None:
                sequences = sequences.without_marks()
            masked = None
            if settings.masking == "static":
                masked = mask_sequences(
                    sequences.input_ids,
                    sequences.lengths,
                    vocabulary,
                    settings.masked_lm_prob,
                    settings.max_predictions_per_seq,
                    settings.whole_word_mask,
                    generator(self._seed, "mask", self._shard, self._number),
                    settings.mask_replace_prob,
                    settings.random_replace_prob,
                    sequences.continues_word,
                )
            self._number += 1
            yield sequences, masked


def sequences_per_batch(settings: RecordSettings) -> int:
    return max(1, POSITIONS_PER_BATCH // settings.max_seq_length)


def _one_pass(
    tokens: Tokens, settings: RecordSettings, seed: int, shard: int, number: int
) -> Examples:
    if settings.cuts_documents:
        draws = generator(seed, "cuts", shard, number)
        return cut_documents(tokens, settings.max_seq_length, settings.short_seq_prob, draws)
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


def _windows(
    examples: Examples, order: np.ndarray, settings: RecordSettings
) -> Iterator[tuple[Examples, np.ndarray]]:
    """The examples that are packed together, and their packs, int64 [sequences, K].

    Args:
        order: indices of the examples.
    """
    if not len(order):
        return
    batch_size, length = sequences_per_batch(settings), settings.max_seq_length
    windows = -(-len(order) // (batch_size * BATCHES_PER_WINDOW))
    # Windows of about equal size: a small last one would be packed badly.
    size = -(-len(order) // (batch_size * windows)) * batch_size
    for start in range(0, len(order), size):
        own = examples.take(order[start : start + size])
        if settings.cuts_documents:
            pieces = pack_and_cut(
                own.a_length.astype(np.int64),
                length,
                settings.max_examples_per_pack,
                SINGLE_SPECIAL_TOKENS,
            )
            starts = own.a_start[pieces.examples] + pieces.starts
            yield Examples.single_segments(starts, pieces.lengths), pieces.packs
        else:
            yield own, pack(own.sequence_lengths(), length, settings.max_examples_per_pack)


def _packed_records(
    batches: Iterator[tuple[Sequences, Masked | None]],
    packs: np.ndarray,
    settings: RecordSettings,
    vocabulary: VocabularyFacts,
    digest: hashlib.blake2b | None,
) -> Iterator[tuple[bytes, RecordStatistics]]:
    """Packs the sequences of a window, which are masked as if they were not packed.

    Args:
        packs: int64 [sequences, K]: the examples of each sequence, then -1.
    """
    statistics = RecordStatistics()
    parts, part_lengths = [], []
    for sequences, masked in batches:
        statistics += _count(sequences, masked, vocabulary)
        parts.append(features(sequences, masked))
        part_lengths.append(sequences.lengths)
    # Of the N examples of the window: features [N, S] or [N, P], lengths [N].
    unpacked = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    lengths = np.concatenate(part_lengths)
    statistics.sequences = len(packs)
    statistics.sequence_lengths = np.bincount(
        np.where(packs >= 0, lengths[packs], 0).sum(axis=1),
        minlength=settings.max_seq_length + 1,
    )
    predictions_per_sequence = settings.predictions_per_sequence()
    batch_size = sequences_per_batch(settings)
    for start in range(0, len(packs), batch_size):
        packed = assemble_packed(
            unpacked,
            lengths,
            packs[start : start + batch_size],
            predictions_per_sequence,
            settings.next_sentence,
        )
        yield tfrecord.encode(packed, digest), statistics
        statistics = RecordStatistics()


def features(sequences: Sequences, masked: Masked | None) -> dict[str, np.ndarray]:
    """Google's features, in the order in which its script writes them.

    Sequences of one segment have them all, with label 0, so that there is one format to read.
    Unmasked sequences lack the masked_lm features. Everything else that dynamic masking needs is
    in the vocabulary: the ids of [CLS] and [SEP], and which wordpieces begin with ##. If these do
    not say which tokens continue a word, unmasked sequences have a feature for it.
    """
    if masked is None:
        found = {
            "input_ids": sequences.input_ids,
            "input_mask": sequences.input_mask,
            "segment_ids": sequences.segment_ids,
            "next_sentence_labels": sequences.next_sentence_labels,
        }
        if sequences.continues_word is not None:
            found["continues_word"] = sequences.continues_word.view(np.uint8)
        return found
    return {
        "input_ids": masked.input_ids,
        "input_mask": sequences.input_mask,
        "segment_ids": sequences.segment_ids,
        "masked_lm_positions": masked.positions,
        "masked_lm_ids": masked.ids,
        "masked_lm_weights": masked.weights,
        "next_sentence_labels": sequences.next_sentence_labels,
    }


def _count(
    sequences: Sequences, masked: Masked | None, vocabulary: VocabularyFacts
) -> RecordStatistics:
    """The statistics that do not depend on packing."""
    statistics = RecordStatistics(
        examples=len(sequences.lengths),
        tokens=int(sequences.lengths.sum()),
        random_next=int(np.count_nonzero(sequences.next_sentence_labels)),
        example_lengths=np.bincount(sequences.lengths, minlength=sequences.input_ids.shape[1] + 1),
    )
    if masked is not None:
        statistics.predictions = int(np.count_nonzero(masked.weights))
        statistics.masked_tokens = int(np.count_nonzero(masked.input_ids == vocabulary.mask_id))
    return statistics
