"""How the records of one phase are made, and the sizes of a row that follow from it."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from lib import params
from lib.records.masking import prediction_counts
from lib.records.pairs import PAIR_SPECIAL_TOKENS, SINGLE_SPECIAL_TOKENS
from lib.run.errors import UserError


@dataclass(frozen=True)
class RecordSettings:
    """How examples are made; the names are Google's where Google has one.

    Attributes:
        max_seq_length: tokens of a row, special ones included.
        max_predictions_per_seq: masked positions of an example at most.
        masked_lm_prob: share of an example's tokens to be predicted.
        short_seq_prob: share of documents that are cut into shorter examples.
        dupe_factor: passes over the text, each with other pairs and other masks.
        whole_word_mask: mask words instead of pieces.
        next_sentence: make sentence pairs; otherwise one segment a row.
        random_next_prob: share of pairs whose second segment is replaced by a random one.
        masking: static: masked here; dynamic: left whole, for a trainer that masks.
        packing: several examples in a row.
        max_examples_per_pack: so many at most.
        compression: of the files.

    Raises:
        UserError: a value out of range.
    """

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float = 0.15
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    whole_word_mask: bool = False
    next_sentence: bool = True
    random_next_prob: float = 0.5
    masking: Literal["static", "dynamic"] = "static"
    packing: bool = False
    max_examples_per_pack: int = 8
    compression: Literal["none", "gzip"] = "none"

    def __post_init__(self) -> None:
        # 5: three special tokens and one of each segment. The target length of Google's short
        # examples, drawn from 2 on, needs as much.
        for name, low in (
            ("max_seq_length", 5),
            ("max_predictions_per_seq", 1),
            ("dupe_factor", 1),
            ("max_examples_per_pack", 1),
        ):
            if getattr(self, name) < low:
                raise UserError(
                    f"`{name}` should be at least {low}. Received: {getattr(self, name)}"
                )
        for name in "masked_lm_prob", "short_seq_prob", "random_next_prob":
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"`{name}` should be in 0 to 1. Received: {getattr(self, name)}")

    @classmethod
    def from_params(cls, options: params.Records, max_seq_length: int) -> Self:
        """Settings of the training records of a phase with this `max_seq_length`.

        `auto` becomes a number here: `max_predictions_per_seq` covers `masked_lm_prob` of a full
        sequence, `max_examples_per_pack` is one per 16 tokens, but at least 6.
        """
        given = options.model_dump(exclude={"source", "seed"})
        given["max_seq_length"] = max_seq_length
        if options.max_predictions_per_seq == "auto":
            given["max_predictions_per_seq"] = math.ceil(options.masked_lm_prob * max_seq_length)
        if options.max_examples_per_pack == "auto":
            given["max_examples_per_pack"] = max(6, max_seq_length // 16)
        return cls(**given)

    def held_out(self) -> Self:
        """The same for dev and test: one pass, masked here, so that every model that is asked
        about them, at whatever time, is asked the same."""
        return dataclasses.replace(self, dupe_factor=1, masking="static")

    @property
    def examples_per_sequence(self) -> int:
        """K, the examples that a row has room for."""
        return self.max_examples_per_pack if self.packing else 1

    def predictions_per_sequence(self) -> int:
        """P, the masked positions that a row has room for: what the most demanding row needs.

        Each example of a pack rounds its number of predictions by itself, so that together they
        may have more than a single example of that length. Found by dynamic programming over the
        examples of a row.
        """
        if not self.packing:
            return self.max_predictions_per_seq
        special = PAIR_SPECIAL_TOKENS if self.next_sentence else SINGLE_SPECIAL_TOKENS
        shortest = special + (2 if self.next_sentence else 1)
        lengths = np.arange(shortest, self.max_seq_length + 1)
        counts = prediction_counts(lengths, self.masked_lm_prob, self.max_predictions_per_seq)
        counts = np.minimum(counts, lengths - special)
        # most[s]: predictions of the examples so far, in s tokens at most
        most = np.zeros(self.max_seq_length + 1, dtype=np.int64)
        for _ in range(min(self.max_examples_per_pack, self.max_seq_length // shortest)):
            before = most.copy()
            for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
                np.maximum(most[length:], before[:-length] + count, out=most[length:])
        return int(most[-1])
