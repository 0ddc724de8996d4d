"""TFRecord encoder: TensorFlow reads what it writes."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lib.records import tfrecord
from lib.records.tfrecord_reader import decode
from tests.helpers.records import as_tensorflow_writes, records_of

# Numbers at which a varint becomes one byte longer, and their neighbours.
EDGES = [0, 1, 127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]


@st.composite
def feature_batches(draw: st.DrawFn) -> dict[str, np.ndarray]:
    batch_size = draw(st.integers(0, 4))
    features = {}
    for name in draw(
        st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5, unique=True)
    ):
        shape = (batch_size, draw(st.integers(0, 40)))
        highest = draw(st.sampled_from([1, 127, 128, 30_000, 2**21, 2**31 - 1]))
        numbers = st.integers(0, highest) | st.sampled_from([n for n in EDGES if n <= highest])
        matrix = draw(
            arrays.arrays(np.float32, shape)
            | arrays.arrays(bool, shape)
            | arrays.arrays(np.int64, shape, elements=numbers)
            | arrays.arrays(np.uint32, shape, elements=numbers)
            | arrays.arrays(np.uint8, shape)
        )
        features[name] = matrix
    return features


@given(feature_batches())
@settings(max_examples=150)
def test_records_equal_tensorflows(
    tmp_path_factory: pytest.TempPathFactory, features: dict
) -> None:
    batch_size = len(next(iter(features.values())))
    records = records_of(tfrecord.encode(features), tmp_path_factory.mktemp("records"))
    assert len(records) == batch_size
    for index, record in enumerate(records):
        theirs = as_tensorflow_writes(features, index)
        assert len(record) == len(theirs)  # the same canonical varints
        # As text, in which not-a-number equals itself.
        assert str(tf.train.Example.FromString(record)) == str(tf.train.Example.FromString(theirs))
        for serialized in (record, theirs):
            decoded = decode(serialized)
            assert decoded.keys() == features.keys()
            for name, values in decoded.items():
                matrix = features[name]
                assert values.dtype == (np.float32 if matrix.dtype == np.float32 else np.int64)
                np.testing.assert_array_equal(values, matrix[index])


def test_the_example_of_the_docstring() -> None:
    frame = tfrecord.encode({"x": np.array([[5, 300]])})
    assert frame[12:-4].hex(" ") == "0a 0e 0a 0c 0a 01 78 12 07 1a 05 0a 03 05 ac 02"


@pytest.mark.parametrize("value", EDGES)
def test_edges_of_varints(value: int, tmp_path: Path) -> None:
    matrix = np.array([[value, 0, value], [1, value, 2]])
    records = records_of(tfrecord.encode({"x": matrix}), tmp_path)
    for values, record in zip(matrix, records, strict=True):
        example = tf.train.Example.FromString(record)
        assert list(example.features.feature["x"].int64_list.value) == values.tolist()


def test_features_are_in_the_order_of_the_dict(tmp_path: Path) -> None:
    values = np.array([[5]])
    b_first, a_first = (
        records_of(tfrecord.encode(dict.fromkeys(names, values)), tmp_path)[0]
        for names in (("b", "a"), ("a", "b"))
    )
    assert b_first != a_first
    assert list(decode(b_first)) == ["b", "a"]


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
def test_encode_refuses_other_arrays(features: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="should"):
        tfrecord.encode(features)
