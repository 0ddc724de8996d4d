"""State dicts of PyTorch's spelled by hand, and pickles that attack whoever reads them."""

import copyreg
import io
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.checkpoints.pytorch_files import PickledTensors
from lib.checkpoints.restricted_unpickler import RestrictedUnpickler
from lib.run.errors import UserError


@dataclass(frozen=True)
class Name:
    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: Any


@dataclass(frozen=True)
class Id:
    """A persistent id."""

    value: Any


def spelled(value: Any) -> bytes:
    """The operations (protocol 2) that put a value on the stack."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(raw)]) + raw
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(spelled, value)) + b"t"
        case list():
            return b"](" + b"".join(map(spelled, value)) + b"e"
        case dict():
            items = [spelled(part) for item in value.items() for part in item]
            return b"}(" + b"".join(items) + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return spelled(value.function) + spelled(value.arguments) + b"R"
        case Id():
            return spelled(value.value) + b"Q"
    raise TypeError(value)


def program(value: Any) -> bytes:
    return b"\x80\x02" + spelled(value) + b"."


DICTIONARY = Call(Name("collections", "OrderedDict"), ())


def tensor(
    key: Any, kind: str, elements: Any, shape: Any, strides: Any, offset: Any = 0, *more: Any
) -> Call:
    """A tensor as torch spells it."""
    storage = Id(("storage", Name("torch", f"{kind}Storage"), key, "cpu", elements, *more))
    arguments = (storage, offset, shape, strides, False, DICTIONARY)
    return Call(Name("torch._utils", "_rebuild_tensor_v2"), arguments)


def archive(
    path: Path, state: bytes, storages: dict[str, bytes], top: str = "pytorch_model/", **more: bytes
) -> Path:
    """The format of PyTorch 1.6 and later."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(f"{top}data.pkl", state)
        for name, values in more.items():
            file.writestr(f"{top}{name}", values)
        for key, values in storages.items():
            file.writestr(f"{top}data/{key}", values)
    return path


SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}


def older(path: Path, state: bytes, storages: dict[str, tuple[int, bytes]]) -> Path:
    """The format before it: storages with the number of their elements."""
    parts = [program(0x1950A86A20F9469CFC6C), program(1001), program(SYSTEM), state]
    parts.append(program(list(storages)))
    parts += [struct.pack("<q", count) + values for count, values in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def write(path: Path, arrays: dict[str, np.ndarray], zipped: bool = True) -> Path:
    """A file of float32 arrays, for other tests."""
    state = {
        name: tensor(
            str(number),
            "Float",
            array.size,
            array.shape,
            tuple(stride // 4 for stride in array.strides),
        )
        for number, (name, array) in enumerate(arrays.items())
    }
    raw = {str(number): array.tobytes() for number, array in enumerate(arrays.values())}
    if zipped:
        return archive(path, program(state), raw)
    return older(path, program(state), {key: (len(x) // 4, x) for key, x in raw.items()})


def bits(values: np.ndarray) -> list[int]:
    return values.view(np.uint32).ravel().tolist()


NUMBERS = np.arange(24, dtype=np.float32) * np.float32(1 / 3)
HALVES = np.array([1, -2.5, 65504, 2**-24, 1 / 3], np.float16)
# bfloat16 is the upper half of a float32.
BRAINS = b"".join(struct.pack(">f", x)[:2][::-1] for x in (1.0, -2.5, 3e38, 0.15625))
STATE = {
    "whole": tensor("0", "Float", 24, (4, 6), (6, 1)),
    "turned": tensor("0", "Float", 24, (6, 4), (1, 6)),
    "part": Call(
        Name("torch._utils", "_rebuild_parameter"),
        (tensor("0", "Float", 24, (2, 3), (6, 2), 7), True, DICTIONARY),
    ),
    "half": tensor("1", "Half", 5, (5,), (1,)),
    "brain": tensor("2", "BFloat16", 4, (2, 2), (2, 1)),
    "positions": tensor("3", "Long", 3, (1, 3), (3, 1)),
    "number": tensor("0", "Float", 24, (), (), 5),
}
LONGS = np.arange(3, dtype=np.int64).tobytes()
RAW = {"0": NUMBERS.tobytes(), "1": HALVES.tobytes(), "2": BRAINS, "3": LONGS}
COUNTS = {"0": 24, "1": 5, "2": 4, "3": 3}


def file_of(path: Path, zipped: bool, state: bytes, raw: dict[str, bytes] = RAW) -> Path:
    if zipped:
        return archive(path, state, raw, byteorder=b"little", version=b"3\n")
    return older(path, state, {key: (COUNTS[key], values) for key, values in raw.items()})


@pytest.mark.parametrize("zipped", [True, False])
def test_views_of_all_kinds(tmp_path, zipped):
    found = PickledTensors(file_of(tmp_path / "m.bin", zipped, program(STATE)))
    square = NUMBERS.reshape(4, 6)
    expected = {
        "whole": square,
        "turned": square.T,
        "part": np.array([[7, 9, 11], [13, 15, 17]]) * np.float32(1 / 3),
        "half": HALVES.astype(np.float32),
        "brain": np.frombuffer(
            b"".join(b"\0\0" + BRAINS[at : at + 2] for at in range(0, 8, 2)), "<f4"
        ).reshape(2, 2),
        "number": NUMBERS[5],
    }
    assert found.shapes == {name: array.shape for name, array in expected.items()} | {
        "positions": (1, 3)
    }
    for name, array in expected.items():
        values = found.read(name)
        assert (values.dtype, values.shape) == (np.float32, array.shape)
        assert values.flags.c_contiguous
        assert np.array_equal(values, array.astype(np.float32)), name
    with pytest.raises(UserError, match=r"m\.bin: positions is of type int64; float32, float16"):
        found.read("positions")


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_in_a_dictionary(tmp_path, key):
    state = {"epoch": 3, key: STATE, "optimizer": {"state": {0: {"step": 1}}}}
    found = PickledTensors(file_of(tmp_path / "m.bin", True, program(state)))
    assert bits(found.read("whole")) == bits(NUMBERS)


def test_an_archive_without_a_folder_and_with_attributes(tmp_path):
    """Old archives say nothing of the byte order; torch gives its dictionaries `_metadata`."""
    built = spelled(STATE) + spelled({"_metadata": {"": {"version": 1}}}) + b"b"
    path = archive(tmp_path / "m.bin", b"\x80\x02" + built + b".", RAW, top="")
    assert bits(PickledTensors(path).read("whole")) == bits(NUMBERS)


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
def test_plain_data_is_what_pythons_own_pickle_reads(value, protocol):
    twice = [value, OrderedDict(), value]
    written = pickle.dumps(twice, protocol)
    stream = io.BytesIO(written + b"behind")
    found = RestrictedUnpickler().load(stream)
    assert found == pickle.loads(written) == twice
    assert found[0] is found[2] or not isinstance(value, list | dict)
    assert stream.read() == b"behind"


class Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def attacks(folder: Path) -> dict[str, tuple[Any, str]]:
    """Objects whose pickles make a folder when Python reads them, and the name that gives away."""
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
    """The same pickle in all the places where one is read."""
    files = [path / name for name in ("raw.bin", "zip.bin", "older.bin", "system.bin", "keys.bin")]
    files[0].write_bytes(payload)
    archive(files[1], payload, {})
    older(files[2], payload, {})
    beginning = program(0x1950A86A20F9469CFC6C) + program(1001)
    files[3].write_bytes(beginning + payload + program({}) + program([]))
    files[4].write_bytes(beginning + program(SYSTEM) + program({}) + payload)
    return files


def refusal(path: Path) -> str:
    """The message of the one line that says why a file is not read."""
    with pytest.raises(UserError) as caught:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", attacks(Path()))
def test_code_is_named_and_does_not_run(tmp_path, kind, protocol):
    folder = tmp_path / "made"
    attack, name = attacks(folder)[kind]
    payload = pickle.dumps(attack, protocol)
    if kind not in ("apply", "getattr"):  # these make nothing by themselves
        pickle.loads(payload)
        folder.rmdir()
    if protocol < 3:  # before which Python wrote the names of Python 2
        name = name.replace("builtins.", "").replace("exec", "")
    for path in containers(tmp_path, payload):
        message = refusal(path)
        assert "asks for " in message and name in message
        assert "is code, not weights (it was not run); take the model as safetensors" in message
        assert not folder.exists()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


HANDMADE = {
    "INST": (b"(S'x'\nios\nmkdir\n.", "os.mkdir"),
    "OBJ": (b"(cos\nmkdir\nS'x'\no.", "os.mkdir"),
    "OBJ of what is known": (b"(ccollections\nOrderedDict\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02cos\nmkdir\n)\x81.", "os.mkdir"),
    "NEWOBJ of what is known": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (b"\x80\x04" + short("os") + short("mkdir") + b"\x93)}\x92.", "os.mkdir"),
    "STACK_GLOBAL": (b"\x80\x04" + short("os") + short("mkdir") + b"\x93.", "os.mkdir"),
    "a dotted name": (
        b"\x80\x04" + short("collections") + short("OrderedDict.fromkeys") + b"\x93.",
        "collections.OrderedDict.fromkeys",
    ),
    "a shifted dot": (
        b"\x80\x04" + short("torch") + short("_utils._rebuild_tensor_v2.__globals__") + b"\x93.",
        "torch._utils._rebuild_tensor_v2.__globals__",
    ),
    "names that are no text": (b"\x80\x04K\x01K\x02\x93.", "?"),
    "a terminal's commands": (
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
    "a call of a storage": (program(Call(Name("torch", "FloatStorage"), (3,))), "torch.FloatSt"),
    "a dictionary of a list": (
        program(Call(Name("collections", "OrderedDict"), ([("a", 1)],))),
        "collections.OrderedDict(...)",
    ),
}


@pytest.mark.parametrize("kind", HANDMADE)
def test_other_ways_to_code(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(copyreg._inverted_registry, 240, ("os", "mkdir"))  # type: ignore[attr-defined]
    payload, name = HANDMADE[kind]
    for path in containers(tmp_path, payload):
        message = refusal(path)
        assert f"asks for {name}" in message or f"asks for the operation {name}" in message


def state(**tensors: Any) -> bytes:
    return program(tensors)


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
    "an id": Call(Name("torch._utils", "_rebuild_tensor_v2"), (Id("0"), 0, (1,), (1,), False, {})),
    "no storage at all": Call(
        Name("torch._utils", "_rebuild_tensor_v2"), (3, 0, (), (), False, {})
    ),
    "few arguments": Call(Name("torch._utils", "_rebuild_tensor_v2"), (3,)),
    "conjugate": Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        (*STATE["whole"].arguments, {"conj": True}),
    ),
    "no function": Call("os.system", ("true",)),
    "a dictionary's key": {(1, 2): 3},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", IMPOSSIBLE)
def test_impossible_tensors(tmp_path, zipped, kind):
    path = file_of(tmp_path / "m.bin", zipped, state(**STATE, weight=IMPOSSIBLE[kind]))
    assert "damaged, or no file of PyTorch's" in refusal(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 3}, "epoch is a value of type int, not a tensor; save the state dict"),
        ({"weights": {"a": 1}}, "weights is a value of type dict, not a tensor"),
        ({"model": {"a": 1}}, "a is a value of type int, not a tensor"),
        ({"a": None}, "a is a value of type nonetype"),
        ([STATE["whole"]], "holds a value of type list, not tensors by name"),
        (STATE["whole"], "holds a value of type tensor, not tensors by name"),
        (Name("torch", "FloatStorage"), "holds torch.FloatStorage, not tensors"),
        ({1: STATE["whole"]}, "1 is not the name of a tensor"),
        ({"a\nb": STATE["whole"]}, r"'a\nb' is not the name of a tensor"),
    ],
)
def test_other_things_than_tensors(tmp_path, value, message):
    assert message in refusal(archive(tmp_path / "m.bin", program(value), RAW))


def test_hostile_programs_end_soon(tmp_path):
    deep = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."  # ((((...),),),) as a key
    doubled = b"\x80\x02}" + b")" + b"q\x00h\x00\x86" * 200 + b"K\x01s."
    programs = {
        "deep": deep,
        "doubled": doubled,
        "endless": b"\x80\x02" + b"N" * 300_001 + b".",
        "a text of an exabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
        "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60),
        "an empty stack": b"\x80\x02u.",
        "an empty memo": b"\x80\x02h\x05.",
        "a tuple of nothing": b"\x80\x02\x87.",
        "no end": b"\x80\x02N",
        "nothing": b"",
        "no operation": b"\xff",
        "a number": b"I" + b"9" * 10_000 + b"\n.",
        "itself": b"\x80\x02]q\x00h\x00a.",
    }
    for name, payload in programs.items():
        for path in containers(tmp_path, payload)[:3]:
            message = refusal(path)
            assert name != "endless" or "longer than any state dict" in message


def test_damaged_archives(tmp_path):
    path = tmp_path / "m.bin"
    pickle_of_it = program(STATE)
    archive(path, pickle_of_it, RAW, byteorder=b"big")
    assert "big-endian" in refusal(path)
    archive(path, pickle_of_it, {key: RAW[key] for key in "012"})
    assert "a storage is missing" in refusal(path)
    archive(path, pickle_of_it, RAW | {"0": RAW["0"][:-1]})
    assert "a storage is too short" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/data.pkl", pickle_of_it)
    assert "compressed" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", pickle_of_it)
        file.writestr("n/data.pkl", pickle_of_it)
    assert "2 data.pkl" in refusal(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/weights", b"")
    assert "0 data.pkl" in refusal(path)
    # The last entry's own header says that its name goes on beyond the end of the file.
    data = bytearray(archive(path, pickle_of_it, RAW).read_bytes())
    at = data.rindex(b"PK\3\4")
    data[at + 26 : at + 28] = b"\xff\xff"
    path.write_bytes(data)
    assert "an entry beyond its end" in refusal(path)


def test_damaged_older_files(tmp_path):
    path = tmp_path / "m.bin"
    good = {key: (COUNTS[key], values) for key, values in RAW.items()}
    older(path, program(STATE), good | {"0": (23, RAW["0"])})
    assert "a storage of another length" in refusal(path)
    older(path, program(STATE), good | {"0": (-24, RAW["0"])})
    assert "a storage of another length" in refusal(path)
    older(path, program(STATE), {key: good[key] for key in "012"})
    assert "a storage is missing" in refusal(path)
    older(path, program(STATE), good | {"7": (1, b"abcd")})
    assert "a storage of another length" in refusal(path)
    data = older(path, program(STATE), good).read_bytes()
    for size in (1, len(LONGS) - 1, len(LONGS) + 3):
        path.write_bytes(data[:-size])
        assert "cut off" in refusal(path)
    path.write_bytes(program(0x1950A86A20F9469CFC6C) + program(1002))
    assert "another beginning" in refusal(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@given(
    st.booleans(),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    st.one_of(st.none(), st.floats(0, 1, exclude_max=True)),
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damage_is_one_line_or_harmless(folder, zipped, changes, cut):
    floats = {name: made for name, made in STATE.items() if name != "positions"}
    raw = {key: values for key, values in RAW.items() if key != "3"}
    path = file_of(folder / "m.bin", zipped, program(floats), raw)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[math.floor(place * len(data))] = value
    path.write_bytes(data if cut is None else data[: math.floor(cut * len(data))])
    try:
        found = PickledTensors(path)
        for name, shape in found.shapes.items():
            assert found.read(name).shape == shape
    except UserError as failure:
        assert str(failure).startswith(f"{path}: ") and str(failure).isprintable()
    else:
        assert cut is None


OPERATIONS = st.sampled_from(
    [
        *(b"(", b")", b"]", b"}", b"N", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"0", b"1", b"2"),
        *(b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00", b"\x94", b"R", b"b", b"Q", b"\x81", b"o"),
        *(b"K\x02", b"\x88", b"I7\n", b"I01\n", b"F1.5\n", b"U\x011", b"X\x01\x00\x00\x000", b"."),
        *(spelled(Name("collections", "OrderedDict")), spelled(Name("torch", "FloatStorage"))),
        *(spelled(Name("torch._utils", "_rebuild_tensor_v2")), spelled(STATE["whole"])),
        *(spelled(Name("torch._utils", "_rebuild_parameter")), spelled((3, "a")), b"\x8f", b"\x90"),
    ]
)


@given(st.lists(OPERATIONS, max_size=30).map(b"".join))
@settings(max_examples=250, deadline=None)
def test_any_program_is_one_line_or_harmless(folder, operations):
    path = archive(folder / "m.bin", b"\x80\x02" + operations + b".", RAW)
    try:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    except UserError as failure:
        assert str(failure).startswith(f"{path}: ") and str(failure).isprintable()
