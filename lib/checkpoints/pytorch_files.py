"""PyTorch's own files (`pytorch_model.bin`, .pt), read without PyTorch and without running them.

Two formats are about: since PyTorch 1.6 a zip archive, before it pickles with the numbers behind
them. In both a pickle says what tensors there are; `RestrictedUnpickler` reads it as data.
"""

import io
import mmap
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from lib.checkpoints.restricted_unpickler import (
    CodeError,
    DamageError,
    RestrictedUnpickler,
    Tensor,
    kind_of,
)
from lib.checkpoints.tensors import as_float32, shown
from lib.run.errors import UserError

# How the older format begins: torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LOCAL_HEADER = 30  # bytes of a zip entry's own header before its name
# Where training code keeps the state dict among other things.
_WRAPPERS = ("state_dict", "model")


class PickledTensors:
    """A state dict in a file. The file is mapped: what is not read takes no memory.

    Attributes:
        source: the file.
        shapes: of its tensors, by name.
    """

    def __init__(self, path: Path) -> None:
        """Reads the names and the shapes.

        Raises:
            UserError: the file is damaged, asks for code, or has other things than tensors.
        """
        self.source = path
        self._starts: dict[str, int] = {}  # byte in the file, by the storage's key
        try:
            with path.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._machine = RestrictedUnpickler()
            found = self._archive() if self._file[:4] == b"PK\3\4" else self._older()
        except CodeError as code:
            raise UserError(
                f"{path}: asks for {shown(code)} when it is read, which is code, not weights (it "
                "was not run); take the model as safetensors, or its state dict alone"
            ) from None
        except (DamageError, ValueError, zipfile.BadZipFile) as failure:
            raise UserError(
                f"{path}: damaged, or no file of PyTorch's ({shown(failure)}); fetch or save it "
                "again"
            ) from None
        self._tensors = self._state(found)
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """The float32 array of a name.

        Raises:
            UserError: its numbers are of another kind than floats.
        """
        tensor = self._tensors[name]
        dtype = tensor.storage.dtype
        start = self._starts[tensor.storage.key] + tensor.offset * dtype.itemsize
        strides = [step * dtype.itemsize for step in tensor.strides]
        view = np.ndarray(tensor.shape, dtype, self._file, start, strides)
        return as_float32(view.copy(order="C"), str(self.source), name)

    def _archive(self) -> Any:
        """The zip format: <top>/data.pkl, and <top>/data/<key> for each storage."""
        try:
            with zipfile.ZipFile(self.source) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
        except (NotImplementedError, OverflowError, EOFError) as failure:
            raise DamageError(str(failure)) from None
        tops = [name[: -len("data.pkl")] for name in entries if f"/{name}".endswith("/data.pkl")]
        if len(tops) != 1:
            raise DamageError(f"{len(tops)} data.pkl in it")
        order = entries.get(f"{tops[0]}byteorder")
        if order and self._bytes(*self._place(order)) != b"little":
            raise DamageError("written on a big-endian machine")
        pickle = self._bytes(*self._place(entries[f"{tops[0]}data.pkl"]))
        found = self._machine.load(io.BytesIO(pickle))
        for key, storage in self._machine.storages.items():
            if f"{tops[0]}data/{key}" not in entries:
                raise DamageError("a storage is missing")
            start, size = self._place(entries[f"{tops[0]}data/{key}"])
            if size < storage.elements * storage.dtype.itemsize:
                raise DamageError("a storage is too short")
            self._starts[key] = start
        return found

    def _place(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """First byte and size of an entry, which torch never compresses."""
        header = self._bytes(entry.header_offset, _LOCAL_HEADER)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise DamageError("compressed or encrypted")
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        start = entry.header_offset + _LOCAL_HEADER + name + extra
        if header[:4] != b"PK\3\4" or start + entry.file_size > len(self._file):
            raise DamageError("an entry beyond its end")
        return start, entry.file_size

    def _bytes(self, start: int, size: int) -> bytes:
        if start < 0 or start + size > len(self._file):
            raise DamageError("cut off")
        return self._file[start : start + size]

    def _older(self) -> Any:
        """The older format: five pickles, then for each storage its length and its numbers."""
        stream, machine = cast(IO[bytes], self._file), self._machine
        if machine.load(stream) != _MAGIC or machine.load(stream) != _PROTOCOL:
            raise DamageError("another beginning")
        machine.load(stream)  # of the machine that wrote it; the numbers are little-endian always
        found, keys = machine.load(stream), machine.load(stream)
        position = stream.tell()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise DamageError("no list of storages")
        for key in keys:
            storage = machine.storages.get(key)
            elements = int.from_bytes(self._bytes(position, 8), "little", signed=True)
            if storage is None or elements != storage.elements:
                raise DamageError("a storage of another length")
            self._starts[key] = position + 8
            position += 8 + elements * storage.dtype.itemsize
        if position > len(self._file):
            raise DamageError("cut off")
        if self._starts.keys() != machine.storages.keys():
            raise DamageError("a storage is missing")
        return found

    def _state(self, found: Any) -> dict[str, Tensor]:
        """The tensors by name, of a state dict or of one that lies in a dictionary."""
        advice = "save the state dict of the model alone"
        inner = [found.get(key) for key in _WRAPPERS] if isinstance(found, dict) else []
        found = next((each for each in inner if isinstance(each, dict)), found)
        if not isinstance(found, dict):
            raise UserError(f"{self.source}: holds {kind_of(found)}, not tensors by name; {advice}")
        for name, tensor in found.items():
            if not isinstance(name, str) or not name.isprintable():
                raise UserError(
                    f"{self.source}: {shown(ascii(name))} is not the name of a tensor; {advice}"
                )
            if not isinstance(tensor, Tensor):
                raise UserError(
                    f"{self.source}: {shown(name)} is {kind_of(tensor)}, not a tensor; {advice}"
                )
        return found
