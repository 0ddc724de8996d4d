"""Export of records as JSON lines for Hugging Face's `BertForPreTraining`.

    datasets.load_dataset("json", data_files="examples/train/*.jsonl")

loads a data set that transformers' Trainer can use with `default_data_collator`: the keys of a
line are the model's arguments, and its lists are padded to max_seq_length, as in the scripts with
which Hugging Face's Optimum libraries pretrain BERT. `lib.records.importing.json_lines` reads them.
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

_BATCH_SIZE = 256


def write_json_lines(
    records: Path, target: Path, splits: Sequence[str] = (), workers: int = 1
) -> dict[str, int]:
    """Writes records as JSON lines, one file per record file.

    A sequence becomes an object with the lists `input_ids`, `attention_mask`, `token_type_ids` and
    `labels` (the token to predict, -100 elsewhere), and the number `next_sentence_label`, unless
    the examples are single segments:

        {"input_ids": [2, 4, 9, 3, 7, 3, 0], "attention_mask": [1, 1, 1, 1, 1, 1, 0],
         "token_type_ids": [0, 0, 0, 0, 1, 1, 0],
         "labels": [-100, 8, -100, -100, -100, -100, -100], "next_sentence_label": 1}

    Args:
        records: a folder that the records stage wrote.
        target: the folder to write, which must not exist; its files are <split>/NNNNN.jsonl.
        splits: the splits to write; empty: all.

    Returns:
        The number of examples by split.

    Raises:
        UserError: the records are packed or unmasked, there are none, or `target` exists.
    """
    if target.exists():
        raise UserError(f"{target}: already exists; remove it or name another folder")
    if not records.is_dir():
        raise UserError(f"{records}: no such folder; name one that the records stage wrote")
    next_sentence, files = _contents(records, splits)
    with new_directory(target, replace=False) as temporary:
        tasks = [
            _Task(records / name, next_sentence, temporary / f"{name.partition('.')[0]}.jsonl")
            for names in files.values()
            for name in names
        ]
        counts = dict.fromkeys(files, 0)
        for task, count in zip(tasks, shard_map(_write, tasks, workers, "json lines"), strict=True):
            counts[task.target.parent.name] += count
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
    """One record file to export."""

    source: Path
    next_sentence: bool
    target: Path

    def __str__(self) -> str:
        return str(self.source)


def _write(task: _Task) -> int:
    """Exports one file; returns the number of its examples."""
    count = 0
    with new_file(task.target) as temporary, temporary.open("w", encoding="ascii") as file:
        for batch in read_tfrecords(task.source, task.source.suffix == ".gz", _BATCH_SIZE):
            for example in _objects(batch, task.next_sentence):
                file.write(json.dumps(example, separators=(",", ":")) + "\n")
                count += 1
    return count


def _objects(batch: ExampleBatch, next_sentence: bool) -> list[dict[str, Any]]:
    """The JSON objects of a batch of B examples."""
    features = batch.features
    labels = np.full_like(features["input_ids"], IGNORED)  # [B, S]
    example, slot = np.nonzero(features["masked_lm_weights"])
    position = features["masked_lm_positions"][example, slot]
    labels[example, position] = features["masked_lm_ids"][example, slot]
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
