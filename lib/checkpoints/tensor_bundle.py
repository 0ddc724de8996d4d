"""TensorFlow's checkpoint files: `NAME.index` beside `NAME.data-00000-of-00001` (and more).

TF1's Saver and TF2's `tf.train.Checkpoint` write the same files; what their tensors are called is
the business of `lib.checkpoints.google` and `lib.checkpoints.model_garden`.
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

CONFIGS = ("bert_config.json", "config.json")
_INDEX, _DATA = ".index", ".data-00000-of-00001"
# A TF2 checkpoint holds its graph of objects as a tensor of this name.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# A checkpoint's reader raises some of TensorFlow's errors as these of Python's.
_DAMAGE = (tf.errors.OpError, IndexError, RuntimeError, ValueError)


class TensorBundle:
    """The tensors of one checkpoint, read one by one.

    Attributes:
        source: what the files' names begin with, for errors.
        shapes: tensor name -> shape.
    """

    def __init__(self, prefix: Path) -> None:
        """
        Raises:
            UserError: a file is missing, or the index is damaged.
        """
        self.source = str(prefix)
        _check_shards(prefix)
        try:
            self._reader = tf.train.load_checkpoint(self.source)
            shapes = self._reader.get_variable_to_shape_map()
        except _DAMAGE as failure:
            raise UserError(
                f"{prefix}{_INDEX}: damaged ({_first_line(failure)}); copy the checkpoint anew"
            ) from None
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}

    def read(self, name: str) -> np.ndarray:
        """A float32 array.

        Raises:
            UserError: a data file is cut or damaged, or has other numbers than floats for it.
        """
        return as_float32(np.asarray(self._value(name)), self.source, name)

    def object_graph(self) -> bytes:
        """The serialised graph of objects of a TF2 checkpoint (`OBJECT_GRAPH` is in `shapes`)."""
        return self._value(OBJECT_GRAPH)

    def _value(self, name: str):  # type: ignore[no-untyped-def]
        try:
            return self._reader.get_tensor(name)
        except _DAMAGE as failure:
            raise UserError(
                f"{self.source}: {name} cannot be read, a .data file is cut or damaged "
                f"({_first_line(failure)}); copy the checkpoint anew"
            ) from None


def find_prefix(place: Path) -> Path:
    """What the names of a checkpoint's files begin with.

    Args:
        place: that itself, or the folder of the checkpoint. Where a folder has several,
            TensorFlow's state file `checkpoint` says which, if it is among them.

    Raises:
        UserError: there is none, or several.
    """
    if not place.is_dir():
        prefix = Path(str(place).removesuffix(_INDEX))
        if Path(f"{prefix}{_INDEX}").is_file():
            return prefix
        if place.exists():
            raise UserError(f"{place}: no checkpoint; name the folder of a model")
        raise UserError(
            f"{place}: no such folder, and no {place.name}{_INDEX} either; name the folder of a "
            "model, or a checkpoint in it"
        )
    names = prefixes(place)
    if not names:
        raise UserError(f"{place}: no checkpoint in it (no file *{_INDEX}); name its folder")
    if len(names) == 1:
        return place / names[0]
    # Only the last part of the path counts: the folder may have been copied from elsewhere.
    stated = _stated_in(place / "checkpoint")
    if stated in names:
        return place / stated
    raise UserError(
        f"{place}: several checkpoints: {', '.join(names)}; name one of them, such as "
        f"{place / names[-1]}"
    )


def prefixes(folder: Path) -> list[str]:
    """What the names of the files of each checkpoint in a folder begin with, in order."""
    return sorted(
        path.name.removesuffix(_INDEX) for path in folder.iterdir() if path.name.endswith(_INDEX)
    )


def read_config_beside(prefix: Path) -> BertConfig:
    """The config in the folder of a checkpoint.

    Raises:
        UserError: there is none, or it is not that of a BERT.
    """
    for name in CONFIGS:
        if (prefix.parent / name).exists():
            return read_config(prefix.parent / name)
    raise UserError(
        f"{prefix.parent}: no {CONFIGS[0]} beside {prefix.name}{_INDEX}; put there the config that "
        "the model was made with"
    )


def write_bundle(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint of one data file; its index, which makes it one, appears last.

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


def _check_shards(prefix: Path) -> None:
    """Whether all data files are there; TensorFlow itself would only miss them when it reads."""
    here = {
        found[1]: int(found[2])
        for path in prefix.parent.iterdir()
        if (found := re.fullmatch(re.escape(prefix.name) + r"\.data-(\d+)-of-(\d+)", path.name))
    }
    count = max(here.values(), default=1)
    for number in range(count):
        if f"{number:05d}" not in here:
            raise UserError(
                f"{prefix}.data-{number:05d}-of-{count:05d}: missing beside {prefix.name}{_INDEX}; "
                "copy the whole checkpoint"
            )


def _stated_in(path: Path) -> str | None:
    """The name of the checkpoint that a state file says is the newest."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'^model_checkpoint_path:\s*"([^"]*)"', text, re.MULTILINE)
    return found[1].replace("\\", "/").rpartition("/")[2] if found else None


def _first_line(failure: Exception) -> str:
    return str(failure).partition("\n")[0].strip() or type(failure).__name__
