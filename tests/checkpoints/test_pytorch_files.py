"""PyTorch files: hand-written state dicts are read; hostile and damaged pickles are refused."""

import copyreg
import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.checkpoints.pytorch_files import PickledTensors
from lib.checkpoints.restricted_unpickler import RestrictedUnpickler
from lib.run.errors import UserError
from tests.helpers.pickles import (
    EMPTY_DICT,
    MAGIC_NUMBER,
    PROTOCOL_VERSION,
    REBUILD_TENSOR,
    SYSTEM,
    Attack,
    Call,
    Name,
    PersistentId,
    opcodes,
    pickled,
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


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_is_loaded_as_by_pythons_pickle(value, protocol):
    twice = [value, OrderedDict(), value]
    written = pickle.dumps(twice, protocol)
    stream = io.BytesIO(written + b"rest")
    found = RestrictedUnpickler().load(stream)
    assert found == pickle.loads(written) == twice
    assert found[0] is found[2] or not isinstance(value, list | dict)
    assert stream.read() == b"rest"


def attacks(folder: Path) -> dict[str, tuple[Any, str]]:
    """Objects whose pickles create a folder when Python loads them, and the name in the error."""
    made = str(folder)
    return {
        "posix": (Attack(os.mkdir, made), f"{os.mkdir.__module__}.mkdir"),
        "eval": (Attack(eval, f"__import__('os').mkdir({made!r})"), "builtins.eval"),
        "exec": (Attack(exec, f"import os; os.mkdir({made!r})"), "builtins.exec"),
        "apply": (Attack(map, os.mkdir, [made]), "builtins.map"),
        "inside": ({"weight": [Attack(os.makedirs, made)]}, "os.makedirs"),
        "system": (Attack(os.system, f"mkdir {made}"), f"{os.system.__module__}.system"),
        "getattr": (Attack(getattr, Attack(__import__, "os"), "mkdir"), "builtins."),
    }


def containers(path: Path, payload: bytes) -> list[Path]:
    """Files with the same pickle in each position where one is loaded."""
    files = [path / name for name in ("raw.bin", "zip.bin", "legacy.bin", "system.bin", "keys.bin")]
    files[0].write_bytes(payload)
    write_zip(files[1], payload, {})
    write_legacy(files[2], payload, {})
    beginning = pickled(MAGIC_NUMBER) + pickled(PROTOCOL_VERSION)
    files[3].write_bytes(beginning + payload + pickled({}) + pickled([]))
    files[4].write_bytes(beginning + pickled(SYSTEM) + pickled({}) + payload)
    return files


def refusal(path: Path) -> str:
    """The one-line error of a file that is refused."""
    with pytest.raises(UserError) as caught:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", attacks(Path()))
def test_code_is_named_and_not_run(tmp_path, kind, protocol):
    folder = tmp_path / "made"
    attack, name = attacks(folder)[kind]
    payload = pickle.dumps(attack, protocol)
    if kind not in ("apply", "getattr"):  # These create nothing themselves.
        pickle.loads(payload)
        folder.rmdir()
    if protocol < 3:  # With Python 2's names.
        name = name.replace("builtins.", "").replace("exec", "")
    for path in containers(tmp_path, payload):
        message = refusal(path)
        assert "loading it would use " in message and name in message
        assert "is code, not weights (nothing was run); use a safetensors file" in message
        assert not folder.exists()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


HANDMADE = {
    "INST": (b"(S'x'\nios\nmkdir\n.", "os.mkdir"),
    "OBJ": (b"(cos\nmkdir\nS'x'\no.", "os.mkdir"),
    "OBJ of a known name": (b"(ccollections\nOrderedDict\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02cos\nmkdir\n)\x81.", "os.mkdir"),
    "NEWOBJ of a known name": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (b"\x80\x04" + short("os") + short("mkdir") + b"\x93)}\x92.", "os.mkdir"),
    "STACK_GLOBAL": (b"\x80\x04" + short("os") + short("mkdir") + b"\x93.", "os.mkdir"),
    "a dotted name": (
        b"\x80\x04" + short("collections") + short("OrderedDict.fromkeys") + b"\x93.",
        "collections.OrderedDict.fromkeys",
    ),
    "a dot in the name": (
        b"\x80\x04" + short("torch") + short("_utils._rebuild_tensor_v2.__globals__") + b"\x93.",
        "torch._utils._rebuild_tensor_v2.__globals__",
    ),
    "names that are not strings": (b"\x80\x04K\x01K\x02\x93.", "?"),
    "terminal escapes": (
        b"\x80\x04" + short("a\n\x1b[2J") + short("b") + b"\x93.",
        "a??[2J.b",
    ),
    "EXT1": (b"\x80\x02\x82\xf0.", "EXT1 240"),
    "EXT4": (b"\x80\x02\x84\xf0\x00\x00\x00.", "EXT4 240"),
    "PERSID": (b"Pos.mkdir\n.", "PERSID os.mkdir"),
    "the state of a class": (
        b"\x80\x02ccollections\nOrderedDict\n}" + short("__init__") + b"K\x01sb.",
        "BUILD of collections.OrderedDict",
    ),
    "the state of a list": (b"\x80\x02]}b.", "BUILD of a value of type list"),
    "copyreg": (b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    "a module": (b"ctorch.nn\nLinear\n.", "torch.nn.Linear"),
    "a call of a storage": (pickled(Call(Name("torch", "FloatStorage"), (3,))), "torch.FloatSt"),
    "a dictionary of a list": (
        pickled(Call(Name("collections", "OrderedDict"), ([("a", 1)],))),
        "collections.OrderedDict(...)",
    ),
}


@pytest.mark.parametrize("kind", HANDMADE)
def test_all_opcodes_that_run_code_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(copyreg._inverted_registry, 240, ("os", "mkdir"))  # type: ignore[attr-defined]
    payload, name = HANDMADE[kind]
    for path in containers(tmp_path, payload):
        message = refusal(path)
        assert f"would use {name}" in message or f"would use the opcode {name}" in message


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


def test_hostile_pickles_fail_fast(tmp_path):
    deep = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."  # ((((...),),),) as a key
    doubled = b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 200 + b"K\x01s."
    pickles = {
        "deep": deep,
        "doubled": doubled,
        "endless": b"\x80\x02" + b"N" * 300_001 + b".",
        "a string of an exabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
        "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60),
        "an empty stack": b"\x80\x02u.",
        "an empty memo": b"\x80\x02h\x05.",
        "a tuple from an empty stack": b"\x80\x02\x87.",
        "no STOP": b"\x80\x02N",
        "an empty file": b"",
        "an unknown opcode": b"\xff",
        "a number with many digits": b"I" + b"9" * 10_000 + b"\n.",
        "a list that contains itself": b"\x80\x02]q\x00h\x00a.",
    }
    for name, payload in pickles.items():
        for path in containers(tmp_path, payload)[:3]:
            message = refusal(path)
            assert name != "endless" or "more than 300,000 opcodes" in message


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
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


OPCODES = st.sampled_from(
    [
        *(b"(", b")", b"]", b"}", b"N", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"0", b"1", b"2"),
        *(b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00", b"\x94", b"R", b"b", b"Q", b"\x81", b"o"),
        *(b"K\x02", b"\x88", b"I7\n", b"I01\n", b"F1.5\n", b"U\x011", b"X\x01\x00\x00\x000", b"."),
        *(opcodes(Name("collections", "OrderedDict")), opcodes(Name("torch", "FloatStorage"))),
        *(opcodes(REBUILD_TENSOR), opcodes(STATE["full"])),
        *(opcodes(Name("torch._utils", "_rebuild_parameter")), opcodes((3, "a")), b"\x8f", b"\x90"),
    ]
)


@given(st.lists(OPCODES, max_size=30).map(b"".join))
@settings(max_examples=250, deadline=None)
def test_random_opcodes_give_one_line_or_a_valid_file(folder, program):
    path = write_zip(folder / "m.bin", b"\x80\x02" + program + b".", RAW)
    try:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    except UserError as failure:
        assert str(failure).startswith(f"{path}: ") and str(failure).isprintable()
