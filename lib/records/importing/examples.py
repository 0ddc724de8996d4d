"""Import of external pretraining examples: finds the files and writes them as records.

The formats are Google's TFRecords, NVIDIA's HDF5, and JSON lines with Hugging Face's names. The
first bytes of a file decide, because names vary (`part-00000`, `wiki_128.tf_record`).
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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
from lib.records.statistics import WrittenShard, total
from lib.records.tfrecord import checksum_bytes
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.pool import Workers, shard_map
from lib.text.splits import given_splits

_GZIP, _HDF5, _BYTE_ORDER_MARK = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"\xef\xbb\xbf"
_HEAD_BYTES = 64
Format = Literal["TFRecord", "HDF5", "JSON lines"]
# Suffixes decide only if the first bytes are damaged.
_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "TFRecord": (".tfrecord", ".tf_record", ".tfrecords"),
    "HDF5": (".hdf5", ".h5"),
    "JSON lines": (".jsonl", ".json", ".ndjson"),
}
# What an example is called in errors.
_EXAMPLE_NAMES: dict[Format, str] = {"TFRecord": "record", "HDF5": "row", "JSON lines": "line"}


@dataclass(frozen=True)
class ExampleFile:
    """A file of external examples.

    Attributes:
        name: its path within the folder of examples.
        split: train, dev or test if the name of the file or of a folder says so.
        compressed: by gzip.
    """

    path: Path
    name: str
    split: str | None
    format: Format
    compressed: bool

    def __str__(self) -> str:
        return str(self.path)


def find_examples(folder: Path) -> list[ExampleFile]:
    """The files of examples in a folder, at any depth, sorted by name.

    Hidden files, .dvc files and the manifest of our own records are ignored.

    Raises:
        UserError: there are no files, one is empty or has an unknown format, formats are mixed, or
            it is unclear whether a name states a split.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; records.source should be data/shards or a folder of "
            "external examples"
        )
    found = []
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix == ".dvc" or path.name == MANIFEST or not path.is_file():
            continue
        found.append(relative.as_posix())
    given = given_splits(found, folder)
    files = [
        ExampleFile(folder / name, name, split, *_recognise(folder / name))
        for name, split in zip(found, given.splits, strict=True)
    ]
    files.sort(key=lambda file: file.name)
    if not files:
        raise UserError(f"{folder}: has no files of examples; put them there")
    for file in files:
        if file.format != files[0].format:
            raise UserError(
                f"{file}: is {file.format}, but {files[0]} is {files[0].format}; keep one format"
            )
    return files


def _recognise(path: Path) -> tuple[Format, bool]:
    """The format of a file, and whether it is compressed."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    compressed = head.startswith(_GZIP)
    if compressed:
        try:
            with gzip.open(path) as decompressed:
                head = decompressed.read(_HEAD_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
            raise UserError(
                f"{path}: cannot be decompressed ({failure}); create it again"
            ) from None
    if not head:
        raise UserError(f"{path}: is empty; remove it or create it again")
    name = path.name.lower().removesuffix(".gz")
    if head.startswith(_HDF5):
        if compressed:
            raise UserError(f"{path}: compressed HDF5 cannot be read; decompress it with gunzip")
        return "HDF5", False
    if head[8:12] == checksum_bytes(head[:8]):
        return "TFRecord", compressed
    if head.removeprefix(_BYTE_ORDER_MARK).lstrip().startswith(b"{"):
        return "JSON lines", compressed
    for format, suffixes in _SUFFIXES.items():
        if name.endswith(suffixes):
            return format, compressed
    raise UserError(
        f"{path}: not a file of examples: neither TFRecords (which begin with a length and its "
        "checksum), nor HDF5, nor JSON lines (one object per line); move it out of the folder"
    )


def phase_folder(source: Path, phase: str) -> Path:
    """The folder of a phase's external examples: one of its name, or all of `records.source`."""
    return source / phase if (source / phase).is_dir() else source


def has_next_sentence(file: ExampleFile) -> bool:
    """Whether the first example of a file has a next-sentence label.

    Raises:
        UserError: it cannot be read.
    """
    return _sequence_sizes(file, 1).next_sentence


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
    """Writes external examples as records: one record file per file, or two (train and dev).

    Files that name no split are for training. If no file is for dev, training examples are drawn
    for it. Examples for test are optional.

    Args:
        target: a folder with the folders train, dev and test.
        phase: its name in params.yaml, for errors and progress.
        max_seq_length: S of the phase.
        dev_fraction: fraction of the training examples to draw for dev.
        compression: of the records.

    Returns:
        The settings of the records as far as they are known, and the files written.

    Raises:
        UserError: a file is damaged, examples do not fit the phase or the vocabulary, or there are
            no examples for training or dev, or only some without masks.
    """
    sizes = shard_map(_sequence_sizes, files, workers, f"records {phase}: sizes")
    predictions = _common_predictions(files, sizes, phase, max_seq_length)
    settings = RecordSettings(
        max_seq_length,
        predictions,
        dupe_factor=1,
        max_examples_per_pack=1,
        next_sentence=sizes[0].next_sentence,
        compression=compression,
    )
    draw_dev = all(file.split != "dev" for file in files)
    tasks = [
        _Task(file, number, target, settings, vocabulary, dev_fraction if draw_dev else 0.0)
        for number, file in enumerate(files)
    ]
    written = [
        shard
        for shards in shard_map(_import_file, tasks, workers, f"records {phase}")
        for shard in shards
    ]
    splits = {shard.split for shard in written}
    if "train" not in splits:
        raise UserError(
            f"{files[0]}: is for dev or test, as are all other files; add files with other names "
            "for training"
        )
    if "dev" not in splits:
        raise UserError(
            f"{files[0]}: no file is for dev, and no example was drawn for it; call one file dev, "
            "or raise split.dev_fraction"
        )
    paths = {file.name: file.path for file in files}
    for split in ("train", "dev"):
        own = [shard for shard in written if shard.split == split]
        if not total(own).predictions:
            raise UserError(
                f"{paths[own[0].source]}: has no masked tokens, and neither have other files for "
                f"{split}; create them with masks"
            )
    return settings, written


def _sequence_sizes(file: ExampleFile, examples: int | None = None) -> SequenceSizes:
    """The sizes of a file's sequences; those of JSON lines may differ, also from the first ones."""
    match file.format:
        case "TFRecord":
            return tfrecord_sizes(file.path, file.compressed)
        case "HDF5":
            return hdf5_sizes(file.path)
        case "JSON lines":
            return json_sizes(file.path, file.compressed, examples)


def _common_predictions(
    files: Sequence[ExampleFile], sizes: Sequence[SequenceSizes], phase: str, max_seq_length: int
) -> int:
    """P, after a check that all files agree with each other and with the phase.

    JSON lines may have sequences of several lengths, which are padded here; those of the other
    formats are already padded.
    """
    shortest = min(size.shortest for size in sizes)
    longest = max(size.longest for size in sizes)
    is_padded_here = files[0].format == "JSON lines"
    for file, size in zip(files, sizes, strict=True):
        if size.shortest != longest and not is_padded_here:
            raise UserError(
                f"{file}: its sequences have {size.shortest} tokens, other files have "
                f"{longest}; in records.source, give each phase a folder with its name and put the "
                "files of its length there"
            )
        if size.longest == longest != max_seq_length and (
            longest > max_seq_length or shortest == longest
        ):
            raise UserError(
                f"{file}: its sequences have {longest} tokens, but phase {phase} needs "
                f"{max_seq_length}; set phases.{phase}.max_seq_length to {longest}"
            )
        if size.predictions != sizes[0].predictions and not is_padded_here:
            raise UserError(
                f"{file}: has {size.predictions} slots for masked positions per sequence, but "
                f"{files[0]} has {sizes[0].predictions}; create all files with the same number"
            )
        if size.next_sentence != sizes[0].next_sentence:
            has, lacks = (file, files[0]) if size.next_sentence else (files[0], file)
            label = "next_sentence_label" + ("s" if file.format != "JSON lines" else "")
            raise UserError(
                f"{lacks}: lacks {label}, which {has} has; add it to all files or to none"
            )
    predictions = max(size.predictions for size in sizes)
    if not predictions:
        raise UserError(
            f"{files[0]}: has no masked tokens, and neither do other files; create them with masks"
        )
    return predictions


@dataclass(frozen=True)
class _Task:
    """One file to import; `dev_fraction` is 0 if no examples are drawn for dev."""

    file: ExampleFile
    number: int
    target: Path
    settings: RecordSettings
    vocabulary: VocabularyFacts
    dev_fraction: float

    def __str__(self) -> str:
        return str(self.file)


def _import_file(task: _Task) -> list[WrittenShard]:
    file, settings = task.file, task.settings
    name = f"{task.number:05d}{FILE_SUFFIXES[settings.compression]}"
    split = file.split or "train"
    batches = (
        validate_batch(batch, task.vocabulary, file.path, _EXAMPLE_NAMES[file.format])
        for batch in _batches(file, settings)
    )
    written = write_sequences(
        batches,
        task.target / split / name,
        task.target / "dev" / name if split == "train" and task.dev_fraction else None,
        task.dev_fraction,
        task.vocabulary,
        settings.compression,
    )
    md5 = fingerprint.of_file(file.path)
    return [
        WrittenShard("/".join(path.parts[-2:]), file.name, md5, statistics, digest)
        for path, statistics, digest in written
    ]


def _batches(file: ExampleFile, settings: RecordSettings) -> Iterator[ExampleBatch]:
    batch_size, length = sequences_per_batch(settings), settings.max_seq_length
    match file.format:
        case "TFRecord":
            return read_tfrecords(file.path, file.compressed, batch_size)
        case "HDF5":
            return read_hdf5(file.path, batch_size)
        case "JSON lines":
            predictions = settings.max_predictions_per_seq
            return read_json(file.path, file.compressed, batch_size, length, predictions)
