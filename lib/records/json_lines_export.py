"""Records written as JSON lines for Hugging Face's `BertForPreTraining`.

    datasets.load_dataset("json", data_files="examples/train/*.jsonl")

gives a data set that transformers' Trainer takes with `default_data_collator`: a line has the
model's arguments as its keys, and its lists are padded to the rows' length, as in the scripts that
Hugging Face's Optimum libraries pretrain BERT with. `lib.records.importing.json_lines` reads them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lib.records.importing.example_batch import ExampleBatch, read_tfrecords
from lib.records.importing.json_lines import IGNORED
from lib.records.manifest import MANIFEST, read_manifest
from lib.run.atomic import new_directory, new_file
from lib.run.errors import UserError
from lib.run.pool import shard_map

_ROWS = 256


def write_json_lines(
    records: Path, target: Path, splits: Sequence[str] = (), workers: int = 1
) -> dict[str, int]:
    """Writes records as JSON lines, a file for each record file.

    A row becomes an object with the lists `input_ids`, `attention_mask`, `token_type_ids` and
    `labels` (the token to predict, -100 elsewhere), and the number `next_sentence_label`, unless
    the rows are single segments.

    Args:
        records: a folder that the records stage wrote.
        target: the folder to write, which should not be there: <split>/NNNNN.jsonl.
        splits: those to write; none: all.

    Returns:
        The number of examples by split.

    Raises:
        UserError: the records are packed or unmasked, there are none, or `target` is there.
    """
    if target.exists():
        raise UserError(f"{target}: is there already; remove it or name another folder")
    if not records.is_dir():
        raise UserError(f"{records}: no such folder; name one that the stage records wrote")
    next_sentence, files = _contents(records, splits)
    with new_directory(target, replace=False) as temporary:
        tasks = [
            _Task(records / name, next_sentence, temporary / f"{name.partition('.')[0]}.jsonl")
            for names in files.values()
            for name in names
        ]
        counts = dict.fromkeys(files, 0)
        for task, rows in zip(tasks, shard_map(_write, tasks, workers, "json lines"), strict=True):
            counts[task.target.parent.name] += rows
    return counts


def _contents(records: Path, splits: Sequence[str]) -> tuple[bool, dict[str, tuple[str, ...]]]:
    """Whether the examples are sentence pairs, and the record files by split."""
    path = records / MANIFEST
    manifest = read_manifest(records)
    if manifest.packing:
        raise UserError(
            f"{path}: several examples are packed into one sequence, which Hugging Face's trainer "
            "cannot read; make the records with records.packing: false"
        )
    for split in splits or manifest.splits:
        if split not in manifest.splits:
            raise UserError(f"{path}: no split {split}; there are {', '.join(manifest.splits)}")
        if manifest.splits[split].masking != "static":
            raise UserError(
                f"{path}: the {split} examples are not masked; make the records with "
                "records.masking: static"
            )
    files = {split: manifest.splits[split].files for split in splits or manifest.splits}
    return manifest.next_sentence, files


@dataclass(frozen=True)
class _Task:
    """One record file to write as JSON lines."""

    source: Path
    next_sentence: bool
    target: Path

    def __str__(self) -> str:
        return str(self.source)


def _write(task: _Task) -> int:
    """Writes one file; returns the number of its rows."""
    count = 0
    with new_file(task.target) as temporary, temporary.open("w", encoding="ascii") as file:
        for block in read_tfrecords(task.source, task.source.suffix == ".gz", _ROWS):
            for example in _objects(block, task.next_sentence):
                file.write(json.dumps(example, separators=(",", ":")) + "\n")
                count += 1
    return count


def _objects(block: ExampleBatch, next_sentence: bool) -> list[dict[str, Any]]:
    features = block.features
    labels = np.full_like(features["input_ids"], IGNORED)
    row, slot = np.nonzero(features["masked_lm_weights"])
    position = features["masked_lm_positions"][row, slot]
    labels[row, position] = features["masked_lm_ids"][row, slot]
    columns = {
        "input_ids": features["input_ids"].tolist(),
        "attention_mask": features["input_mask"].tolist(),
        "token_type_ids": features["segment_ids"].tolist(),
        "labels": labels.tolist(),
    }
    if next_sentence:
        columns["next_sentence_label"] = features["next_sentence_labels"][:, 0].tolist()
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
