"""PyTorch weight files (`pytorch_model.bin`, .pt, .pth), read without PyTorch.

`torch.save` of a state dict writes one of two formats. Since PyTorch 1.6, a zip archive:

    NAME/data.pkl       a pickle: the state dict, whose tensors refer to storages by key
    NAME/data/KEY       one uncompressed entry per storage: its values, little-endian
    NAME/byteorder      "little" (newer versions only)
    NAME/version        not read

Before, a sequence without an archive:

    pickle              0x1950A86A20F9469CFC6C (torch.serialization.MAGIC_NUMBER)
    pickle              1001 (PROTOCOL_VERSION)
    pickle              facts about the machine that wrote it; not used
    pickle              the state dict
    pickle              a list of the storages' keys
    per storage         number of elements (int64), then the values, little-endian

A tensor is a view of a storage: offset, shape, strides. A pickle is a program, which Python's own
unpickler would run; `RestrictedUnpickler` only builds tensors and containers. The state dict may be
inside a dictionary under `state_dict` or `model`.

Refused: pickles that use any other function or class (among them whole models saved in place of
their state dict), compressed or encrypted archives, big-endian files, damaged files, and tensors
that reach beyond their storage.
"""

import io
import mmap
import zipfile
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from lib.checkpoints.restricted_unpickler import (
    CorruptFileError,
    RestrictedUnpickler,
    Tensor,
    UnsafePickleError,
    describe,
)
from lib.checkpoints.tensors import as_float32, printable
from lib.run.errors import UserError

# torch.serialization.MAGIC_NUMBER and PROTOCOL_VERSION.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Bytes of a zip entry's local header before the file name.
_LOCAL_HEADER = 30
# Keys under which training code stores the state dict.
_WRAPPERS = ("state_dict", "model")


class PickledTensors:
    """The state dict in a PyTorch file. The file is memory-mapped; tensors are read on demand.

    Attributes:
        source: the file.
        shapes: by tensor name.
    """

    def __init__(self, path: Path) -> None:
        """Reads the names and shapes.

        Raises:
            UserError: the file is damaged, its pickle uses code, or it holds something other than
                tensors.
        """
        self.source = path
        self._offsets: dict[str, int] = {}  # storage key -> byte offset in the file
        try:
            with path.open("rb") as file:
                self._file = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._unpickler = RestrictedUnpickler()
            found = self._load_zip() if self._file[:4] == b"PK\3\4" else self._load_legacy()
        except UnsafePickleError as failure:
            raise UserError(
                f"{path}: loading it would use {printable(failure)}, which is code, not weights "
                "(nothing was run); use a safetensors file, or save the state dict alone"
            ) from None
        except (CorruptFileError, ValueError, zipfile.BadZipFile) as failure:
            raise UserError(
                f"{path}: damaged, or not a PyTorch file ({printable(failure)}); download or save "
                "it again"
            ) from None
        self._tensors = self._state_dict(found)
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str) -> np.ndarray:
        """The float32 array of a name.

        Raises:
            UserError: the values are not floats.
        """
        tensor = self._tensors[name]
        dtype = tensor.storage.dtype
        offset = self._offsets[tensor.storage.key] + tensor.offset * dtype.itemsize
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        view = np.ndarray(tensor.shape, dtype, self._file, offset, strides)
        return as_float32(view.copy(order="C"), str(self.source), name)

    def _load_zip(self) -> Any:
        """Loads the zip format's pickle and locates its storages."""
        try:
            with zipfile.ZipFile(self.source) as archive:
                entries = {entry.filename: entry for entry in archive.infolist()}
        except (NotImplementedError, OverflowError, EOFError) as failure:
            raise CorruptFileError(str(failure)) from None
        tops = [name[: -len("data.pkl")] for name in entries if f"/{name}".endswith("/data.pkl")]
        if len(tops) != 1:
            raise CorruptFileError(f"{len(tops)} entries data.pkl")
        byte_order = entries.get(f"{tops[0]}byteorder")
        if byte_order and self._bytes(*self._locate(byte_order)) != b"little":
            raise CorruptFileError("written on a big-endian machine")
        pickle = self._bytes(*self._locate(entries[f"{tops[0]}data.pkl"]))
        found = self._unpickler.load(io.BytesIO(pickle))
        for key, storage in self._unpickler.storages.items():
            if f"{tops[0]}data/{key}" not in entries:
                raise CorruptFileError("a storage is missing")
            offset, size = self._locate(entries[f"{tops[0]}data/{key}"])
            if size < storage.elements * storage.dtype.itemsize:
                raise CorruptFileError("a storage is too short")
            self._offsets[key] = offset
        return found

    def _locate(self, entry: zipfile.ZipInfo) -> tuple[int, int]:
        """Byte offset and size of a zip entry's content. torch never compresses entries."""
        header = self._bytes(entry.header_offset, _LOCAL_HEADER)
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise CorruptFileError("compressed or encrypted")
        # The lengths of the file name and of the extra field, which follow the header.
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        offset = entry.header_offset + _LOCAL_HEADER + name + extra
        if header[:4] != b"PK\3\4" or offset + entry.file_size > len(self._file):
            raise CorruptFileError("an entry reaches beyond the end of the file")
        return offset, entry.file_size

    def _bytes(self, offset: int, size: int) -> bytes:
        if offset < 0 or offset + size > len(self._file):
            raise CorruptFileError("cut off")
        return self._file[offset : offset + size]

    def _load_legacy(self) -> Any:
        """Loads the pickles of the format before PyTorch 1.6 and locates the storages."""
        stream, unpickler = cast(IO[bytes], self._file), self._unpickler
        if unpickler.load(stream) != _MAGIC or unpickler.load(stream) != _PROTOCOL:
            raise CorruptFileError("unknown header")
        unpickler.load(stream)  # The writing machine's facts: values are little-endian regardless.
        found, keys = unpickler.load(stream), unpickler.load(stream)
        offset = stream.tell()
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise CorruptFileError("no list of storages")
        for key in keys:
            storage = unpickler.storages.get(key)
            elements = int.from_bytes(self._bytes(offset, 8), "little", signed=True)
            if storage is None or elements != storage.elements:
                raise CorruptFileError("a storage with another number of elements")
            self._offsets[key] = offset + 8
            offset += 8 + elements * storage.dtype.itemsize
        if offset > len(self._file):
            raise CorruptFileError("cut off")
        if self._offsets.keys() != unpickler.storages.keys():
            raise CorruptFileError("a storage is missing")
        return found

    def _state_dict(self, found: Any) -> dict[str, Tensor]:
        """The tensors by name, from a state dict or from a dictionary that holds one."""
        advice = "save the model's state dict alone"
        inner = [found.get(key) for key in _WRAPPERS] if isinstance(found, dict) else []
        found = next((each for each in inner if isinstance(each, dict)), found)
        if not isinstance(found, dict):
            raise UserError(
                f"{self.source}: holds {describe(found)}, not tensors by name; {advice}"
            )
        for name, tensor in found.items():
            if not isinstance(name, str) or not name.isprintable():
                raise UserError(
                    f"{self.source}: {printable(ascii(name))} is not the name of a tensor; {advice}"
                )
            if not isinstance(tensor, Tensor):
                raise UserError(
                    f"{self.source}: {printable(name)} is {describe(tensor)}, not a tensor; "
                    f"{advice}"
                )
        return found
