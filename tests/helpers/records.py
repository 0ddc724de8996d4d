"""Tokens to make records from, and records as TensorFlow writes and reads them."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.tfrecord_reader import decode, read_records
from lib.records.tokens import Tokens

VOCABULARY = VocabularyFacts(
    cls_id=2, sep_id=3, mask_id=4, vocab_size=40_000, continuation=np.arange(40_000) >= 20_000
)

Features = dict[str, np.ndarray]
Example = tuple[tuple[int, ...], ...]  # input_ids, segment_ids, label, masked positions and ids


def some_tokens(documents: int = 60) -> Tokens:
    """Documents of 8 sentences; every id occurs once, so that a token shows where it comes from."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 30, (documents, 8))
    offsets = np.append(0, np.cumsum(lengths))
    ids = np.arange(5, 5 + offsets[-1], dtype=np.uint16)
    return Tokens(ids, offsets, np.arange(0, lengths.size + 1, 8))


def as_tensorflow_writes(features: Features, index: int) -> bytes:
    """A record as tf.train.Example serializes it (the order of its map is undefined)."""
    feature = {}
    for name, matrix in features.items():
        if matrix.dtype == np.float32:
            floats = tf.train.FloatList(value=matrix[index].tolist())
            feature[name] = tf.train.Feature(float_list=floats)
        else:
            numbers = tf.train.Int64List(value=matrix[index].astype(np.int64).tolist())
            feature[name] = tf.train.Feature(int64_list=numbers)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def records_of(data: bytes, folder: Path) -> list[bytes]:
    """The records of a file with this content, as our reader reads them."""
    path = folder / "some.tfrecord"
    path.write_bytes(data)
    return list(read_records(path))


def serialized_records(paths: list[Path], compression: str = "") -> list[bytes]:
    """The records of files, as TensorFlow reads them."""
    files = tf.data.TFRecordDataset(list(map(str, paths)), compression)
    return list(files.as_numpy_iterator())


def read_unpacked(
    paths: list[Path], length: int, predictions: int, compression: str = ""
) -> Features:
    """All examples of some files, by the specification of Google's run_pretraining.py."""
    specification = {
        **{
            name: tf.io.FixedLenFeature([length], tf.int64)
            for name in ("input_ids", "input_mask", "segment_ids")
        },
        "masked_lm_positions": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_ids": tf.io.FixedLenFeature([predictions], tf.int64),
        "masked_lm_weights": tf.io.FixedLenFeature([predictions], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    batch = tf.io.parse_example(serialized_records(paths, compression), specification)
    return {name: values.numpy() for name, values in batch.items()}


def unmasked_ids(features: Features) -> np.ndarray:
    """The input_ids of some examples before masking."""
    ids = features["input_ids"].copy()
    example, slot = np.nonzero(features["masked_lm_weights"])
    ids[example, features["masked_lm_positions"][example, slot]] = features["masked_lm_ids"][
        example, slot
    ]
    return ids


def read_packed(path: Path, settings: RecordSettings) -> list[Features]:
    """All sequences of a packed file; they have the packed features and no others."""
    length, examples = settings.max_seq_length, settings.examples_per_sequence
    sizes = {
        **dict.fromkeys(["input_ids", "segment_ids", "position_ids", "example_ids"], length),
        **dict.fromkeys(["cls_positions", "next_sentence_labels"], examples),
    }
    floats = {"next_sentence_weights": examples}
    if settings.masking == "static":
        predictions = settings.predictions_per_sequence()
        sizes |= dict.fromkeys(["masked_lm_positions", "masked_lm_ids"], predictions)
        floats["masked_lm_weights"] = predictions
    specification = {
        **{name: tf.io.FixedLenFeature([size], tf.int64) for name, size in sizes.items()},
        **{name: tf.io.FixedLenFeature([size], tf.float32) for name, size in floats.items()},
    }
    serialized = serialized_records([path])
    assert decode(serialized[0]).keys() == specification.keys()
    batch = {
        name: values.numpy()
        for name, values in tf.io.parse_example(serialized, specification).items()
    }
    return [
        {name: values[number] for name, values in batch.items()}
        for number in range(len(serialized))
    ]


def unpack(sequence: Features) -> list[Example]:
    """The examples of a packed sequence, whose features are checked."""
    found = []
    number = int(sequence["example_ids"].max())
    weights = sequence["next_sentence_weights"].tolist()
    assert weights in ([1] * number + [0] * (len(weights) - number), [0] * len(weights))
    assert (sum(weights) > 0) == bool(sequence["segment_ids"].any())
    assert not sequence["cls_positions"][number:].any()
    assert not sequence["next_sentence_labels"][number:].any()
    assert sorted(set(sequence["example_ids"].tolist()) - {0}) == list(range(1, number + 1))
    for name in "input_ids", "segment_ids", "position_ids":
        assert not sequence[name][sequence["example_ids"] == 0].any()
    if "masked_lm_weights" in sequence:
        real = sequence["masked_lm_weights"] == 1
        assert not real[int(real.sum()) :].any()
        positions = sequence["masked_lm_positions"][real]
        assert not sequence["masked_lm_positions"][~real].any()
        assert not sequence["masked_lm_ids"][~real].any()
    for index in range(number):
        own = np.flatnonzero(sequence["example_ids"] == index + 1)
        assert own[0] == sequence["cls_positions"][index]
        assert sequence["position_ids"][own].tolist() == list(range(len(own)))
        assert (np.diff(own) == 1).all()
        example = [
            tuple(sequence["input_ids"][own].tolist()),
            tuple(sequence["segment_ids"][own].tolist()),
            (int(sequence["next_sentence_labels"][index]),),
        ]
        if "masked_lm_weights" in sequence:
            inside = (positions >= own[0]) & (positions <= own[-1])
            example += [
                tuple((positions[inside] - own[0]).tolist()),
                tuple(sequence["masked_lm_ids"][real][inside].tolist()),
            ]
        found.append(tuple(example))
    if "masked_lm_weights" in sequence:
        assert sum(len(example[3]) for example in found) == len(positions)
    return found


def single_example(sequence: Features) -> Example:
    """The example of an unpacked sequence, in the form that `unpack` returns."""
    length = int(sequence["input_mask"].sum())
    example = [
        tuple(sequence["input_ids"][:length].tolist()),
        tuple(sequence["segment_ids"][:length].tolist()),
        tuple(sequence["next_sentence_labels"].tolist()),
    ]
    if "masked_lm_weights" in sequence:
        real = sequence["masked_lm_weights"] == 1
        example += [
            tuple(sequence["masked_lm_positions"][real].tolist()),
            tuple(sequence["masked_lm_ids"][real].tolist()),
        ]
    return tuple(example)
