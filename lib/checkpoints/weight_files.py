"""The files in which a Hugging Face directory keeps its tensors, and one way to read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

# Imported for what it does: NumPy knows bfloat16 by its name then, which safetensors asks for.
import ml_dtypes  # noqa: F401
import numpy as np
from safetensors import SafetensorError, safe_open

from lib.checkpoints.pytorch_files import PickledTensors
from lib.checkpoints.tensors import as_float32, shown
from lib.run.errors import UserError
from lib.run.json_files import read_object

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"
# As transformers looks for them: the first one that is there counts.
_NAMES = (SAFETENSORS, f"{SAFETENSORS}.index.json", PICKLED, f"{PICKLED}.index.json")
# What stands in a clone where `git lfs` was not installed.
_POINTER = b"version https://git-lfs"


class Tensors(Protocol):
    """Named tensors, each read when it is asked for.

    Attributes:
        source: the file, for errors.
        shapes: by name.
    """

    source: Path
    shapes: dict[str, tuple[int, ...]]

    def read(self, name: str) -> np.ndarray:
        """A float32 array; UserError if the file has other numbers than floats for it."""


def open_weights(directory: Path) -> Tensors:
    """Opens the weights of a model's folder: safetensors before pickles, whole before sharded.

    Raises:
        UserError: there are none, or a file is damaged.
    """
    path = next((directory / name for name in _NAMES if (directory / name).exists()), None)
    if path is None:
        raise UserError(f"{directory}: not a model directory: none of {', '.join(_NAMES)} is there")
    return _Shards(path) if path.suffix == ".json" else _open(path)


def _open(path: Path) -> Tensors:
    with path.open("rb") as file:
        beginning = file.read(len(_POINTER))
    if beginning == _POINTER:
        raise UserError(
            f"{path}: a pointer of Git LFS, not the file itself; run `git lfs pull` in that clone"
        )
    return PickledTensors(path) if path.suffix == ".bin" else _SafeTensors(path)


class _SafeTensors:
    """One safetensors file."""

    def __init__(self, path: Path) -> None:
        self.source = path
        try:
            self._file = safe_open(path, framework="numpy")
            parts = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118
        except SafetensorError as failure:
            raise UserError(
                f"{path}: damaged ({shown(failure)}); fetch or train the model again"
            ) from None
        self.shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}

    def read(self, name: str) -> np.ndarray:
        return as_float32(self._file.get_tensor(name), str(self.source), name)


class _Shards:
    """Several files, and an index that says which tensor is where."""

    def __init__(self, index: Path) -> None:
        self.source = index
        places = read_object(index).get("weight_map")
        if not isinstance(places, Mapping) or not all(map(_is_file_name, places.values())):
            raise UserError(
                f"{index}: weight_map should give each tensor the name of a file beside it; fetch "
                "or save it again"
            )
        files: dict[str, Tensors] = {}
        for name in sorted(set(places.values())):
            path = index.parent / name
            if not path.is_file():
                raise UserError(f"{path}: no such file, but {index.name} names it; fetch it too")
            files[name] = _open(path)
        self._files = {name: files[place] for name, place in places.items()}
        for name, file in self._files.items():
            if name not in file.shapes:
                raise UserError(
                    f"{file.source}: no tensor {shown(name)}, which {index.name} says is there; "
                    "fetch both again"
                )
        self.shapes = {name: file.shapes[name] for name, file in self._files.items()}

    def read(self, name: str) -> np.ndarray:
        return self._files[name].read(name)


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and Path(value).name == value != ""
