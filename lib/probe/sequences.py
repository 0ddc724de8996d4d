"""Token sequences of labelled examples, and padded batches of few different shapes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lib.probe.labelled import Example
from lib.run import random
from lib.vocab.library_tokenizer import LibraryTokenizer
from lib.vocab.tokenizer import Tokenizer

_MIN_LENGTH = 16
# Sequences are sorted by length within windows of this many batches: less padding, in an order that
# is still random.
_WINDOW_BATCHES = 50


@dataclass(frozen=True)
class LabelledSequence:
    """A sequence of tokens with labels at some of its positions.

    Attributes:
        ids: int32 [tokens], with [CLS] and [SEP], without padding.
        positions: int32 [labels], where a label is predicted: at [CLS] of a text, at the first
            token of each word of a sentence.
        labels: one per position.
    """

    ids: np.ndarray
    positions: np.ndarray
    labels: tuple[str, ...]


def text_sequences(
    examples: Sequence[Example], tokenizer: Tokenizer, max_seq_length: int
) -> list[LabelledSequence]:
    """One sequence per text to be classified, truncated at its end if too long."""
    # Line ends inside a text become spaces, since encode_lines takes one text per line.
    lines = "".join(" ".join(example.words[0].split()) + "\n" for example in examples)
    ids, offsets = tokenizer.encode_lines(lines)
    positions = np.zeros(1, np.int32)
    texts = [ids[start:stop][: max_seq_length - 2] for start, stop in pairwise(offsets)]
    return [
        LabelledSequence(_add_special_tokens(text, tokenizer), positions, example.labels)
        for text, example in zip(texts, examples, strict=True)
    ]


def sentence_sequences(
    examples: Sequence[Example], tokenizer: Tokenizer, max_seq_length: int
) -> list[list[LabelledSequence]]:
    """The sequences of each sentence to be tagged: one, or as many as its words need.

    For `max_seq_length` 6 and the words izmir/B-LOC in/O the/O house/O:

        [CLS] iz ##mir in the [SEP]     positions 1, 3, 4     labels B-LOC, O, O
        [CLS] house [SEP]               positions 1           labels O

    Each word is tokenized as after a space. A word without tokens (control characters only) becomes
    [UNK], or [MASK] where there is no such token; a word too long for a sequence of its own is
    truncated. So every word gets a prediction.
    """
    capacity = max_seq_length - 2
    unknown = [tokenizer.unk_id if tokenizer.unk_id >= 0 else tokenizer.mask_id]
    sentences = []
    for example in examples:
        texts = [" ".join(word.split()) for word in example.words]
        words = [np.array(ids or unknown, np.int32)[:capacity] for ids in _words(tokenizer, texts)]
        sequences, first, used = [], 0, 0
        # The last element, which fits nowhere, completes the last sequence.
        for index, word in enumerate([*words, np.empty(capacity, np.int32)]):
            if used + len(word) > capacity and index > first:
                own = words[first:index]
                positions = 1 + np.cumsum([0, *map(len, own)], dtype=np.int32)[:-1]
                tokens = _add_special_tokens(np.concatenate(own), tokenizer)
                sequences.append(LabelledSequence(tokens, positions, example.labels[first:index]))
                first, used = index, 0
            used += len(word)
        sentences.append(sequences)
    return sentences


def _words(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[int]]:
    """The ids of each word of a sentence; a word of the task may be several of the tokenizer's."""
    if isinstance(tokenizer, LibraryTokenizer):
        yield from tokenizer.encode_words(texts)
        return
    ids, offsets = tokenizer.encode_lines("".join(f"{text}\n" for text in texts))
    for start, stop in pairwise(offsets):
        yield ids[start:stop].tolist()


def _add_special_tokens(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    return np.concatenate([[tokenizer.cls_id], ids, [tokenizer.sep_id]]).astype(np.int32)


def shuffled_batches(
    sequences: Sequence[LabelledSequence], batch_size: int, seed: int, epoch: int
) -> Iterator[list[LabelledSequence]]:
    """All sequences once, in an order of this epoch, with similar lengths batched together."""
    draw = random.generator(seed, "probe order", epoch)
    lengths = np.array([len(sequence.ids) for sequence in sequences])
    order = draw.permutation(len(sequences))
    batches = []
    for start in range(0, len(order), _WINDOW_BATCHES * batch_size):
        window = order[start : start + _WINDOW_BATCHES * batch_size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [
            window[first : first + batch_size] for first in range(0, len(window), batch_size)
        ]
    for number in draw.permutation(len(batches)):
        yield [sequences[index] for index in batches[number]]


def batch_count(sequences: int, batch_size: int) -> int:
    """Number of batches per epoch."""
    return -(-sequences // batch_size)


def pad_batch(
    sequences: Sequence[LabelledSequence],
    batch_size: int,
    max_seq_length: int,
    pad_id: int,
    classes: Mapping[str, int],
    per_token: bool,
) -> dict[str, np.ndarray]:
    """The sequences as arrays, padded to `batch_size` sequences of one of a few lengths.

    The lengths are 16, 32, 64, ... up to `max_seq_length`, so TensorFlow traces few shapes.

    Args:
        classes: label -> its index; labels that are not among them (test data can have some) get
            weight 0.
        per_token: whether labels can be at any token, or only at the first.

    Returns:
        `input_ids`, `input_mask`: int32 [B, S]; `labels`: int32, `weights`: float32, both [B, S]
        with `per_token`, otherwise [B, 1]. The weight is 0 where nothing is predicted.
    """
    longest, length = max(len(sequence.ids) for sequence in sequences), _MIN_LENGTH
    while length < longest:
        length *= 2
    length = min(length, max_seq_length)
    ids = np.full((batch_size, length), pad_id, np.int32)
    mask = np.zeros((batch_size, length), np.int32)
    labels = np.zeros((batch_size, length if per_token else 1), np.int32)
    weights = np.zeros(labels.shape, np.float32)
    for index, sequence in enumerate(sequences):
        ids[index, : len(sequence.ids)] = sequence.ids
        mask[index, : len(sequence.ids)] = 1
        own = sequence.labels
        labels[index, sequence.positions] = [classes.get(label, 0) for label in own]
        weights[index, sequence.positions] = [label in classes for label in own]
    return {"input_ids": ids, "input_mask": mask, "labels": labels, "weights": weights}
