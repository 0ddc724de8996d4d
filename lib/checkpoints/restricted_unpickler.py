"""Runs a pickle of PyTorch tensors without running anything of Python's.

A pickle is a program for a stack machine that may name any function of any module and call it. The
machine here has no functions: it makes dictionaries, lists, tuples and numbers, and of what the
program would call it knows three names, which it carries out as data. So there is nothing for a
hostile file to reach, however it spells the call. Python's pickletools takes the program apart.
"""

import math
import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import ml_dtypes
import numpy as np

# The elements of a storage, little-endian.
_STORAGES = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
}
_DICTIONARY = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# A state dict takes some thirty operations a tensor.
_MOST_OPERATIONS = 300_000
_LARGEST, _MOST_DIMENSIONS = 2**40, 16


class CodeError(Exception):
    """The pickle asks for something that is not weights; its text is the name of that."""


class DamageError(Exception):
    """The pickle is cut off, or says what cannot be; its text is what."""


@dataclass(frozen=True)
class Storage:
    """A run of numbers somewhere in the file."""

    key: str
    dtype: np.dtype
    elements: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count elements, and stay inside."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names; nothing is looked up."""

    text: str


class RestrictedUnpickler:
    """For the pickles of one file, one after the other.

    Attributes:
        storages: those that were named, by their keys.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def load(self, stream: IO[bytes]) -> Any:
        """Reads one pickle, and leaves the stream behind it.

        Returns:
            Numbers, strings, None, lists, tuples and dictionaries of such, and `Tensor`s.

        Raises:
            CodeError, DamageError: see there.
        """
        try:
            return self._load(stream)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as failure:
            raise DamageError(str(failure) or type(failure).__name__) from None

    def _load(self, stream: IO[bytes]) -> Any:
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop(count: int) -> list[Any]:
            if len(stack) < count:
                raise DamageError("an empty stack")
            items = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            return items

        def pop_marked() -> list[Any]:
            return pop(max(len(stack) - marks.pop(), 0))

        argument: Any
        for done, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if done == _MOST_OPERATIONS:
                raise DamageError("longer than any state dict")
            name = opcode.name
            if name in _LITERALS:
                stack.append(argument)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name in ("EMPTY_DICT", "EMPTY_LIST"):
                stack.append({} if name == "EMPTY_DICT" else [])
            elif name == "MARK":
                marks.append(len(stack))
            elif name == "TUPLE":
                stack.append(tuple(pop_marked()))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                stack.append(tuple(pop(int(name[-1]))))
            elif name == "LIST":
                stack.append(pop_marked())
            elif name == "DICT":
                stack.append(_with_items({}, pop_marked()))
            elif name in ("APPEND", "APPENDS"):
                items = pop(1) if name == "APPEND" else pop_marked()
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = pop(2) if name == "SETITEM" else pop_marked()
                _with_items(stack[-1], items)
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL":
                stack.append(_named(*argument.split(" ", 1)))
            elif name == "STACK_GLOBAL":
                stack.append(_named(*pop(2)))
            elif name == "REDUCE":
                stack.append(_called(*pop(2)))
            elif name == "BINPERSID":
                stack.append(self._storage(*pop(1)))
            elif name == "BUILD":
                # The attributes of a dictionary (torch writes `_metadata`) say nothing of weights.
                pop(1)
                if not isinstance(stack[-1], dict):
                    raise CodeError(f"BUILD of {kind_of(stack[-1])}")
            elif name == "STOP":
                return pop(1)[0]
            elif name == "INST":
                raise CodeError(argument.replace(" ", ".", 1))
            elif name not in ("PROTO", "FRAME"):
                raise CodeError(f"the operation {name}" + (f" {argument}" if argument else ""))
        raise DamageError("no end")

    def _storage(self, identity: Any) -> Storage:
        """What a persistent id stands for; the old format has a sixth part, for views."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise DamageError("an id that is no storage's")
        kind, name, key, _device, elements = identity[:5]
        if kind != "storage" or not isinstance(name, _Name) or name.text not in _STORAGES:
            raise DamageError("an id that is no storage's")
        if identity[5:] not in ((), (None,)):
            raise DamageError("views of storages, as PyTorch wrote them before 0.4")
        if not isinstance(key, str):
            raise DamageError("a storage without a key")
        storage = Storage(key, _STORAGES[name.text], _numbers([elements])[0])
        if self.storages.setdefault(key, storage) != storage:
            raise DamageError("one storage of two kinds")
        return storage


def _named(module: Any, name: Any) -> _Name:
    text = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
    if text not in (_DICTIONARY, _TENSOR, _PARAMETER, *_STORAGES):
        raise CodeError(text)
    return _Name(text)


def _called(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise DamageError("a call of what is no function")
    if function.text == _DICTIONARY and not arguments:
        return {}
    if function.text == _TENSOR:
        return _tensor(*arguments)
    if function.text == _PARAMETER and arguments:
        return arguments[0]
    raise CodeError(f"{function.text}(...)")


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any,
    _hooks: Any,
    metadata: Any = None,
) -> Tensor:
    """The arguments are those of `torch._utils._rebuild_tensor_v2`."""
    if not isinstance(storage, Storage) or metadata:
        raise DamageError("a tensor of another kind")
    (start,), sizes, steps = _numbers([offset]), _numbers(shape), _numbers(strides)
    if len(sizes) != len(steps) or math.prod(size or 1 for size in sizes) > _LARGEST:
        raise DamageError("a tensor without a shape")
    # A parameter shows no number twice: a huge tensor in a small file is an attack.
    last = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    count = math.prod(sizes)
    if start + (last + 1 if count else 0) > storage.elements or count > storage.elements:
        raise DamageError("a tensor that reaches beyond its storage")
    return Tensor(storage, start, sizes, steps)


def _numbers(values: Any) -> tuple[int, ...]:
    """Sizes, strides or offsets."""
    if not isinstance(values, tuple | list) or len(values) > _MOST_DIMENSIONS:
        raise DamageError("a tensor without a shape")
    if not all(type(value) is int and 0 <= value <= _LARGEST for value in values):
        raise DamageError("a size that cannot be")
    return tuple(values)


def _with_items(target: Any, items: list[Any]) -> Any:
    keys: Iterable[Any] = items[::2]
    # Other keys could be tuples of tuples whose hashes take for ever.
    if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
        raise DamageError("a dictionary with other keys than strings and numbers")
    target.update(zip(keys, items[1::2], strict=True))
    return target


def kind_of(value: Any) -> str:
    """What a value of a pickle's is, for people."""
    if isinstance(value, _Name):
        return value.text
    return f"a value of type {type(value).__name__.lower()}"
