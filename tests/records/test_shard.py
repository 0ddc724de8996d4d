"""Records of a shard, from tokens to a file that TensorFlow reads."""

import gzip
import hashlib
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lib.records import shard
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import shard_records, write_shard
from lib.records.tfrecord import new_digest
from lib.records.tfrecord_reader import decode, read_records
from lib.records.tokens import Tokens, read_tokens
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.records import (
    VOCABULARY,
    read_unpacked,
    records_of,
    serialized_records,
    some_tokens,
    unmasked_ids,
)


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("max_seq_length", [64, 200])
def test_records_of_a_shard(
    whole_words: bool, next_sentence: bool, max_seq_length: int, tmp_path: Path
) -> None:
    tokens = some_tokens()
    settings = RecordSettings(
        max_seq_length,
        20,
        dupe_factor=3,
        whole_word_mask=whole_words,
        next_sentence=next_sentence,
    )
    path = tmp_path / "00000.tfrecord"
    statistics = write_shard(path, tokens, settings, VOCABULARY, 7, 0)
    batch = read_unpacked([path], max_seq_length, 20)
    weights = batch["masked_lm_weights"]
    lengths = batch["input_mask"].sum(axis=1)
    document = np.repeat(np.arange(60), 8).repeat(np.diff(tokens.sentence_offsets))
    for ids, length, segments, label in zip(
        unmasked_ids(batch),
        lengths,
        batch["segment_ids"],
        batch["next_sentence_labels"][:, 0],
        strict=True,
    ):
        assert ids[0] == 2
        assert ids[length - 1] == 3
        assert not ids[length:].any()
        separators = np.flatnonzero(ids == 3)
        assert len(separators) == (2 if next_sentence else 1)
        a = ids[1 : separators[0]] - 5
        b = ids[separators[0] + 1 : separators[-1]] - 5
        assert segments.tolist() == [0] * (len(a) + 2) + [1] * (length - len(a) - 2) + [0] * (
            max_seq_length - length
        )
        for segment in (a, b) if next_sentence else (a,):
            assert (np.diff(segment) == 1).all()  # consecutive text
            assert len(segment)
        assert label == (next_sentence and document[a[0]] != document[b[0]])

    assert statistics.examples == len(lengths)
    assert statistics.tokens == lengths.sum()
    assert statistics.sequences == len(lengths)
    assert statistics.predictions == weights.sum()
    assert statistics.masked_tokens == (batch["input_ids"] == 4).sum()
    assert statistics.random_next == batch["next_sentence_labels"].sum()
    histogram = np.bincount(lengths, minlength=max_seq_length + 1).tolist()
    assert statistics.example_lengths.tolist() == histogram
    assert statistics.sequence_lengths.tolist() == histogram
    for record in read_records(path):
        decode(record)


def test_records_depend_on_seed_and_shard_only() -> None:
    tokens = some_tokens()
    settings = RecordSettings(32, 5, dupe_factor=2)

    def written(seed: int, shard: int, ids_type: type = np.uint16) -> bytes:
        same = Tokens(tokens.ids.astype(ids_type), tokens.sentence_offsets, tokens.document_offsets)
        return b"".join(data for data, _ in shard_records(same, settings, VOCABULARY, seed, shard))

    assert written(1, 0) == written(1, 0) == written(1, 0, np.int32)
    assert len({written(1, 0), written(1, 1), written(2, 0)}) == 3


def test_records_are_shuffled_over_all_passes(tmp_path: Path) -> None:
    tokens = some_tokens(400)
    settings = RecordSettings(200, 1, dupe_factor=4, next_sentence=False, short_seq_prob=0.0)
    batches = list(shard_records(tokens, settings, VOCABULARY, 1, 0))
    assert len(batches) > 3
    assert batches[0][0] == b""
    starts = []  # the first token of each example
    for record in records_of(b"".join(data for data, _ in batches), tmp_path):
        features = decode(record)
        # From position 1 or, if that is the masked one, from position 2.
        first_is_masked = features["masked_lm_positions"][0] == 1
        starts.append(
            int(features["input_ids"][2] - 1 if first_is_masked else features["input_ids"][1])
        )
    assert all(starts.count(start) == 4 for start in starts)
    quarter = starts[: len(starts) // 4]
    assert quarter != sorted(quarter)
    assert len(set(quarter)) < 0.9 * len(quarter)  # holds examples of more than one pass


def test_an_empty_shard_has_no_records() -> None:
    nothing = Tokens.build(np.zeros(0, np.uint16), np.zeros(3, np.int64), np.array([True, False]))
    for next_sentence in (True, False):
        settings = RecordSettings(32, 5, next_sentence=next_sentence)
        batches = list(shard_records(nothing, settings, VOCABULARY, 1, 0))
        assert [data for data, _ in batches] == [b""]


def test_dynamic_records_are_the_static_ones_before_masking(tmp_path: Path) -> None:
    """The same pairs in the same order; and each pass of dupe_factor has other pairs."""
    tokens = some_tokens(40)
    for masking in "static", "dynamic":
        settings = RecordSettings(48, 7, dupe_factor=2, masking=masking)
        write_shard(tmp_path / masking, tokens, settings, VOCABULARY, 3, 0)
    static = read_unpacked([tmp_path / "static"], 48, 7)
    serialized = serialized_records([tmp_path / "dynamic"])
    sizes = {"input_ids": 48, "input_mask": 48, "segment_ids": 48, "next_sentence_labels": 1}
    assert decode(serialized[0]).keys() == sizes.keys()
    dynamic = tf.io.parse_example(
        serialized, {name: tf.io.FixedLenFeature([size], tf.int64) for name, size in sizes.items()}
    )
    for name in "input_mask", "segment_ids", "next_sentence_labels":
        assert (dynamic[name].numpy() == static[name]).all()
    ids = unmasked_ids(static)
    assert (dynamic["input_ids"].numpy() == ids).all()
    assert max(Counter(map(bytes, ids)).values()) <= 2
    assert len(np.unique(ids, axis=0)) > 0.6 * len(ids)


@pytest.mark.parametrize("masking", ["static", "dynamic"])
@pytest.mark.parametrize("length", [64, 128])
@pytest.mark.parametrize("packing", [False, True])
def test_every_pass_has_every_token_once(packing, length, masking, tmp_path, monkeypatch):
    """Each id of the text is a single token of it, so that the records show which are there."""
    monkeypatch.setattr(shard, "POSITIONS_PER_BATCH", 64 * length)
    monkeypatch.setattr(shard, "BATCHES_PER_WINDOW", 3)  # several windows in a small shard
    tokens, passes = some_tokens(150), 2
    settings = RecordSettings(
        length,
        40,
        dupe_factor=passes,
        next_sentence=False,
        whole_sentences=False,
        packing=packing,
        masking=masking,
    )
    total = write_shard(tmp_path / "records", tokens, settings, VOCABULARY, 3, 0)
    segments: list[list[int]] = []
    for record in read_records(tmp_path / "records"):
        example = decode(record)
        ids = example["input_ids"].copy()
        if masking == "static":
            used = example["masked_lm_weights"] > 0
            ids[example["masked_lm_positions"][used]] = example["masked_lm_ids"][used]
        numbers = example["example_ids" if packing else "input_mask"]
        for number in range(1, int(numbers.max()) + 1):
            own = np.flatnonzero(numbers == number)
            if packing:  # [CLS] of a document that continues is at position 0, too.
                assert example["position_ids"][own].tolist() == list(range(len(own)))
            first, *segment, last = ids[own].tolist()
            assert (first, last) == (2, 3)
            segments.append([token - 5 for token in segment])
    # No document begins or ends within a segment.
    document = np.repeat(np.arange(150), np.diff(tokens.sentence_offsets[::8]))
    assert all(
        segment == list(range(segment[0], segment[-1] + 1))
        and document[segment[0]] == document[segment[-1]]
        for segment in segments
    )
    counts = np.bincount([token for segment in segments for token in segment])
    assert (counts == passes).all() and len(counts) == len(tokens.ids)
    assert total.examples == len(segments)
    if packing:
        windows = math.ceil(total.examples / (64 * 3)) + 1
        assert total.sequences <= total.tokens / (0.99 * length) + windows


def test_a_very_long_line(tmp_path: Path) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    tokenizer = WordPieceTokenizer(vocabulary, True, True)
    text = tmp_path / "00000.txt"
    text.write_text("word word\n\n" + "word " * 200_000 + "\n\nword\nword\n\n", encoding="utf-8")
    tokens = read_tokens(text, tokenizer.encode_lines)
    for next_sentence, whole in ((True, True), (False, True), (False, False)):
        settings = RecordSettings(
            64,
            10,
            next_sentence=next_sentence,
            whole_sentences=whole,
            dupe_factor=1,
            packing=True,
        )
        facts = VocabularyFacts.from_tokenizer(tokenizer)
        statistics = write_shard(tmp_path / "records", tokens, settings, facts, 1, 0)
        assert statistics.examples >= 3
        if not next_sentence:  # no token is lost
            assert statistics.tokens - 2 * statistics.examples == 200_004


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_the_digest_is_that_of_the_checksums_in_the_file(tmp_path, packing, compression):
    settings = RecordSettings(64, 20, dupe_factor=1, packing=packing, compression=compression)
    digest = new_digest()
    path = tmp_path / "records"
    total = write_shard(path, some_tokens(), settings, VOCABULARY, 7, 0, digest)
    data = path.read_bytes() if compression == "none" else gzip.decompress(path.read_bytes())
    checksums, start = b"", 0
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 8], "little")
        checksums += data[end : end + 4]
        start = end + 4
    assert len(checksums) == 4 * total.sequences
    assert digest.hexdigest() == hashlib.blake2b(checksums, digest_size=16).hexdigest()
