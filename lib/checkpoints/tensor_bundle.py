"""TensorFlow's checkpoint file format (TensorBundle), written by TF1's Saver and TF2's Checkpoint.

    NAME.index                    tensor name -> dtype, shape, data file, offset, checksum
    NAME.data-00000-of-00002      the values, in one or more files
    checkpoint                    optional state file: which of a folder's checkpoints is the latest

NAME, with its folder, is the checkpoint's prefix. How the tensors are named is up to
`lib.checkpoints.google` (TF1) and `lib.checkpoints.model_garden` (TF2). Refused: a missing, cut or
damaged file, and several checkpoints without a state file that names one of them.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lib.checkpoints.tensors import as_float32
from lib.model.config import BertConfig, read_config
from lib.run import tf
from lib.run.atomic import new_file
from lib.run.errors import UserError

# In order of preference.
CONFIG_NAMES = ("bert_config.json", "config.json")
_INDEX, _DATA = ".index", ".data-00000-of-00001"
# The tensor in which a TF2 checkpoint stores its object graph.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# TensorFlow's checkpoint reader raises some of its errors as these Python exceptions.
_READ_ERRORS = (tf.errors.OpError, IndexError, RuntimeError, ValueError)


class TensorBundle:
    """The tensors of one checkpoint, each read on demand.

    Attributes:
        source: the checkpoint's prefix, for errors.
        shapes: tensor name -> shape.
    """

    def __init__(self, prefix: Path) -> None:
        """
        Raises:
            UserError: a file is missing, or the index is damaged.
        """
        self.source = str(prefix)
        _check_data_files(prefix)
        # TensorFlow takes the prefix for a pattern.
        if any(character in self.source for character in "[]\\"):
            raise UserError(
                f"{prefix}: TensorFlow reads no checkpoint from a path with [, ] or \\ in it; "
                "rename its folder"
            )
        try:
            self._reader = tf.train.load_checkpoint(self.source)
            shapes = self._reader.get_variable_to_shape_map()
        except _READ_ERRORS as failure:
            raise UserError(
                f"{prefix}{_INDEX}: damaged ({_first_line(failure)}); copy the checkpoint again"
            ) from None
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def read(self, name: str) -> np.ndarray:
        """A float32 array.

        Raises:
            UserError: a data file is cut off or damaged, or the values are not floats.
        """
        return as_float32(np.asarray(self._value(name)), self.source, name)

    def object_graph(self) -> bytes:
        """The serialised object graph of a TF2 checkpoint (`OBJECT_GRAPH` is in `shapes`)."""
        return self._value(OBJECT_GRAPH)

    def _value(self, name: str):  # type: ignore[no-untyped-def]
        try:
            return self._reader.get_tensor(name)
        except _READ_ERRORS as failure:
            raise UserError(
                f"{self.source}: {name} cannot be read because a .data file is cut off or damaged "
                f"({_first_line(failure)}); copy the checkpoint again"
            ) from None


def find_prefix(path: Path) -> Path:
    """The prefix of a checkpoint's file names.

    Args:
        path: the prefix itself, or the checkpoint's folder. In a folder with several checkpoints,
            TensorFlow's state file `checkpoint` decides, if it names one of them.

    Raises:
        UserError: there is no checkpoint, or there are several.
    """
    if not path.is_dir():
        prefix = Path(str(path).removesuffix(_INDEX))
        if Path(f"{prefix}{_INDEX}").is_file():
            return prefix
        if path.exists():
            raise UserError(f"{path}: not a checkpoint; name the folder of a model")
        raise UserError(
            f"{path}: no such folder, and no {path.name}{_INDEX} either; name the folder of a "
            "model, or a checkpoint in it"
        )
    names = checkpoint_prefixes(path)
    if not names:
        raise UserError(f"{path}: no checkpoint in it (no file *{_INDEX}); name its folder")
    if len(names) == 1:
        return path / names[0]
    # Only the last component counts: the folder may have been copied from elsewhere.
    latest = _latest_checkpoint(path / "checkpoint")
    if latest in names:
        return path / latest
    raise UserError(
        f"{path}: several checkpoints: {', '.join(names)}; name one of them, such as "
        f"{path / names[-1]}"
    )


def checkpoint_prefixes(folder: Path) -> list[str]:
    """The name of each checkpoint in a folder, sorted."""
    return sorted(
        path.name.removesuffix(_INDEX) for path in folder.iterdir() if path.name.endswith(_INDEX)
    )


def read_checkpoint_config(prefix: Path) -> BertConfig:
    """The JSON config in a checkpoint's folder.

    Raises:
        UserError: there is none, or it is not a BERT's.
    """
    for name in CONFIG_NAMES:
        if (prefix.parent / name).exists():
            return read_config(prefix.parent / name)
    raise UserError(
        f"{prefix.parent}: no {CONFIG_NAMES[0]} for {prefix.name}{_INDEX}; put the config that the "
        "model was trained with there"
    )


def write_bundle(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint with one data file; the index, which makes it readable, appears last.

    Raises:
        UserError: it cannot be written.
    """
    names = sorted(tensors)
    with (
        new_file(Path(f"{prefix}{_INDEX}")) as index,
        new_file(Path(f"{prefix}{_DATA}")) as data,
        tempfile.TemporaryDirectory(prefix=f".{prefix.name}.tmp-", dir=prefix.parent) as folder,
    ):
        written = f"{folder}/{prefix.name}"
        try:
            with tf.device("CPU:0"):
                tf.raw_ops.SaveV2(
                    prefix=written,
                    tensor_names=names,
                    shape_and_slices=[""] * len(names),
                    tensors=[tensors[name] for name in names],
                )
        except tf.errors.OpError as failure:
            raise UserError(
                f"{prefix}: cannot be written ({_first_line(failure)}); is the disk full? Free "
                "some space and run the same command again"
            ) from None
        os.replace(f"{written}{_DATA}", data)
        os.replace(f"{written}{_INDEX}", index)


def _check_data_files(prefix: Path) -> None:
    """Checks that all data files exist; TensorFlow would only notice when it reads from them."""
    present = {
        found[1]: int(found[2])
        for path in prefix.parent.iterdir()
        if (found := re.fullmatch(re.escape(prefix.name) + r"\.data-(\d+)-of-(\d+)", path.name))
    }
    count = max(present.values(), default=1)
    for number in range(count):
        if f"{number:05d}" not in present:
            raise UserError(
                f"{prefix}.data-{number:05d}-of-{count:05d}: missing, but {prefix.name}{_INDEX} is "
                "there; copy the whole checkpoint"
            )


def _latest_checkpoint(state_file: Path) -> str | None:
    """The name of the checkpoint that a state file says is the latest."""
    try:
        text = state_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', text, re.MULTILINE)
    return found[1].replace("\\", "/").rpartition("/")[2] if found else None


def _first_line(failure: Exception) -> str:
    return str(failure).partition("\n")[0].strip() or type(failure).__name__
