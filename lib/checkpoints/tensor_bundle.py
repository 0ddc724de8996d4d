"""TensorFlow's checkpoint file format (TensorBundle), written by TF1's Saver and TF2's Checkpoint.

    NAME.index                    tensor name -> dtype, shape, data file, offset, size, checksum
    NAME.data-00000-of-00002      the values, in one or more files
    checkpoint                    optional state file: which of a folder's checkpoints is the latest

NAME, with its folder, is the checkpoint's prefix. How the tensors are named is up to
`lib.checkpoints.google` (TF1) and `lib.checkpoints.model_garden` (TF2). Checkpoints are read
without TensorFlow, which takes seconds to import, and written with it.

The index is a table in LevelDB's format (tensorflow/core/lib/io/format.h): blocks of sorted keys
and values, a block that lists the blocks, and a footer of 48 bytes that locates this one:

    entry     shared, new, length as varints; the new bytes of the key; the value
    block     entries; restart offsets (uint32 each), their number (uint32);
              compression (1 byte, 0: none); masked CRC-32C
    footer    offset and size of two blocks as varints, padding; magic number (8 bytes)

    keys  "bert/pooler/dense/bias"      0, 22, ...    bert/pooler/dense/bias
          "bert/pooler/dense/kernel"    18, 6, ...    kernel

The value of the empty key is a BundleHeaderProto, the others are BundleEntryProtos
(tensorflow/core/protobuf/tensor_bundle.proto).

Refused: a missing, cut or damaged file, partitioned variables, and several checkpoints without a
state file that names one of them.
"""

import math
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import ml_dtypes
import numpy as np

from lib.checkpoints.protobuf import parse
from lib.checkpoints.tensors import as_float32, printable
from lib.model.bert_config import BertConfig
from lib.model.config import read_config
from lib.run import tf
from lib.run.atomic import new_file
from lib.run.errors import UserError
from lib.run.lfs import refuse_lfs_pointer
from lib.run.varint import read_varint

# In order of preference.
CONFIG_NAMES = ("bert_config.json", "config.json")
INDEX = ".index"
_DATA = ".data-00000-of-00001"
# The tensor in which a TF2 checkpoint stores its object graph.
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_MAGIC, _FOOTER_BYTES = 0xDB4775248B80FB57, 48
_MASK_DELTA = 0xA282EAD8
# An index has some hundred bytes per tensor.
_MAX_INDEX_BYTES = 1 << 28
# DataType in tensorflow/core/framework/types.proto -> dtype, little-endian.
_DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    10: np.dtype("?"),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype("<f2"),
}
_STRING = 7


class TensorBundle:
    """The tensors of one checkpoint, each read on demand.

    Attributes:
        source: the checkpoint's prefix, for errors.
        shapes: tensor name -> shape.
    """

    def __init__(self, prefix: Path) -> None:
        """
        Raises:
            UserError: a file is missing or cut off, or the index is damaged.
        """
        self.source = str(prefix)
        index = Path(f"{prefix}{INDEX}")
        refuse_lfs_pointer(index)
        try:
            shards, self._entries = _read_index(index)
        except (ValueError, IndexError, struct.error) as failure:
            raise UserError(
                f"{index}: damaged ({printable(failure)}); copy the checkpoint again"
            ) from None
        self._files = [Path(f"{prefix}.data-{n:05d}-of-{shards:05d}") for n in range(shards)]
        for number, path in enumerate(self._files):
            if not path.is_file():
                raise UserError(
                    f"{path}: missing, but {index.name} is there; copy the whole checkpoint"
                )
            refuse_lfs_pointer(path)
            stored = [each for each in self._entries.values() if each.shard_id == number]
            needed = max((each.offset + each.size for each in stored), default=0)
            if path.stat().st_size < needed:
                raise UserError(
                    f"{path}: cut off, it has {path.stat().st_size:,} of {needed:,} bytes; copy "
                    "the checkpoint again"
                )
        self.shapes = {name: _shape(entry) for name, entry in self._entries.items()}

    def read(self, name: str) -> np.ndarray:
        """A float32 array.

        Raises:
            UserError: a data file is damaged, or the values are not floats.
        """
        entry = self._entries[name]
        if entry.dtype not in _DTYPES or entry.slices:
            kind = "partitioned" if entry.slices else f"of TensorFlow's type {entry.dtype}"
            raise UserError(
                f"{self.source}: {printable(name)} is {kind}; save the model in float32, without "
                "partitions"
            )
        dtype = _DTYPES[entry.dtype]
        if entry.size != math.prod(self.shapes[name]) * dtype.itemsize:
            raise UserError(
                f"{self.source}{INDEX}: damaged (the size of {printable(name)}); copy the "
                "checkpoint again"
            )
        data = self._bytes(name, entry)
        if _masked_checksum(data) != entry.crc32c:
            raise self._damaged(name, entry)
        return as_float32(np.frombuffer(data, dtype).reshape(self.shapes[name]), self.source, name)

    def object_graph(self) -> bytes:
        """The serialised object graph of a TF2 checkpoint (`OBJECT_GRAPH` is in `shapes`).

        A string tensor is stored as the lengths of its strings (varints), a checksum, the strings.
        """
        entry = self._entries[OBJECT_GRAPH]
        data = self._bytes(OBJECT_GRAPH, entry)
        try:
            length, offset = read_varint(data, 0)
        except (ValueError, IndexError):
            raise self._damaged(OBJECT_GRAPH, entry) from None
        graph = data[offset + 4 :]
        # The checksum is over the length as a number, the checksum of the lengths, and the string.
        lengths = struct.pack("<I" if length < 1 << 32 else "<Q", length)
        checksum = google_crc32c.extend(google_crc32c.value(lengths), data[offset : offset + 4])
        if entry.dtype != _STRING or len(graph) != length:
            raise self._damaged(OBJECT_GRAPH, entry)
        if _mask(google_crc32c.extend(checksum, graph)) != entry.crc32c:
            raise self._damaged(OBJECT_GRAPH, entry)
        return graph

    def _bytes(self, name: str, entry: Any) -> bytes:
        with self._files[entry.shard_id].open("rb") as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
        if len(data) < entry.size:
            raise self._damaged(name, entry)
        return data

    def _damaged(self, name: str, entry: Any) -> UserError:
        path = self._files[entry.shard_id]
        return UserError(
            f"{path}: damaged ({printable(name)} does not have its checksum); copy the checkpoint "
            "again"
        )


def _read_index(path: Path) -> tuple[int, dict[str, Any]]:
    """The number of data files, and the BundleEntryProto of each tensor."""
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise ValueError("too large")
    table = path.read_bytes()
    footer = table[-_FOOTER_BYTES:]
    if len(footer) < _FOOTER_BYTES or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise ValueError("no index of a checkpoint, or cut off")
    _, offset = _read_handle(footer, 0)
    index, _ = _read_handle(footer, offset)
    shards, entries = 0, {}
    for _, handle in _block_entries(_block(table, *index)):
        for key, value in _block_entries(_block(table, *_read_handle(handle, 0)[0])):
            if not key:
                header = parse("BundleHeader", value)
                shards = header.num_shards
                if header.endianness:
                    raise ValueError("written on a big-endian machine")
            # Keys that begin with 0 are those of the parts of partitioned variables.
            elif key[0]:
                entries[key.decode()] = parse("BundleEntry", value)
    for entry in entries.values():
        sizes = (*_shape(entry), entry.offset, entry.size)
        if len(sizes) > 10 or not all(0 <= size <= 1 << 48 for size in sizes):
            raise ValueError("an impossible size")
    shard_ids = [entry.shard_id for entry in entries.values()]
    if not 0 < shards <= 100_000 or not all(0 <= number < shards for number in shard_ids):
        raise ValueError("the number of data files")
    return shards, entries


def _shape(entry: Any) -> tuple[int, ...]:
    return tuple(dimension.size for dimension in entry.shape.dim)


def _read_handle(data: bytes, offset: int) -> tuple[tuple[int, int], int]:
    """The offset and size of a block, and the offset after them."""
    block, offset = read_varint(data, offset)
    size, offset = read_varint(data, offset)
    return (block, size), offset


def _block(table: bytes, offset: int, size: int) -> bytes:
    """The entries of a block, its checksum verified."""
    content, trailer = table[offset : offset + size + 1], table[offset + size + 1 :][:4]
    if len(content) <= size or len(trailer) < 4 or size < 4:
        raise ValueError("cut off")
    if _masked_checksum(content) != struct.unpack("<I", trailer)[0]:
        raise ValueError("a wrong checksum")
    if content[-1]:
        raise ValueError("compressed, which TensorFlow never does")
    (restarts,) = struct.unpack("<I", content[-5:-1])
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("restart offsets")
    return content[:end]


def _block_entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block."""
    key, offset = b"", 0
    while offset < len(block):
        shared, offset = read_varint(block, offset)
        new, offset = read_varint(block, offset)
        length, offset = read_varint(block, offset)
        if shared > len(key) or offset + new + length > len(block):
            raise ValueError("an entry that is cut off")
        key = key[:shared] + block[offset : offset + new]
        yield key, block[offset + new : offset + new + length]
        offset += new + length


def _masked_checksum(data: bytes) -> int:
    return _mask(google_crc32c.value(data))


def _mask(checksum: int) -> int:
    """The form in which TensorFlow stores a CRC-32C (tensorflow/core/lib/hash/crc32c.h)."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def find_prefix(path: Path) -> Path:
    """The prefix of a checkpoint's file names.

    Args:
        path: the prefix itself, its `.index` file, or the checkpoint's folder. In a folder with
            several checkpoints, TensorFlow's state file `checkpoint` decides, if it names one of
            them.

    Raises:
        UserError: there is no checkpoint, or there are several.
    """
    if not path.is_dir():
        prefix = Path(str(path).removesuffix(INDEX))
        if Path(f"{prefix}{INDEX}").is_file():
            return prefix
        if path.exists():
            raise UserError(
                f"{path}: not a checkpoint; name the folder of a model, or the {INDEX} file of a "
                "checkpoint"
            )
        raise UserError(
            f"{path}: no such folder, and no {path.name}{INDEX} either; name the folder of a "
            "model, or a checkpoint in it"
        )
    names = checkpoint_prefixes(path)
    if not names:
        raise UserError(f"{path}: no checkpoint in it (no file *{INDEX}); name its folder")
    if len(names) == 1:
        return path / names[0]
    # Only the last component counts: the folder may have been copied from elsewhere.
    latest = _latest_checkpoint(path / "checkpoint")
    if latest in names:
        return path / latest
    raise UserError(
        f"{path}: several checkpoints: {', '.join(names)}; name one of them in place of the "
        f"folder, such as {path / names[-1]}{INDEX}"
    )


def checkpoint_prefixes(folder: Path) -> list[str]:
    """The name of each checkpoint in a folder, sorted, numbers in them by value."""
    names = (path.name.removesuffix(INDEX) for path in folder.iterdir() if _is_index(path))
    return sorted(names, key=lambda name: [(len(part), part) for part in re.split(r"(\d+)", name)])


def _is_index(path: Path) -> bool:
    return path.name.endswith(INDEX) and not path.name.startswith(".") and path.is_file()


def read_checkpoint_config(prefix: Path) -> BertConfig:
    """The JSON config in a checkpoint's folder.

    Raises:
        UserError: there is none, or it is not a BERT's.
    """
    for name in CONFIG_NAMES:
        if (prefix.parent / name).exists():
            config = read_config(prefix.parent / name)
            if not isinstance(config, BertConfig):
                raise UserError(
                    f"{prefix.parent / name}: the config of a {config.title}, not of a BERT as in "
                    f"{prefix.name}{INDEX}; put the config that belongs to it there"
                )
            return config
    raise UserError(
        f"{prefix.parent}: no {CONFIG_NAMES[0]} for {prefix.name}{INDEX}; put the config that the "
        "model was trained with there"
    )


def write_bundle(prefix: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint with one data file; the index, which makes it readable, appears last.

    Raises:
        UserError: it cannot be written.
    """
    names = sorted(tensors)
    with (
        new_file(Path(f"{prefix}{INDEX}")) as index,
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
        os.replace(f"{written}{INDEX}", index)


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
