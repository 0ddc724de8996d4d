"""Weight files of a Hugging Face directory, behind one interface.

    model.safetensors               all tensors
    model.safetensors.index.json    `weight_map`: tensor name -> name of a safetensors file
    pytorch_model.bin               all tensors, pickled (`lib.checkpoints.pytorch_files`)
    pytorch_model.bin.index.json    `weight_map`: tensor name -> name of a .bin file

The first of these that exists is read, as in transformers. Shards are next to their index. Git LFS
pointers in place of the files are refused, and so are indexes that name files elsewhere.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# Imported for its side effect: it registers bfloat16 with NumPy, which safetensors relies on.
import ml_dtypes  # noqa: F401
import numpy as np
from safetensors import SafetensorError, safe_open

from lib.checkpoints.pytorch_files import PickledTensors
from lib.checkpoints.tensors import as_float32, printable
from lib.run.errors import UserError
from lib.run.json_files import read_object
from lib.run.lfs import refuse_lfs_pointer

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
# In order of preference, as in transformers.
WEIGHT_FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", PICKLED, f"{PICKLED}.index.json")


class TensorFile(Protocol):
    """Named tensors, each read on demand.

    Attributes:
        source: the file, for errors.
        shapes: by tensor name.
    """

    source: Path
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray:
        """A float32 array; a UserError if the values are not floats."""


def open_weights(directory: Path) -> TensorFile:
    """Opens the weights of a model directory: the first of `WEIGHT_FILES` that exists.

    Raises:
        UserError: there are none, or a file is damaged.
    """
    paths = [directory / name for name in WEIGHT_FILES]
    path = next((path for path in paths if path.exists() or path.is_symlink()), None)
    if path is not None and not path.is_file():
        raise UserError(
            f"{path}: a link to a file that does not exist; copy the file itself there"
            if path.is_symlink()
            else f"{path}: not a file; copy the weights there"
        )
    if path is None:
        raise UserError(
            f"{directory}: not a model directory; it has none of {', '.join(WEIGHT_FILES)}"
        )
    return _ShardedFile(path) if path.suffix == ".json" else _open(path)


def _open(path: Path) -> TensorFile:
    refuse_lfs_pointer(path)
    return PickledTensors(path) if path.suffix == ".bin" else _SafetensorsFile(path)


class _SafetensorsFile:
    """One safetensors file."""

    def __init__(self, path: Path) -> None:
        self.source = path
        try:
            self._file = safe_open(path, framework="numpy")
            slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        except SafetensorError as failure:
            raise UserError(
                f"{path}: damaged ({printable(failure)}); download or train the model again"
            ) from None
        self.shapes = {name: tuple(each.get_shape()) for name, each in slices.items()}

    def read(self, name: str) -> np.ndarray:
        try:
            tensor = self._file.get_tensor(name)
        except (SafetensorError, TypeError, ValueError, AttributeError) as failure:
            raise UserError(
                f"{self.source}: {printable(name)} cannot be read ({printable(failure)}); save the "
                "model in float32, float16 or bfloat16"
            ) from None
        return as_float32(tensor, str(self.source), name)


class _ShardedFile:
    """Several weight files and the index that says which tensor is in which of them."""

    def __init__(self, index: Path) -> None:
        self.source = index
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, Mapping) or not all(map(_is_file_name, weight_map.values())):
            raise UserError(
                f"{index}: weight_map should give for each tensor the name of a file in the same "
                "folder; download or save it again"
            )
        files: dict[str, TensorFile] = {}
        for name in sorted(set(weight_map.values())):
            path = index.parent / name
            if not path.is_file():
                raise UserError(f"{path}: no such file, but {index.name} names it; download it too")
            files[name] = _open(path)
        self._files = {tensor: files[name] for tensor, name in weight_map.items()}
        for tensor, file in self._files.items():
            if tensor not in file.shapes:
                raise UserError(
                    f"{file.source}: no tensor {printable(tensor)}, although {index.name} says so; "
                    "download both again"
                )
        self.shapes = {tensor: file.shapes[tensor] for tensor, file in self._files.items()}

    def read(self, name: str) -> np.ndarray:
        return self._files[name].read(name)


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and Path(value).name == value != ""
