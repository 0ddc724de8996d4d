"""TFRecords: TensorFlow reads what is written here, and damage does not pass."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lib.records import tfrecord
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import shard_records, write_shard
from lib.records.statistics import RecordStatistics
from lib.records.tfrecord_reader import decode, read_records
from lib.records.tokens import Tokens
from lib.run.errors import UserError

tf = pytest.importorskip("tensorflow")

# Where a varint grows by a byte, and the neighbours.
EDGES = [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]


def as_tensorflow_writes(features: dict[str, np.ndarray], row: int) -> bytes:
    """A row as tf.train.Example serializes it (its map is in no certain order)."""
    feature = {}
    for name, matrix in features.items():
        if matrix.dtype == np.float32:
            floats = tf.train.FloatList(value=matrix[row].tolist())
            feature[name] = tf.train.Feature(float_list=floats)
        else:
            numbers = tf.train.Int64List(value=matrix[row].astype(np.int64).tolist())
            feature[name] = tf.train.Feature(int64_list=numbers)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def records_of(data: bytes, folder: Path) -> list[bytes]:
    path = folder / "some.tfrecord"
    path.write_bytes(data)
    return list(read_records(path))


@st.composite
def feature_blocks(draw: st.DrawFn) -> dict[str, np.ndarray]:
    rows = draw(st.integers(0, 4))
    block = {}
    for name in draw(
        st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)
    ):
        shape = (rows, draw(st.integers(0, 40)))
        highest = draw(st.sampled_from([1, 127, 128, 30_000, 2**21, 2**31 - 1]))
        numbers = st.integers(0, highest) | st.sampled_from([n for n in EDGES if n <= highest])
        matrix = draw(
            arrays.arrays(np.float32, shape)
            | arrays.arrays(bool, shape)
            | arrays.arrays(np.int64, shape, elements=numbers)
            | arrays.arrays(np.uint32, shape, elements=numbers)
            | arrays.arrays(np.uint8, shape)
        )
        block[name] = matrix
    return block


@given(feature_blocks())
@settings(max_examples=150, deadline=None)
def test_same_as_tensorflow(tmp_path_factory: pytest.TempPathFactory, block: dict) -> None:
    rows = len(next(iter(block.values())))
    records = records_of(tfrecord.encode(block), tmp_path_factory.mktemp("records"))
    assert len(records) == rows
    for row, record in enumerate(records):
        theirs = as_tensorflow_writes(block, row)
        assert len(record) == len(theirs)  # the same canonical varints
        # Through a text form, in which not-a-number equals itself.
        assert str(tf.train.Example.FromString(record)) == str(tf.train.Example.FromString(theirs))
        for serialized in (record, theirs):
            mine = decode(serialized)
            assert mine.keys() == block.keys()
            for name, values in mine.items():
                matrix = block[name]
                assert values.dtype == (np.float32 if matrix.dtype == np.float32 else np.int64)
                np.testing.assert_array_equal(values, matrix[row])


@pytest.mark.parametrize("value", EDGES)
def test_edges_of_varints(value: int, tmp_path: Path) -> None:
    matrix = np.array([[value, 0, value], [1, value, 2]])
    for row, record in zip(
        matrix, records_of(tfrecord.encode({"x": matrix}), tmp_path), strict=True
    ):
        example = tf.train.Example.FromString(record)
        assert list(example.features.feature["x"].int64_list.value) == row.tolist()


def test_bytes_are_in_the_order_of_the_dict(tmp_path: Path) -> None:
    one = np.array([[5]])
    forth, back = (
        records_of(tfrecord.encode(dict.fromkeys(names, one)), tmp_path)[0]
        for names in (("b", "a"), ("a", "b"))
    )
    assert forth != back
    assert list(decode(forth)) == ["b", "a"]


@pytest.mark.parametrize(
    "features",
    [
        {},
        {"x": np.array([1])},
        {"x": np.array([[-1]])},
        {"x": np.array([[2**31]])},
        {"x": np.array([[1.0]])},
        {"x": np.array([[1]]), "y": np.array([[1], [2]])},
    ],
)
def test_encode_refuses(features: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="should"):
        tfrecord.encode(features)


def test_damage_is_found(tmp_path: Path) -> None:
    whole = tfrecord.encode({"x": np.array([[1, 300], [2, 5], [7, 70_000]])})
    ends = {0}
    for record in records_of(whole, tmp_path):
        ends.add(max(ends) + len(record) + 16)
    assert max(ends) == len(whole)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        number = sum(place >= end for end in ends)
        with pytest.raises(UserError, match=f"some.tfrecord: record {number} "):
            records_of(bytes(damaged), tmp_path)
        if place not in ends:
            with pytest.raises(UserError, match=f"record {number} is cut short"):
                records_of(whole[:place], tmp_path)


def test_a_length_beyond_the_file_is_not_read(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**60)
    with pytest.raises(UserError, match="cut short"):
        records_of(length + tfrecord.checksum_bytes(length) + b"abc", tmp_path)


WELL_FORMED = as_tensorflow_writes({"x": np.array([[1, 300]]), "y": np.ones((1, 2), np.float32)}, 0)


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda place, replaced, new: WELL_FORMED[:place] + new + WELL_FORMED[place + replaced :],
        st.integers(0, len(WELL_FORMED)),
        st.integers(0, 3),
        st.binary(max_size=3),
    )
)
@settings(max_examples=500, deadline=None)
def test_decode_fails_in_one_way(data: bytes) -> None:
    try:
        decode(data)
    except UserError as error:
        assert "tf.train.Example" in str(error)


def test_decode_what_others_write() -> None:
    feature = {
        "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"", b"long"])),
        "below zero": tf.train.Feature(int64_list=tf.train.Int64List(value=[-1, -(2**63), 2**62])),
        "none": tf.train.Feature(),
    }
    example = tf.train.Example(features=tf.train.Features(feature=feature))
    decoded = decode(example.SerializeToString())
    assert decoded.keys() == {"text", "below zero"}
    assert decoded["text"].tolist() == [b"a", b"", b"long"]
    assert decoded["below zero"].tolist() == [-1, -(2**63), 2**62]
    # Numbers one by one instead of packed: x = [5, 300] and y = [1.0].
    for name, kind, values, expected in (
        (b"x", b"\x1a", b"\x08\x05\x08\xac\x02", [5, 300]),
        (b"y", b"\x12", b"\x0d\x00\x00\x80\x3f", [1.0]),
    ):
        inner = kind + bytes([len(values)]) + values
        entry = b"\x0a\x01" + name + b"\x12" + bytes([len(inner)]) + inner
        features = b"\x0a" + bytes([len(entry)]) + entry
        serialized = b"\x0a" + bytes([len(features)]) + features
        assert decode(serialized)[name.decode()].tolist() == expected
        assert tf.train.Example.FromString(serialized).features.feature[name.decode()]


def test_decode_refuses_a_sequence_example() -> None:
    context = tf.train.Features(
        feature={"x": tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))}
    )
    lists = tf.train.FeatureLists(feature_list={"y": tf.train.FeatureList()})
    other = tf.train.SequenceExample(context=context, feature_lists=lists).SerializeToString()
    with pytest.raises(UserError, match=r"tf\.train\.Example"):
        decode(other)


# A shard from tokens to a file, read with TensorFlow.

VOCABULARY = VocabularyFacts(
    cls_id=2, sep_id=3, mask_id=4, vocab_size=40_000, continuation=np.arange(40_000) >= 20_000
)


def some_tokens(documents: int = 60) -> Tokens:
    """Every id once, so that a row tells where it comes from."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 30, (documents, 8))
    offsets = np.append(0, np.cumsum(lengths))
    ids = np.arange(5, 5 + offsets[-1], dtype=np.uint16)
    return Tokens(ids, offsets, np.arange(0, lengths.size + 1, 8))


def parsed(path: Path, record_settings: RecordSettings) -> dict[str, np.ndarray]:
    """All records of a file, by the specification of Google's run_pretraining.py."""
    length = record_settings.max_seq_length
    predictions = record_settings.max_predictions_per_seq
    specification = {
        "input_ids": tf.io.FixedLenFeature([length], tf.int64),
        "input_mask": tf.io.FixedLenFeature([length], tf.int64),
        "segment_ids": tf.io.FixedLenFeature([length], tf.int64),
        "masked_lm_positions": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature([predictions], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    serialized = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    batch = tf.io.parse_example(serialized, specification)
    return {name: value.numpy() for name, value in batch.items()}


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("max_seq_length", [64, 200])
def test_shard(whole_words: bool, next_sentence: bool, max_seq_length: int, tmp_path: Path) -> None:
    tokens = some_tokens()
    wanted = RecordSettings(
        max_seq_length,
        20,
        dupe_factor=3,
        whole_word_mask=whole_words,
        next_sentence=next_sentence,
    )
    path = tmp_path / "00000.tfrecord"
    statistics = write_shard(path, tokens, wanted, VOCABULARY, 7, 0)
    batch = parsed(path, wanted)
    ids, weights = batch["input_ids"].copy(), batch["masked_lm_weights"]
    lengths = batch["input_mask"].sum(axis=1)

    row, slot = np.nonzero(weights)
    ids[row, batch["masked_lm_positions"][row, slot]] = batch["masked_lm_ids"][row, slot]
    document = np.repeat(np.arange(60), 8).repeat(np.diff(tokens.sentence_offsets))
    for text, length, segments, label in zip(
        ids, lengths, batch["segment_ids"], batch["next_sentence_labels"][:, 0], strict=True
    ):
        assert text[0] == 2
        assert text[length - 1] == 3
        assert not text[length:].any()
        separators = np.flatnonzero(text == 3)
        assert len(separators) == (2 if next_sentence else 1)
        a = text[1 : separators[0]] - 5
        b = text[separators[0] + 1 : separators[-1]] - 5
        assert segments.tolist() == [0] * (len(a) + 2) + [1] * (length - len(a) - 2) + [0] * (
            max_seq_length - length
        )
        for part in (a, b) if next_sentence else (a,):
            assert (np.diff(part) == 1).all()  # text as it stood there
            assert len(part)
        assert label == (next_sentence and document[a[0]] != document[b[0]])

    assert statistics.examples == len(ids)
    assert statistics.tokens == lengths.sum()
    assert statistics.sequences == len(ids)
    assert statistics.predictions == weights.sum()
    assert statistics.masked_tokens == (batch["input_ids"] == 4).sum()
    assert statistics.random_next == batch["next_sentence_labels"].sum()
    histogram = np.bincount(lengths, minlength=max_seq_length + 1).tolist()
    assert statistics.example_lengths.tolist() == statistics.sequence_lengths.tolist() == histogram
    for record in read_records(path):
        decode(record)


def test_shard_depends_on_its_keys_only(tmp_path: Path) -> None:
    tokens = some_tokens()
    wanted = RecordSettings(32, 5, dupe_factor=2)

    def written(seed: int, shard: int, ids_type: type = np.uint16) -> bytes:
        same = Tokens(tokens.ids.astype(ids_type), tokens.sentence_offsets, tokens.document_offsets)
        return b"".join(data for data, _ in shard_records(same, wanted, VOCABULARY, seed, shard))

    assert written(1, 0) == written(1, 0) == written(1, 0, np.int32)
    assert len({written(1, 0), written(1, 1), written(2, 0)}) == 3


def test_shuffled_over_all_passes(tmp_path: Path) -> None:
    tokens = some_tokens(400)
    wanted = RecordSettings(200, 1, dupe_factor=4, next_sentence=False, short_seq_prob=0.0)
    blocks = list(shard_records(tokens, wanted, VOCABULARY, 1, 0))
    assert len(blocks) > 3
    assert blocks[0][0] == b""
    places = []
    for record in records_of(b"".join(data for data, _ in blocks), tmp_path):
        row = decode(record)
        # From the second cell or, where that is the one masked position, the third.
        places.append(
            int(
                row["input_ids"][2] - 1
                if row["masked_lm_positions"][0] == 1
                else row["input_ids"][1]
            )
        )
    assert all(places.count(place) == 4 for place in places)
    quarter = places[: len(places) // 4]
    assert quarter != sorted(quarter)
    assert len(set(quarter)) < 0.9 * len(quarter)  # more than one pass in it


def test_empty_shard() -> None:
    nothing = Tokens.build(np.zeros(0, np.uint16), np.zeros(3, np.int64), np.array([True, False]))
    for next_sentence in (True, False):
        wanted = RecordSettings(32, 5, next_sentence=next_sentence)
        blocks = list(shard_records(nothing, wanted, VOCABULARY, 1, 0))
        assert [data for data, _ in blocks] == [b""]


def test_statistics_add_up() -> None:
    one = RecordStatistics(examples=1, tokens=5, example_lengths=np.array([0, 1]))
    other = RecordStatistics(examples=2, dropped_segments=3, example_lengths=np.array([4, 0, 2]))
    both = RecordStatistics() + one + other
    assert (both.examples, both.tokens, both.dropped_segments) == (3, 5, 3)
    assert both.example_lengths.tolist() == [4, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        {"max_seq_length": 4},
        {"max_predictions_per_seq": 0},
        {"dupe_factor": 0},
        {"masked_lm_prob": 1.5},
        {"short_seq_prob": -0.1},
    ],
)
def test_settings_out_of_range(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(change))):
        RecordSettings(**{"max_seq_length": 32, "max_predictions_per_seq": 5, **change})  # type: ignore[arg-type]
