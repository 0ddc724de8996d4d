"""PyTorch files: hand-written state dicts are read; impossible and damaged ones are refused."""

import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.checkpoints.pytorch_files import PickledTensors
from lib.run.errors import UserError
from tests.helpers.pickles import (
    EMPTY_DICT,
    MAGIC_NUMBER,
    PROTOCOL_VERSION,
    REBUILD_TENSOR,
    Call,
    Name,
    PersistentId,
    opcodes,
    pickled,
    refusal,
    tensor,
    write_legacy,
    write_zip,
)


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.uint32).ravel().tolist()


NUMBERS = np.arange(24, dtype=np.float32) * np.float32(1 / 3)
HALVES = np.array([1, -2.5, 65504, 2**-24, 1 / 3], np.float16)
# bfloat16 is the upper half of a float32.
BFLOATS = b"".join(struct.pack(">f", x)[:2][::-1] for x in (1.0, -2.5, 3e38, 0.15625))
STATE = {
    "full": tensor("0", "Float", 24, (4, 6), (6, 1)),
    "transposed": tensor("0", "Float", 24, (6, 4), (1, 6)),
    "parameter": Call(
        Name("torch._utils", "_rebuild_parameter"),
        (tensor("0", "Float", 24, (2, 3), (6, 2), 7), True, EMPTY_DICT),
    ),
    "float16": tensor("1", "Half", 5, (5,), (1,)),
    "bfloat16": tensor("2", "BFloat16", 4, (2, 2), (2, 1)),
    "positions": tensor("3", "Long", 3, (1, 3), (3, 1)),
    "scalar": tensor("0", "Float", 24, (), (), 5),
}
LONGS = np.arange(3, dtype=np.int64).tobytes()
RAW = {"0": NUMBERS.tobytes(), "1": HALVES.tobytes(), "2": BFLOATS, "3": LONGS}
COUNTS = {"0": 24, "1": 5, "2": 4, "3": 3}


def write_file(path: Path, zipped: bool, state: bytes, raw: dict[str, bytes] = RAW) -> Path:
    if zipped:
        return write_zip(path, state, raw, byteorder=b"little", version=b"3\n")
    return write_legacy(path, state, {key: (COUNTS[key], values) for key, values in raw.items()})


@pytest.mark.parametrize("zipped", [True, False])
def test_all_kinds_of_views_are_read(tmp_path, zipped):
    found = PickledTensors(write_file(tmp_path / "m.bin", zipped, pickled(STATE)))
    square = NUMBERS.reshape(4, 6)
    expected = {
        "full": square,
        "transposed": square.T,
        "parameter": np.array([[7, 9, 11], [13, 15, 17]]) * np.float32(1 / 3),
        "float16": HALVES.astype(np.float32),
        "bfloat16": np.frombuffer(
            b"".join(b"\0\0" + BFLOATS[at : at + 2] for at in range(0, 8, 2)), "<f4"
        ).reshape(2, 2),
        "scalar": NUMBERS[5],
    }
    assert found.shapes == {name: array.shape for name, array in expected.items()} | {
        "positions": (1, 3)
    }
    for name, array in expected.items():
        values = found.read(name)
        assert (values.dtype, values.shape) == (np.float32, array.shape)
        assert values.flags.c_contiguous
        assert np.array_equal(values, array.astype(np.float32)), name
    with pytest.raises(UserError, match=r"m\.bin: positions has dtype int64; save the model"):
        found.read("positions")


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_state_dict_inside_a_dictionary(tmp_path, key):
    state = {"epoch": 3, key: STATE, "optimizer": {"state": {0: {"step": 1}}}}
    found = PickledTensors(write_file(tmp_path / "m.bin", True, pickled(state)))
    assert bits(found.read("full")) == bits(NUMBERS)


def test_old_archive_without_folder_and_with_metadata(tmp_path):
    """Old archives do not state the byte order; torch sets `_metadata` on its dictionaries."""
    built = opcodes(STATE) + opcodes({"_metadata": {"": {"version": 1}}}) + b"b"
    path = write_zip(tmp_path / "m.bin", b"\x80\x02" + built + b".", RAW, top="")
    assert bits(PickledTensors(path).read("full")) == bits(NUMBERS)


def state(**tensors: Any) -> bytes:
    return pickled(tensors)


IMPOSSIBLE = {
    "beyond": tensor("0", "Float", 24, (4, 6), (6, 1), 1),
    "strides": tensor("0", "Float", 24, (4, 6), (7, 1)),
    "repeated": tensor("0", "Float", 24, (10**6, 10**6), (0, 0)),
    "negative size": tensor("0", "Float", 24, (-4, -6), (6, 1)),
    "negative stride": tensor("0", "Float", 24, (4, 6), (6, -1), 23),
    "negative offset": tensor("0", "Float", 24, (4, 6), (6, 1), -1),
    "ranks": tensor("0", "Float", 24, (4, 6), (6,)),
    "dimensions": tensor("0", "Float", 24, (1,) * 100, (1,) * 100),
    "huge": tensor("0", "Float", 2**70, (2**70,), (1,)),
    "empty and huge": tensor("0", "Float", 24, (0, 2**39, 2**39), (1, 1, 1)),
    "empty and beyond": tensor("0", "Float", 24, (0,), (1,), 25),
    "long storage": tensor("0", "Float", 25, (4, 6), (6, 1)),
    "no storage": tensor("9", "Float", 24, (4, 6), (6, 1)),
    "a flag": tensor("0", "Float", 24, (True, 6), (6, 1)),
    "a key": tensor(7, "Float", 24, (4, 6), (6, 1)),
    "a shape": tensor("0", "Float", 24, "46", (6, 1)),
    "a view of old": tensor("0", "Float", 24, (4, 6), (6, 1), 0, ("1", 0, 24)),
    "more": tensor("0", "Float", 24, (4, 6), (6, 1), 0, None, None),
    "an id": Call(REBUILD_TENSOR, (PersistentId("0"), 0, (1,), (1,), False, {})),
    "no storage at all": Call(REBUILD_TENSOR, (3, 0, (), (), False, {})),
    "few arguments": Call(REBUILD_TENSOR, (3,)),
    "conjugate": Call(
        REBUILD_TENSOR,
        (*STATE["full"].arguments, {"conj": True}),
    ),
    "no function": Call("os.system", ("true",)),
    "a dictionary's key": {(1, 2): 3},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_tensors_are_refused(tmp_path, zipped, kind):
    path = write_file(tmp_path / "m.bin", zipped, state(**STATE, weight=IMPOSSIBLE[kind]))
    assert "damaged, or not a PyTorch file" in refusal(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, "epoch is a value of type int, not a tensor; save the model's"),
        ({"weights": {"a": 1}}, "weights is a value of type dict, not a tensor"),
        ({"model": {"a": 1}}, "a is a value of type int, not a tensor"),
        ({"a": None}, "a is a value of type nonetype"),
        ([STATE["full"]], "holds a value of type list, not tensors by name"),
        (STATE["full"], "holds a value of type tensor, not tensors by name"),
        (Name("torch", "FloatStorage"), "holds torch.FloatStorage, not tensors"),
        ({1: STATE["full"]}, "1 is not the name of a tensor"),
        ({"a\nb": STATE["full"]}, r"'a\nb' is not the name of a tensor"),
    ],
)
def test_values_other_than_tensors_are_refused(tmp_path, value, message):
    assert message in refusal(write_zip(tmp_path / "m.bin", pickled(value), RAW))


def test_damaged_zip_files(tmp_path):
    path = tmp_path / "m.bin"
    state_dict = pickled(STATE)
    write_zip(path, state_dict, RAW, byteorder=b"big")
    assert "big-endian" in refusal(path)
    write_zip(path, state_dict, {key: RAW[key] for key in "012"})
    assert "a storage is missing" in refusal(path)
    write_zip(path, state_dict, RAW | {"0": RAW["0"][:-1]})
    assert "a storage is too short" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", state_dict)
    assert "compressed" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", state_dict)
        file.writestr("n/data.pkl", state_dict)
    assert "2 entries data.pkl" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/weights", b"")
    assert "0 entries data.pkl" in refusal(path)
    # The last entry's local header has a name that reaches beyond the end of the file.
    data = bytearray(write_zip(path, state_dict, RAW).read_bytes())
    at = data.rindex(b"PK\3\4")
    data[at + 26 : at + 28] = b"\xff\xff"
    path.write_bytes(data)
    assert "an entry reaches beyond the end of the file" in refusal(path)


def test_damaged_legacy_files(tmp_path):
    path = tmp_path / "m.bin"
    good = {key: (COUNTS[key], values) for key, values in RAW.items()}
    write_legacy(path, pickled(STATE), good | {"0": (23, RAW["0"])})
    assert "a storage with another number of elements" in refusal(path)
    write_legacy(path, pickled(STATE), good | {"0": (-24, RAW["0"])})
    assert "a storage with another number of elements" in refusal(path)
    write_legacy(path, pickled(STATE), {key: good[key] for key in "012"})
    assert "a storage is missing" in refusal(path)
    write_legacy(path, pickled(STATE), good | {"7": (1, b"abcd")})
    assert "a storage with another number of elements" in refusal(path)
    data = write_legacy(path, pickled(STATE), good).read_bytes()
    for size in (1, len(LONGS) - 1, len(LONGS) + 3):
        path.write_bytes(data[:-size])
        assert "cut off" in refusal(path)
    path.write_bytes(pickled(MAGIC_NUMBER) + pickled(PROTOCOL_VERSION + 1))
    assert "unknown header" in refusal(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)
@settings(max_examples=250)
def test_random_damage_gives_one_line_or_a_valid_file(folder, zipped, changes, cut):
    floats = {name: made for name, made in STATE.items() if name != "positions"}
    raw = {key: values for key, values in RAW.items() if key != "3"}
    path = write_file(folder / "m.bin", zipped, pickled(floats), raw)
    data = bytearray(path.read_bytes())
    for fraction, value in changes:
        data[math.floor(fraction * len(data))] = value
    path.write_bytes(data if cut is None else data[: math.floor(cut * len(data))])
    try:
        found = PickledTensors(path)
        for name, shape in found.shapes.items():
            assert found.read(name).shape == shape
    except UserError as failure:
        assert str(failure).startswith(f"{path}: ") and str(failure).isprintable()
    else:
        assert cut is None
