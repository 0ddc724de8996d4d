"""Examples as JSON lines with the arguments of Hugging Face's `BertForPreTraining`, read.

A line is an object with the lists `input_ids`, `attention_mask` and `labels` (-100 where nothing
is to be predicted), if there are two segments `token_type_ids`, and for the next sentence task the
number `next_sentence_label` (0: next, 1: random). Lists may be padded or not.
`lib.records.json_lines_export` writes them.
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

# What Hugging Face's losses leave out, and the cells behind a row's lists hold.
IGNORED = -100
_PADDING = {"input_ids": 0, "attention_mask": 0, "token_type_ids": 0, "labels": IGNORED}
_NEEDED = ("input_ids", "attention_mask", "labels")
# Far more than any example takes: what goes on longer is no line of examples.
_LINE_BYTES = 1 << 24


def json_sizes(path: Path, compressed: bool) -> SequenceSizes:
    """The sizes of a file's rows, which takes a pass over all of it.

    Raises:
        UserError: the file is damaged or has no examples, a line is none, or some lines say what
            the next sentence is and others do not.
    """
    shortest = longest = predictions = 0
    next_sentence: bool | None = None
    for number, example in _examples(path, compressed):
        length = len(example["input_ids"])
        shortest = min(shortest, length) if shortest else length
        longest = max(longest, length)
        predictions = max(predictions, length - example["labels"].count(IGNORED))
        has_label = "next_sentence_label" in example
        if next_sentence not in (None, has_label):
            raise UserError(
                f"{path}: line {number} {'has' if has_label else 'lacks'} next_sentence_label, "
                "unlike the lines before it; give it to all examples or to none"
            )
        next_sentence = has_label
    if next_sentence is None:
        raise UserError(f"{path}: holds no examples; remove it or make it again")
    return SequenceSizes(shortest, longest, predictions, next_sentence)


def read_json(
    path: Path, compressed: bool, rows: int, length: int, predictions: int
) -> Iterator[ExampleBatch]:
    """The examples of a file.

    Args:
        compressed: by gzip.
        rows: of a block.
        length: cells that rows are padded to; no row has more.
        predictions: slots for masked positions; no row has more of them.

    Raises:
        UserError: as `json_sizes`, or values are no integers.
    """
    examples = _examples(path, compressed)
    while some := list(itertools.islice(examples, rows)):
        numbers = np.array([number for number, _ in some])
        cells = {
            name: _matrix(path, some, name, length, padding) for name, padding in _PADDING.items()
        }
        masked = cells["labels"] != IGNORED
        row, position = np.nonzero(masked)
        counts = np.count_nonzero(masked, axis=1)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        positions = np.zeros((len(some), predictions), np.int64)
        labels, weights = np.zeros_like(positions), np.zeros(positions.shape, np.float32)
        positions[row, slot] = position
        labels[row, slot] = cells["labels"][row, position]
        weights[row, slot] = 1
        yield ExampleBatch(
            numbers,
            {
                "input_ids": cells["input_ids"],
                "input_mask": cells["attention_mask"],
                "segment_ids": cells["token_type_ids"],
                "masked_lm_positions": positions,
                "masked_lm_ids": labels,
                "masked_lm_weights": weights,
                "next_sentence_labels": _labels(path, some),
            },
        )


def _examples(path: Path, compressed: bool) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file and the numbers of their lines; blank lines are passed by."""
    number = 0
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(_LINE_BYTES)
                if not line:
                    return
                if len(line) == _LINE_BYTES:
                    raise UserError(
                        f"{path}: line {number} is longer than {_LINE_BYTES >> 20} MiB; write an "
                        "example a line"
                    )
                if not line.isspace():
                    yield number, _example(line, f"{path}: line {number}")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: cannot be unpacked after line {number - 1} ({error}); make it again"
        ) from None


def _example(line: bytes, where: str) -> dict[str, Any]:
    """The object that a line holds, with lists of one length."""
    try:
        example = json.loads(line)
    except (ValueError, RecursionError) as failure:
        problem = " ".join(str(failure).split())
        raise UserError(
            f"{where} is not JSON ({problem}); if it is cut short, make the file again"
        ) from None
    if not isinstance(example, dict):
        raise UserError(f"{where} is not a JSON object; write an example a line")
    if missing := [name for name in _NEEDED if name not in example]:
        raise UserError(
            f"{where} is no pretraining example: it lacks {', '.join(missing)} (it has "
            f"{', '.join(sorted(example)) or 'nothing'})"
        )
    for name in _PADDING:
        values = example.get(name, [])
        if not isinstance(values, list):
            raise UserError(f"{where}: {name} should be a list. Received: {str(values)[:40]}")
        if name in example and len(values) != len(example["input_ids"]):
            raise UserError(
                f"{where}: {name} has {len(values)} values, input_ids {len(example['input_ids'])}; "
                "they should have the same"
            )
    example.setdefault("token_type_ids", [0] * len(example["input_ids"]))
    return example


def _matrix(
    path: Path, examples: list[tuple[int, dict[str, Any]]], name: str, length: int, padding: int
) -> np.ndarray:
    """int64 [R, length]: one list of each example, padded."""
    matrix = np.full((len(examples), length), padding, np.int64)
    for row, (number, example) in enumerate(examples):
        values = _integers(example[name])
        if values is None:
            raise UserError(
                f"{path}: line {number}: {name} should be a list of integers. Received: "
                f"{str(example[name])[:60]}"
            )
        matrix[row, : len(values)] = values
    return matrix


def _labels(path: Path, examples: list[tuple[int, dict[str, Any]]]) -> np.ndarray:
    """int64 [R, 1]: next sentence labels, 0 where there are none."""
    labels = np.zeros((len(examples), 1), np.int64)
    for row, (number, example) in enumerate(examples):
        value = example.get("next_sentence_label", 0)
        label = _integers(value if isinstance(value, list) else [value])
        if label is None or len(label) != 1:
            raise UserError(
                f"{path}: line {number}: next_sentence_label should be 0 or 1. Received: "
                f"{str(value)[:40]}"
            )
        labels[row] = label
    return labels


def _integers(values: list[Any]) -> np.ndarray | None:
    """int64 [values], or None: something else is among them."""
    try:
        array = np.array(values or [0])
    except ValueError:  # lists of several lengths
        return None
    if array.ndim != 1 or array.dtype.kind not in "bi":
        return None
    return array.astype(np.int64)[: len(values)]
