"""TFRecord reader: legal encodings of other writers are read, damage is found."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.records import tfrecord
from lib.records.tfrecord_reader import decode, read_examples, read_records
from lib.run.errors import UserError
from tests.helpers.records import as_tensorflow_writes, records_of, single_example


def test_damage_is_found(tmp_path: Path) -> None:
    whole = tfrecord.encode({"x": np.array([[1, 300], [2, 5], [7, 70_000]])})
    ends = {0}
    for record in records_of(whole, tmp_path):
        ends.add(max(ends) + len(record) + 16)
    assert max(ends) == len(whole)
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << offset % 8
        number = sum(offset >= end for end in ends)
        with pytest.raises(UserError, match=f"some.tfrecord: record {number} "):
            records_of(bytes(damaged), tmp_path)
        if offset not in ends:
            with pytest.raises(UserError, match=f"record {number} is cut short"):
                records_of(whole[:offset], tmp_path)


def test_a_damaged_length_allocates_no_memory(tmp_path: Path) -> None:
    length = struct.pack("<Q", 2**60)
    with pytest.raises(UserError, match="cut short"):
        records_of(length + tfrecord.checksum_bytes(length) + b"abc", tmp_path)


WELL_FORMED = as_tensorflow_writes({"x": np.array([[1, 300]]), "y": np.ones((1, 2), np.float32)}, 0)


@given(
    st.binary(max_size=60)
    | st.builds(
        lambda start, replaced, new: WELL_FORMED[:start] + new + WELL_FORMED[start + replaced :],
        st.integers(0, len(WELL_FORMED)),
        st.integers(0, 3),
        st.binary(max_size=3),
    )
)
@settings(max_examples=500)
def test_decode_raises_only_user_errors(data: bytes) -> None:
    try:
        decode(data)
    except UserError as error:
        assert "tf.train.Example" in str(error)


def test_decode_reads_other_legal_encodings() -> None:
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
    # Numbers that are not packed: x = [5, 300] and y = [1.0].
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


def google_record(length: int = 16, predictions: int = 3, **other: object) -> bytes:
    """A record as Google's create_pretraining_data.py writes it."""

    def integers(values: list[int]) -> object:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "input_ids": integers([2, 103, 1012, 3, 7, 3] + [0] * (length - 6)),
        "input_mask": integers([1] * 6 + [0] * (length - 6)),
        "segment_ids": integers([0] * 4 + [1] * 2 + [0] * (length - 6)),
        "masked_lm_positions": integers([1] + [0] * (predictions - 1)),
        "masked_lm_ids": integers([5000] + [0] * (predictions - 1)),
        "masked_lm_weights": tf.train.Feature(
            float_list=tf.train.FloatList(value=[1.0] + [0.0] * (predictions - 1))
        ),
        "next_sentence_labels": integers([1]),
    }
    for name, values in other.items():
        if values is None:
            del feature[name]
        else:
            feature[name] = integers(values)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path: Path, records: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def test_records_of_googles_script_are_read(tmp_path):
    path = write_records(tmp_path / "google.tfrecord", [google_record()] * 3)
    examples = list(read_examples(path))
    assert len(examples) == 3
    ids, segments, label, positions, labels = single_example(examples[0])
    assert ids == (2, 103, 1012, 3, 7, 3) and segments == (0, 0, 0, 0, 1, 1)
    assert (label, positions, labels) == ((1,), (1,), (5000,))


FINETUNING = {
    **dict.fromkeys(
        ["masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels"]
    ),
    "label_ids": [1],
    "is_real_example": [1],
}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [google_record(**FINETUNING)],
            "record 1 is not a pretraining example: it lacks masked_lm_positions, masked_lm_ids, "
            "masked_lm_weights (it has input_ids, input_mask, is_real_example, label_ids, "
            "segment_ids)",
        ),
        (
            [google_record(), google_record(next_sentence_labels=None)],
            "record 2 lacks next_sentence_labels, unlike the records before it",
        ),
        (
            [google_record(next_sentence_labels=None), google_record()],
            "record 2 has next_sentence_labels, unlike the records before it",
        ),
        ([google_record(), google_record(length=20)], "record 2: input_ids has 20 values"),
        ([google_record(segment_ids=[0])], "record 1: segment_ids has 1 values"),
        ([google_record(masked_lm_weights=[1, 0, 0])], "masked_lm_weights has 3 values of int64"),
        ([google_record(next_sentence_labels=[0, 1])], "next_sentence_labels has 2 values"),
        ([google_record(), b"\xff\xff"], "record 2: A record should be a tf.train.Example"),
    ],
)
def test_records_that_are_not_pretraining_examples_are_refused(tmp_path, records, message):
    path = write_records(tmp_path / "other.tfrecord", records)
    with pytest.raises(UserError) as failure:
        list(read_examples(path))
    assert message in str(failure.value)
    assert str(failure.value).startswith(f"{path}: record ")
    assert "\n" not in str(failure.value)


def test_damaged_gzip_is_one_error_line(tmp_path):
    whole = gzip.compress(tfrecord.encode({"x": np.arange(3000).reshape(3, 1000)}))
    path = tmp_path / "some.tfrecord.gz"
    for damaged in (whole[:-9], whole[:200], whole[:20], b"no gzip", whole[:100] + whole[101:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"some\.tfrecord\.gz: record [1-4] "):
            list(read_records(path))
