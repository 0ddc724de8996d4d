"""Reader of JSON lines with the arguments of Hugging Face's `BertForPreTraining`.

A line is an object with the lists `input_ids`, `attention_mask` and `labels` (-100 where nothing
is predicted); optionally the list `token_type_ids`, if there are two segments, and the number
`next_sentence_label` (0: next, 1: random). The lists may be padded:

    {"input_ids": [2, 4, 9, 3], "attention_mask": [1, 1, 1, 1], "labels": [-100, 8, -100, -100]}

`lib.records.importing.json_lines_export` writes them.

Shapes: B examples in a batch, S tokens and P predictions per sequence.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lib.records.importing.example_batch import ExampleBatch, SequenceSizes
from lib.run.errors import UserError

# The label that Hugging Face's losses ignore; also the padding of labels.
IGNORED = -100
_PADDING = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
_NEEDED = ("input_ids", "attention_mask", "labels")
# Far more than any example takes: a longer line is not an example.
_MAX_LINE_BYTES = 1 << 24


def json_sizes(path: Path, compressed: bool, examples: int | None = None) -> SequenceSizes:
    """The sizes of the sequences of a file: of all examples, or of the first ones only.

    Raises:
        UserError: the file is damaged or has no examples, a line is not an example, or only some
            lines have a next-sentence label.
    """
    shortest = longest = predictions = 0
    next_sentence: bool | None = None
    for number, example in itertools.islice(_examples(path, compressed), examples):
        length = len(example["input_ids"])
        shortest = min(shortest, length) if shortest else length
        longest = max(longest, length)
        predictions = max(predictions, length - example["labels"].count(IGNORED))
        has_label = "next_sentence_label" in example
        if next_sentence not in (None, has_label):
            raise UserError(
                f"{path}: line {number} {'has' if has_label else 'lacks'} next_sentence_label, "
                "unlike the lines before it; add it to all examples or to none"
            )
        next_sentence = has_label
    if next_sentence is None:
        raise UserError(f"{path}: holds no examples; remove it or create it again")
    return SequenceSizes(shortest, longest, predictions, next_sentence)


def read_json(
    path: Path, compressed: bool, batch_size: int, length: int, predictions: int
) -> Iterator[ExampleBatch]:
    """The examples of a file.

    Args:
        compressed: by gzip.
        batch_size: B, fewer in the last batch.
        length: S, at least `json_sizes(...).longest`; sequences are padded to it.
        predictions: P, at least `json_sizes(...).predictions`.

    Raises:
        UserError: as `json_sizes`, or values are not integers.
    """
    examples = _examples(path, compressed)
    while batch := list(itertools.islice(examples, batch_size)):
        numbers = np.array([number for number, _ in batch])
        lists = {
            name: _matrix(path, batch, name, length, padding) for name, padding in _PADDING.items()
        }
        # Labels [B, S] -> positions, ids and weights [B, P]: one slot per masked token.
        masked = lists["labels"] != IGNORED
        example, position = np.nonzero(masked)
        counts = np.count_nonzero(masked, axis=1)
        slot = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = np.zeros((len(batch), predictions), np.int64)
        ids, weights = np.zeros_like(positions), np.zeros(positions.shape, np.float32)
        positions[example, slot] = position
        ids[example, slot] = lists["labels"][example, position]
        weights[example, slot] = 1
        yield ExampleBatch(
            numbers,
            {
                "input_ids": lists["input_ids"],
                "input_mask": lists["attention_mask"],
                "segment_ids": lists["token_type_ids"],
                "masked_lm_positions": positions,
                "masked_lm_ids": ids,
                "masked_lm_weights": weights,
                "next_sentence_labels": _next_sentence_labels(path, batch),
            },
        )


def _examples(path: Path, compressed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """The line numbers and objects of a file; blank lines are skipped."""
    number = 0
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(_MAX_LINE_BYTES)
                if not line:
                    return
                if len(line) == _MAX_LINE_BYTES:
                    raise UserError(
                        f"{path}: line {number} is longer than {_MAX_LINE_BYTES >> 20} MiB; write "
                        "one example per line"
                    )
                if not line.isspace():
                    yield number, _example(line, f"{path}: line {number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: cannot be decompressed after line {number - 1} ({error}); create it again"
        ) from None


def _example(line: bytes, where: str) -> dict[str, Any]:
    """The object of a line; all its lists have the same length."""
    try:
        example = json.loads(line)
    except (ValueError, RecursionError) as failure:
        problem = " ".join(str(failure).split())
        raise UserError(
            f"{where} is not JSON ({problem}); if it is cut short, create the file again"
        ) from None
    if not isinstance(example, dict):
        raise UserError(f"{where} is not a JSON object; write one example per line")
    if missing := [name for name in _NEEDED if name not in example]:
        raise UserError(
            f"{where} is not a pretraining example: it lacks {', '.join(missing)} (it has "
            f"{', '.join(sorted(example)) or 'nothing'})"
        )
    for name in _PADDING:
        values = example.get(name, [])
        if not isinstance(values, list):
            raise UserError(f"{where}: {name} should be a list. Received: {str(values)[:40]}")
        if name in example and len(values) != len(example["input_ids"]):
            raise UserError(
                f"{where}: {name} has {len(values)} values, input_ids {len(example['input_ids'])}; "
                "both should have the same number"
            )
    example.setdefault("token_type_ids", [0] * len(example["input_ids"]))
    return example


def _matrix(
    path: Path, batch: list[tuple[int, dict[str, Any]]], name: str, length: int, padding: int
) -> np.ndarray:
    """int64 [B, length]: one list of each example, padded."""
    matrix = np.full((len(batch), length), padding, np.int64)
    for row, (number, example) in zip(matrix, batch, strict=True):
        values = _integers(example[name])
        if values is None:
            raise UserError(
                f"{path}: line {number}: {name} should be a list of integers. Received: "
                f"{str(example[name])[:60]}"
            )
        row[: len(values)] = values
    return matrix


def _next_sentence_labels(path: Path, batch: list[tuple[int, dict[str, Any]]]) -> np.ndarray:
    """int64 [B, 1]: next-sentence labels, 0 if there are none."""
    labels = np.zeros((len(batch), 1), np.int64)
    for index, (number, example) in enumerate(batch):
        value = example.get("next_sentence_label", 0)
        label = _integers(value if isinstance(value, list) else [value])
        if label is None or len(label) != 1:
            raise UserError(
                f"{path}: line {number}: next_sentence_label should be 0 or 1. Received: "
                f"{str(value)[:40]}"
            )
        labels[index] = label
    return labels


def _integers(values: list[Any]) -> np.ndarray | None:
    """int64 [values], or None if some values are not integers."""
    try:
        array = np.array(values or [0])
    except ValueError:  # lists of several lengths
        return None
    if array.ndim != 1 or array.dtype.kind not in "bi":
        return None
    return array.astype(np.int64)[: len(values)]
