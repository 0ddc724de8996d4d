"""Examples as matrices: [CLS] A [SEP] B [SEP] and padding, a block of rows at a time."""

from dataclasses import dataclass

import numpy as np

from lib.records.pairs import Examples
from lib.records.tokens import Tokens


@dataclass(frozen=True)
class Sequences:
    """R unmasked rows of S cells.

    Attributes:
        input_ids: int32 [R, S], 0 in the padding.
        input_mask: uint8 [R, S]: 1 where there is a token, 0 in the padding.
        segment_ids: uint8 [R, S]: 0 for [CLS] A [SEP] and the padding, 1 for B [SEP].
        next_sentence_labels: uint8 [R, 1]: 0 = B follows A in the text, 1 = B is random.
        lengths: int64 [R]: tokens of the row, special ones included.
    """

    input_ids: np.ndarray
    input_mask: np.ndarray
    segment_ids: np.ndarray
    next_sentence_labels: np.ndarray
    lengths: np.ndarray


def assemble(
    tokens: Tokens,
    examples: Examples,
    chosen: np.ndarray,
    max_seq_length: int,
    cls_id: int,
    sep_id: int,
) -> Sequences:
    """Lays out the examples with the indices `chosen` (integer array [R]), one a row.

    An example without B becomes [CLS] A [SEP].
    """
    a_length = examples.a_length[chosen].astype(np.int64)
    b_length = examples.b_length[chosen].astype(np.int64)
    a_stop = a_length + 1  # the column of the first [SEP]
    lengths = a_length + b_length + np.where(b_length > 0, 3, 2)

    # Cell c of A holds token a_start - 1 + c; cell c of B holds b_start - a_length - 2 + c.
    columns = np.arange(max_seq_length, dtype=np.int64)
    a_shift = examples.a_start[chosen].astype(np.int64) - 1
    b_shift = examples.b_start[chosen] - a_length - 2
    in_a = columns <= a_stop[:, np.newaxis]
    positions = np.where(in_a, a_shift[:, np.newaxis], b_shift[:, np.newaxis])
    positions += columns
    filled = columns < lengths[:, np.newaxis]
    # Special tokens and padding read whatever is near; they are overwritten.
    input_ids = tokens.ids.take(positions, mode="clip").astype(np.int32, copy=False)
    input_ids *= filled
    rows = np.arange(len(chosen))
    input_ids[:, 0] = cls_id
    input_ids[rows, a_stop] = sep_id
    input_ids[rows, lengths - 1] = sep_id

    return Sequences(
        input_ids=input_ids,
        input_mask=filled.view(np.uint8),
        segment_ids=(filled & ~in_a).view(np.uint8),
        next_sentence_labels=examples.is_random[chosen].view(np.uint8)[:, np.newaxis],
        lengths=lengths,
    )
