"""Labelled examples as rows of tokens, and rows as batches of few shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lib.probe.labelled import Example
from lib.run import random
from lib.vocab.tokenizer import WordPieceTokenizer

_SHORTEST = 16
# Rows are sorted by length within so many batches: less padding, and still a random order.
_WINDOW_BATCHES = 50


@dataclass(frozen=True)
class Row:
    """One row that a model reads.

    Attributes:
        ids: int32 [tokens], with [CLS] and [SEP], without padding.
        columns: int32 [answers]: the tokens at which an answer is asked for: [CLS] of a text, the
            first piece of each word of a sentence.
        labels: one for each of `columns`.
    """

    ids: np.ndarray
    columns: np.ndarray
    labels: tuple[str, ...]


def text_rows(
    examples: Sequence[Example], tokenizer: WordPieceTokenizer, max_seq_length: int
) -> list[Row]:
    """A row a text; its end is cut off where it is too long."""
    # Line ends are white space to a tokenizer, but here they part the texts.
    lines = "".join(" ".join(example.words[0].split()) + "\n" for example in examples)
    ids, offsets = tokenizer.encode_lines(lines)
    columns = np.zeros(1, np.int32)
    parts = [ids[start:stop][: max_seq_length - 2] for start, stop in pairwise(offsets)]
    return [
        Row(_framed(part, tokenizer), columns, example.labels)
        for part, example in zip(parts, examples, strict=True)
    ]


def sentence_rows(
    examples: Sequence[Example], tokenizer: WordPieceTokenizer, max_seq_length: int
) -> list[list[Row]]:
    """The rows of each sentence: one, or as many as hold all of its words.

    A word without any piece (of control characters only) is [UNK]; one that fills a row by itself
    is cut off there. So every word gets its answer.
    """
    space = max_seq_length - 2
    found = []
    for example in examples:
        words = "".join(" ".join(word.split()) + "\n" for word in example.words)
        ids, offsets = tokenizer.encode_lines(words)
        pieces = [
            ids[start:stop][:space] if stop > start else np.array([tokenizer.unk_id], np.int32)
            for start, stop in pairwise(offsets)
        ]
        rows, first, used = [], 0, 0
        for place, piece in enumerate([*pieces, np.empty(space, np.int32)]):
            if used + len(piece) > space and place > first:
                own = pieces[first:place]
                columns = 1 + np.cumsum([0, *map(len, own)], dtype=np.int32)[:-1]
                row = _framed(np.concatenate(own), tokenizer)
                rows.append(Row(row, columns, example.labels[first:place]))
                first, used = place, 0
            used += len(piece)
        found.append(rows)
    return found


def _framed(ids: np.ndarray, tokenizer: WordPieceTokenizer) -> np.ndarray:
    return np.concatenate([[tokenizer.cls_id], ids, [tokenizer.sep_id]]).astype(np.int32)


def shuffled_batches(
    rows: Sequence[Row], batch_size: int, seed: int, epoch: int
) -> Iterator[list[Row]]:
    """All rows once, in an order of this epoch's own, rows of about the same length together."""
    draw = random.generator(seed, "probe order", epoch)
    lengths = np.array([len(row.ids) for row in rows])
    order = draw.permutation(len(rows))
    batches = []
    for start in range(0, len(order), _WINDOW_BATCHES * batch_size):
        part = order[start : start + _WINDOW_BATCHES * batch_size]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    for number in draw.permutation(len(batches)):
        yield [rows[index] for index in batches[number]]


def batch_count(rows: int, batch_size: int) -> int:
    """Batches of an epoch."""
    return -(-rows // batch_size)


def padded(
    rows: Sequence[Row],
    batch_size: int,
    max_seq_length: int,
    pad_id: int,
    classes: dict[str, int],
    every_token: bool,
) -> dict[str, np.ndarray]:
    """A batch: rows are padded to one of few lengths and batches to one size, so shapes are few.

    Args:
        classes: the number of each label; others (they occur in test data) weigh nothing.
        every_token: whether answers are asked for at any token, or at the first only.

    Returns:
        `input_ids`, `input_mask` int32 [B, S]; `labels` int32 and `weights` float32 [B, S], or
        [B, 1]: 0 where no answer is asked for.
    """
    longest, length = max(len(row.ids) for row in rows), _SHORTEST
    while length < longest:
        length *= 2
    length = min(length, max_seq_length)
    ids = np.full((batch_size, length), pad_id, np.int32)
    mask = np.zeros((batch_size, length), np.int32)
    labels = np.zeros((batch_size, length if every_token else 1), np.int32)
    weights = np.zeros(labels.shape, np.float32)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = row.ids
        mask[number, : len(row.ids)] = 1
        labels[number, row.columns] = [classes.get(label, 0) for label in row.labels]
        weights[number, row.columns] = [label in classes for label in row.labels]
    return {"input_ids": ids, "input_mask": mask, "labels": labels, "weights": weights}
