"""Unpacked sequences: [CLS] A [SEP] B [SEP] and padding, one example per sequence.

    input_ids    [CLS] a0 a1 a2 [SEP] b0 b1 [SEP] 0 0
    input_mask     1   1  1  1    1   1  1    1   0 0
    segment_ids    0   0  0  0    0   1  1    1   0 0

Shapes: B sequences in the batch, S max_seq_length.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from lib.records.pairs import Examples
from lib.records.tokens import Tokens
from lib.vocab.tokenizer import CONTINUES_WORD


@dataclass(frozen=True)
class Sequences:
    """A batch of unmasked sequences.

    Attributes:
        input_ids: int32 [B, S], 0 in the padding.
        input_mask: uint8 [B, S]: 1 for tokens, 0 in the padding.
        segment_ids: uint8 [B, S]: 0 for [CLS] A [SEP] and the padding, 1 for B [SEP].
        next_sentence_labels: uint8 [B, 1]: 0 = B follows A in the text, 1 = B is random.
        lengths: int64 [B]: tokens per sequence, special tokens included.
        continues_word: bool [B, S]: tokens that continue a word; None if the vocabulary says which
            do.
    """

    input_ids: np.ndarray
    input_mask: np.ndarray
    segment_ids: np.ndarray
    next_sentence_labels: np.ndarray
    lengths: np.ndarray
    continues_word: np.ndarray | None = None

    def without_marks(self) -> Self:
        """The sequences of a text with marked ids: ids without marks, and `continues_word`."""
        return replace(
            self,
            input_ids=self.input_ids & ~CONTINUES_WORD,
            continues_word=(self.input_ids & CONTINUES_WORD) != 0,
        )


def assemble(
    tokens: Tokens,
    examples: Examples,
    chosen: np.ndarray,
    max_seq_length: int,
    cls_id: int,
    sep_id: int,
) -> Sequences:
    """Builds the sequences of the examples with the indices `chosen` (integer array [B]).

    An example without B becomes [CLS] A [SEP].
    """
    a_length = examples.a_length[chosen].astype(np.int64)
    b_length = examples.b_length[chosen].astype(np.int64)
    first_sep = a_length + 1  # [B]: its position in the sequence
    lengths = a_length + b_length + np.where(b_length > 0, 3, 2)

    # Position p of A holds token a_start - 1 + p; position p of B, b_start - a_length - 2 + p.
    positions = np.arange(max_seq_length, dtype=np.int64)
    a_shift = examples.a_start[chosen].astype(np.int64) - 1
    b_shift = examples.b_start[chosen] - a_length - 2
    in_a = positions <= first_sep[:, np.newaxis]  # [B, S]
    sources = np.where(in_a, a_shift[:, np.newaxis], b_shift[:, np.newaxis])  # [B, S]
    sources += positions
    is_token = positions < lengths[:, np.newaxis]  # [B, S]
    # Special tokens and padding take whatever token is near; they are overwritten.
    input_ids = tokens.ids.take(sources, mode="clip").astype(np.int32, copy=False)
    input_ids *= is_token
    batch = np.arange(len(chosen))
    input_ids[:, 0] = cls_id
    input_ids[batch, first_sep] = sep_id
    input_ids[batch, lengths - 1] = sep_id

    return Sequences(
        input_ids=input_ids,
        input_mask=is_token.view(np.uint8),
        segment_ids=(is_token & ~in_a).view(np.uint8),
        next_sentence_labels=examples.is_random[chosen].view(np.uint8)[:, np.newaxis],  # [B, 1]
        lengths=lengths,
    )
