"""Pretraining examples made elsewhere: the files there are, their formats, and their records here.

Google's TFRecords, NVIDIA's HDF5 and JSON lines with Hugging Face's names are told apart by what
they begin with, because names differ (`part-00000`, `wiki_128.tf_record`).
"""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from lib.records.importing.example_batch import (
    ExampleBatch,
    SequenceSizes,
    read_tfrecords,
    tfrecord_sizes,
)
from lib.records.importing.hdf5 import hdf5_sizes, read_hdf5
from lib.records.importing.json_lines import json_sizes, read_json
from lib.records.importing.validation import validate_batch
from lib.records.importing.writing import write_sequences
from lib.records.manifest import MANIFEST
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import FILE_SUFFIXES, sequences_per_batch
from lib.records.statistics import WrittenShard
from lib.records.tfrecord import checksum_bytes
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.pool import Workers, shard_map

_GZIP, _HDF5, _BYTE_ORDER_MARK = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"\xef\xbb\xbf"
_HEAD_BYTES = 64
Format = Literal["TFRecord", "HDF5", "JSON lines"]
# What a damaged file was, if its name tells.
_NAMES: dict[Format, tuple[str, ...]] = {
    "TFRecord": (".tfrecord", ".tf_record", ".tfrecords"),
    "HDF5": (".hdf5", ".h5"),
    "JSON lines": (".jsonl", ".json", ".ndjson"),
}
# What the rows are called in errors.
_ROW_NAMES: dict[Format, str] = {"TFRecord": "record", "HDF5": "row", "JSON lines": "line"}


@dataclass(frozen=True)
class ExampleFile:
    """A file of examples.

    Attributes:
        name: its path within the folder.
        split: train, dev or test if its name or a folder's says so.
        compressed: by gzip.
    """

    path: Path
    name: str
    split: str | None
    format: Format
    compressed: bool

    def __str__(self) -> str:
        return str(self.path)


def find_examples(
    folder: Path, split_of: Callable[[PurePosixPath], str | None]
) -> list[ExampleFile]:
    """The files of a folder, at any depth, in the order of their names.

    Hidden files, what DVC keeps beside data and the manifest of records made here are no examples.

    Args:
        split_of: the split that a file's path within the folder states.

    Raises:
        UserError: there are none, one is empty or of none of the formats, or they are of several.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; records.source should be data/shards or a folder of "
            "examples made elsewhere"
        )
    files = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix == ".dvc" or path.name == MANIFEST or not path.is_file():
            continue
        split = split_of(PurePosixPath(relative.as_posix()))
        files.append(ExampleFile(path, relative.as_posix(), split, *_recognise(path)))
    files.sort(key=lambda file: file.name)
    if not files:
        raise UserError(f"{folder}: no files of examples in it; put them there")
    for file in files:
        if file.format != files[0].format:
            raise UserError(
                f"{file}: {file.format}, but {files[0]} is {files[0].format}; keep one format"
            )
    return files


def _recognise(path: Path) -> tuple[Format, bool]:
    """The format of a file, and whether it is compressed."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    compressed = head.startswith(_GZIP)
    if compressed:
        try:
            with gzip.open(path) as unpacked:
                head = unpacked.read(_HEAD_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
            raise UserError(f"{path}: cannot be unpacked ({failure}); make it again") from None
    if not head:
        raise UserError(f"{path}: empty; remove it or make it again")
    names = path.name.lower().removesuffix(".gz")
    if head.startswith(_HDF5):
        if compressed:
            raise UserError(f"{path}: HDF5 has to be read unpacked; unpack it with gunzip")
        return "HDF5", False
    if head[8:12] == checksum_bytes(head[:8]):
        return "TFRecord", compressed
    if head.removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"{"):
        return "JSON lines", compressed
    for format, endings in _NAMES.items():
        if names.endswith(endings):
            return format, compressed
    raise UserError(
        f"{path}: holds no examples: neither TFRecords (a length and its checksum come first), nor "
        "HDF5, nor JSON lines (an object a line); leave only files of examples in the folder"
    )


def import_examples(
    files: Sequence[ExampleFile],
    target: Path,
    phase: str,
    max_seq_length: int,
    vocabulary: VocabularyFacts,
    dev_fraction: float,
    compression: Literal["none", "gzip"],
    workers: Workers,
) -> tuple[RecordSettings, list[WrittenShard]]:
    """Writes the examples as records, one file for each, or two where rows are drawn for dev.

    Files of no split are for training. If none is for dev, rows are drawn for it from those for
    training; there may be none for test.

    Args:
        target: a folder with the folders train, dev and test.
        phase: its name in params.yaml, for errors and progress.
        max_seq_length: S, the tokens of its rows.
        dev_fraction: share of the rows to draw.
        compression: of the records.

    Returns:
        What is known of how the records were made, and the files written.

    Raises:
        UserError: a file is damaged, rows are not what the phase and the vocabulary ask for, or
            nothing is left for training or dev.
    """
    sizes = shard_map(_row_sizes, files, workers, f"records {phase}: sizes")
    predictions = _common_predictions(files, sizes, phase, max_seq_length)
    settings = RecordSettings(
        max_seq_length,
        predictions,
        dupe_factor=1,
        max_examples_per_pack=1,
        next_sentence=sizes[0].next_sentence,
        compression=compression,
    )
    draws_dev = all(file.split != "dev" for file in files)
    tasks = [
        _Task(file, number, target, settings, vocabulary, dev_fraction if draws_dev else 0.0)
        for number, file in enumerate(files)
    ]
    written = [
        shard for shards in shard_map(_take, tasks, workers, f"records {phase}") for shard in shards
    ]
    splits = {shard.split for shard in written}
    if "train" not in splits:
        raise UserError(
            f"{files[0]}: like all files it is for dev or test; add some named otherwise"
        )
    if "dev" not in splits:
        raise UserError(
            f"{files[0]}: neither it nor another file is for dev, and no row was drawn for it; "
            "name one dev, or raise split.dev_fraction"
        )
    return settings, written


def _row_sizes(file: ExampleFile) -> SequenceSizes:
    match file.format:
        case "TFRecord":
            return tfrecord_sizes(file.path, file.compressed)
        case "HDF5":
            return hdf5_sizes(file.path)
        case "JSON lines":
            return json_sizes(file.path, file.compressed)


def _common_predictions(
    files: Sequence[ExampleFile], sizes: Sequence[SequenceSizes], phase: str, max_seq_length: int
) -> int:
    """P, the masked positions of a row, once all files agree with each other and the phase.

    JSON lines may have rows of several lengths, which are padded; those of the other formats are
    padded already.
    """
    key = f"phases.{phase}.max_seq_length"
    shortest = min(each.shortest for each in sizes)
    longest = max(each.longest for each in sizes)
    filled_up = files[0].format == "JSON lines"
    for file, each in zip(files, sizes, strict=True):
        if each.shortest != longest and not filled_up:
            raise UserError(
                f"{file}: its rows have {each.shortest} tokens, those of other files {longest}; "
                f"give each length a folder, called like its phase, in records.source"
            )
        if each.longest == longest != max_seq_length and (
            longest > max_seq_length or shortest == longest
        ):
            raise UserError(
                f"{file}: its rows have {longest} tokens, those of the phase {max_seq_length}; "
                f"set {key} to {longest}"
            )
        if each.predictions != sizes[0].predictions and not filled_up:
            raise UserError(
                f"{file}: its rows have room for {each.predictions} masked positions, those of "
                f"{files[0]} for {sizes[0].predictions}; make them with the same number"
            )
        if each.next_sentence != sizes[0].next_sentence:
            has, lacks = (file, files[0]) if each.next_sentence else (files[0], file)
            raise UserError(
                f"{lacks}: lacks next_sentence_label, which {has} has; give it to all or to none"
            )
    predictions = max(each.predictions for each in sizes)
    if not predictions:
        raise UserError(f"{files[0]}: no token is to be predicted, here and in all other files")
    return predictions


@dataclass(frozen=True)
class _Task:
    """One file to write as records; `dev_fraction` is 0 where none are to be drawn."""

    file: ExampleFile
    number: int
    target: Path
    settings: RecordSettings
    vocabulary: VocabularyFacts
    dev_fraction: float

    def __str__(self) -> str:
        return str(self.file)


def _take(task: _Task) -> list[WrittenShard]:
    file, settings = task.file, task.settings
    name = f"{task.number:05d}{FILE_SUFFIXES[settings.compression]}"
    split = file.split or "train"
    rows = (
        validate_batch(block, task.vocabulary, file.path, _ROW_NAMES[file.format])
        for block in _blocks(file, settings)
    )
    written = write_sequences(
        rows,
        task.target / split / name,
        task.target / "dev" / name if split == "train" and task.dev_fraction else None,
        task.dev_fraction,
        task.vocabulary,
        settings.compression,
    )
    digest = fingerprint.of_file(file.path)
    return [
        WrittenShard("/".join(path.parts[-2:]), file.name, digest, statistics)
        for path, statistics in written
    ]


def _blocks(file: ExampleFile, settings: RecordSettings) -> Iterator[ExampleBatch]:
    rows, length = sequences_per_batch(settings), settings.max_seq_length
    match file.format:
        case "TFRecord":
            return read_tfrecords(file.path, file.compressed, rows)
        case "HDF5":
            return read_hdf5(file.path, rows)
        case "JSON lines":
            predictions = settings.max_predictions_per_seq
            return read_json(file.path, file.compressed, rows, length, predictions)
