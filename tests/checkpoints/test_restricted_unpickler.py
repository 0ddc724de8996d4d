"""The restricted unpickler: plain data is loaded as by Python, and code is refused and not run."""

import copyreg
import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.checkpoints.pytorch_files import PickledTensors
from lib.checkpoints.restricted_unpickler import RestrictedUnpickler
from lib.run.errors import UserError
from tests.helpers.pickles import (
    MAGIC_NUMBER,
    PROTOCOL_VERSION,
    REBUILD_TENSOR,
    SYSTEM,
    Attack,
    Call,
    Name,
    opcodes,
    pickled,
    refusal,
    tensor,
    write_legacy,
    write_zip,
)

TENSOR = tensor("0", "Float", 24, (4, 6), (6, 1))

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


OPCODES = st.sampled_from(
    [
        *(b"(", b")", b"]", b"}", b"N", b"t", b"l", b"d", b"a", b"e", b"s", b"u", b"0", b"1", b"2"),
        *(b"\x85", b"\x86", b"\x87", b"q\x00", b"h\x00", b"\x94", b"R", b"b", b"Q", b"\x81", b"o"),
        *(b"K\x02", b"\x88", b"I7\n", b"I01\n", b"F1.5\n", b"U\x011", b"X\x01\x00\x00\x000", b"."),
        *(opcodes(Name("collections", "OrderedDict")), opcodes(Name("torch", "FloatStorage"))),
        *(opcodes(REBUILD_TENSOR), opcodes(TENSOR)),
        *(opcodes(Name("torch._utils", "_rebuild_parameter")), opcodes((3, "a")), b"\x8f", b"\x90"),
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("random")


@given(st.lists(OPCODES, max_size=30).map(b"".join))
@settings(max_examples=250)
def test_random_opcodes_give_one_line_or_a_valid_file(folder, program):
    path = write_zip(folder / "m.bin", b"\x80\x02" + program + b".", {"0": bytes(96)})
    try:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    except UserError as failure:
        assert str(failure).startswith(f"{path}: ") and str(failure).isprintable()
