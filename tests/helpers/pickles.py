"""Hand-written pickles and PyTorch files for tests, harmless and hostile ones."""

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lib.checkpoints.pytorch_files import PickledTensors
from lib.run.errors import UserError


@dataclass(frozen=True)
class Name:
    """A global: a function or class by its module and name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    function: Any
    arguments: Any


@dataclass(frozen=True)
class PersistentId:
    value: Any


class Attack:
    """An object whose pickle calls a function when Python loads it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def opcodes(value: Any) -> bytes:
    """The opcodes (protocol 2) that push a value onto the stack."""
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
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            items = [opcodes(part) for item in value.items() for part in item]
            return b"}(" + b"".join(items) + b"u"
        case Name():
            return f"c{value.module}\n{value.name}\n".encode()
        case Call():
            return opcodes(value.function) + opcodes(value.arguments) + b"R"
        case PersistentId():
            return opcodes(value.value) + b"Q"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    """A whole pickle of a value."""
    return b"\x80\x02" + opcodes(value) + b"."


EMPTY_DICT = Call(Name("collections", "OrderedDict"), ())
REBUILD_TENSOR = Name("torch._utils", "_rebuild_tensor_v2")


def tensor(
    key: Any, kind: str, elements: Any, shape: Any, strides: Any, offset: Any = 0, *more: Any
) -> Call:
    """A tensor as torch pickles it."""
    storage = PersistentId(
        ("storage", Name("torch", f"{kind}Storage"), key, "cpu", elements, *more)
    )
    return Call(REBUILD_TENSOR, (storage, offset, shape, strides, False, EMPTY_DICT))


def write_zip(
    path: Path, state: bytes, storages: dict[str, bytes], top: str = "pytorch_model/", **more: bytes
) -> Path:
    """Writes the format of PyTorch 1.6 and later."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr(f"{top}data.pkl", state)
        for name, values in more.items():
            file.writestr(f"{top}{name}", values)
        for key, values in storages.items():
            file.writestr(f"{top}data/{key}", values)
    return path


MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}


def write_legacy(path: Path, state: bytes, storages: dict[str, tuple[int, bytes]]) -> Path:
    """Writes the format before PyTorch 1.6; storages are (number of elements, values)."""
    parts = [pickled(MAGIC_NUMBER), pickled(PROTOCOL_VERSION), pickled(SYSTEM), state]
    parts.append(pickled(list(storages)))
    parts += [struct.pack("<q", count) + values for count, values in storages.values()]
    path.write_bytes(b"".join(parts))
    return path


def write_pytorch_file(path: Path, arrays: dict[str, np.ndarray], zipped: bool = True) -> Path:
    """Writes a state dict of float32 arrays, in either format."""
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
        return write_zip(path, pickled(state), raw)
    return write_legacy(path, pickled(state), {key: (len(x) // 4, x) for key, x in raw.items()})


def refusal(path: Path) -> str:
    """The one-line error of a file that is refused."""
    with pytest.raises(UserError) as caught:
        found = PickledTensors(path)
        for name in found.shapes:
            found.read(name)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and message.isprintable()
    return message
