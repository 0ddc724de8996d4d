"""Restricted unpickler: loads pickled PyTorch tensors without being able to run code.

A pickle is a program for a stack machine, and its opcodes may import any function of any module and
call it. Here the opcodes are decoded by Python's pickletools and interpreted by a loop that imports
and calls nothing. It builds numbers, strings, tuples, lists and dictionaries. Three names are
understood as data; every other name, and every other way to make a call, is an error:

    collections.OrderedDict             an empty dictionary
    torch._utils._rebuild_tensor_v2     a `Tensor`: a view of a `Storage`
    torch._utils._rebuild_parameter     its first argument, the tensor

The class of a storage (`torch.FloatStorage`, ...) occurs in persistent ids and gives the dtype.

Example, `{"bias": tensor of 3 floats}`, with the stack after each opcode (memo opcodes left out):

    PROTO 2
    EMPTY_DICT                                      {}
    BINUNICODE 'bias'                               {} 'bias'
    GLOBAL torch._utils _rebuild_tensor_v2          {} 'bias' name
    MARK ... BINPERSID ... TUPLE                    {} 'bias' name (storage, 0, (3,), (1,), ...)
    REDUCE                                          {} 'bias' Tensor
    SETITEM                                         {'bias': Tensor}
    STOP

Limits on the number of opcodes, sizes and dimensions keep hostile files from taking long or from
describing tensors larger than the file.

A `pickle.Unpickler` with its own `find_class` would be some ninety lines shorter. It would still
run every opcode that builds objects, refuse only names, and have none of these limits.
"""

import math
import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import ml_dtypes
import numpy as np

# Storage class -> dtype of its elements, little-endian.
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
# A state dict has about thirty opcodes per tensor.
_MAX_OPCODES = 300_000
_MAX_SIZE, _MAX_DIMENSIONS = 2**40, 16


class UnsafePickleError(Exception):
    """The pickle uses a name or opcode that weights do not need; the message names it."""


class CorruptFileError(Exception):
    """The file is cut off or inconsistent; the message says how."""


@dataclass(frozen=True)
class Storage:
    """A contiguous array of values in the file; `elements` is its length."""

    key: str
    dtype: np.dtype
    elements: int


@dataclass(frozen=True)
class Tensor:
    """A view that lies within a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class _Name:
    """The name of a function or class in the pickle; never imported."""

    text: str


class RestrictedUnpickler:
    """Loads the pickles of one file, one after the other.

    Attributes:
        storages: all storages that the pickles refer to, by key.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def load(self, stream: IO[bytes]) -> Any:
        """Loads one pickle and leaves the stream at its end.

        Returns:
            None, a number, a string or a `Tensor`, or tuples, lists and dictionaries of these.

        Raises:
            UnsafePickleError, CorruptFileError: see there.
        """
        try:
            return self._load(stream)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as failure:
            raise CorruptFileError(str(failure) or type(failure).__name__) from None

    def _load(self, stream: IO[bytes]) -> Any:
        stack: list[Any] = []
        marks: list[int] = []
        memo: dict[int, Any] = {}

        def pop(count: int) -> list[Any]:
            if len(stack) < count:
                raise CorruptFileError("stack underflow")
            items = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            return items

        def pop_marked() -> list[Any]:
            return pop(max(len(stack) - marks.pop(), 0))

        argument: Any
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MAX_OPCODES:
                raise CorruptFileError(f"more than {_MAX_OPCODES:,} opcodes")
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
                stack.append(_set_items({}, pop_marked()))
            elif name in ("APPEND", "APPENDS"):
                items = pop(1) if name == "APPEND" else pop_marked()
                stack[-1].extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = pop(2) if name == "SETITEM" else pop_marked()
                _set_items(stack[-1], items)
            elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
                memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name == "GLOBAL":
                stack.append(_known_name(*argument.split(" ", 1)))
            elif name == "STACK_GLOBAL":
                stack.append(_known_name(*pop(2)))
            elif name == "REDUCE":
                stack.append(_call(*pop(2)))
            elif name == "BINPERSID":
                stack.append(self._storage(*pop(1)))
            elif name == "BUILD":
                # The attributes of a dictionary, such as torch's `_metadata`, are not needed.
                pop(1)
                if not isinstance(stack[-1], dict):
                    raise UnsafePickleError(f"BUILD of {describe(stack[-1])}")
            elif name == "STOP":
                return pop(1)[0]
            elif name == "INST":
                raise UnsafePickleError(argument.replace(" ", ".", 1))
            elif name not in ("PROTO", "FRAME"):
                raise UnsafePickleError(f"the opcode {name}" + (f" {argument}" if argument else ""))
        raise CorruptFileError("no STOP opcode")

    def _storage(self, identity: Any) -> Storage:
        """The storage that a persistent id refers to.

        The id is ("storage", class, key, device, elements). The format before PyTorch 1.6 has a
        sixth part, for views of other storages, which is None since PyTorch 0.4.
        """
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise CorruptFileError("a persistent id that is not a storage")
        kind, name, key, _device, elements = identity[:5]
        if kind != "storage" or not isinstance(name, _Name) or name.text not in _STORAGES:
            raise CorruptFileError("a persistent id that is not a storage")
        if identity[5:] not in ((), (None,)):
            raise CorruptFileError("a view of a storage, as written before PyTorch 0.4")
        if not isinstance(key, str):
            raise CorruptFileError("a storage without a key")
        storage = Storage(key, _STORAGES[name.text], _sizes([elements])[0])
        if self.storages.setdefault(key, storage) != storage:
            raise CorruptFileError("one storage with two dtypes or sizes")
        return storage


def _known_name(module: Any, name: Any) -> _Name:
    text = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "?"
    if text not in (_DICTIONARY, _TENSOR, _PARAMETER, *_STORAGES):
        raise UnsafePickleError(text)
    return _Name(text)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise CorruptFileError("a call of something that is not a function")
    if function.text == _DICTIONARY and not arguments:
        return {}
    if function.text == _TENSOR:
        return _tensor(*arguments)
    if function.text == _PARAMETER and arguments:
        return arguments[0]
    raise UnsafePickleError(f"{function.text}(...)")


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any,
    _hooks: Any,
    metadata: Any = None,
) -> Tensor:
    """Arguments as for `torch._utils._rebuild_tensor_v2`; the tensor must lie in its storage."""
    if not isinstance(storage, Storage) or metadata:
        raise CorruptFileError("an unsupported kind of tensor")
    (start,), sizes, steps = _sizes([offset]), _sizes(shape), _sizes(strides)
    if len(sizes) != len(steps) or math.prod(size or 1 for size in sizes) > _MAX_SIZE:
        raise CorruptFileError("a tensor with an invalid shape")
    # A parameter uses no element twice. Stride 0 could make a tensor far larger than the file.
    last = sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    count = math.prod(sizes)
    if start + (last + 1 if count else 0) > storage.elements or count > storage.elements:
        raise CorruptFileError("a tensor that reaches beyond its storage")
    return Tensor(storage, start, sizes, steps)


def _sizes(values: Any) -> tuple[int, ...]:
    """Sizes, strides or an offset, checked."""
    if not isinstance(values, tuple | list) or len(values) > _MAX_DIMENSIONS:
        raise CorruptFileError("a tensor with an invalid shape")
    if not all(type(value) is int and 0 <= value <= _MAX_SIZE for value in values):
        raise CorruptFileError("an impossible size")
    return tuple(values)


def _set_items(target: Any, items: list[Any]) -> Any:
    keys: Iterable[Any] = items[::2]
    # Hashing deeply nested tuples as keys could take forever.
    if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
        raise CorruptFileError("a dictionary whose keys are not strings or integers")
    target.update(zip(keys, items[1::2], strict=True))
    return target


def describe(value: Any) -> str:
    """A loaded value as described in an error."""
    if isinstance(value, _Name):
        return value.text
    return f"a value of type {type(value).__name__.lower()}"
