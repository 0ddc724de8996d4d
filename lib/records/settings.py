"""Settings of the records of one phase, and the number of slots per sequence they lead to."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from lib.params import Params, Records
from lib.records.masking import prediction_counts
from lib.records.pairs import PAIR_SPECIAL_TOKENS, SINGLE_SPECIAL_TOKENS
from lib.run.phases import overridden
from lib.text.layout import SPLITS


@dataclass(frozen=True)
class RecordSettings:
    """Settings of the records: those of `records` in params.yaml, where they are explained, with
    numbers in place of `auto`. Their names are Google's if Google has the setting, as are the
    defaults; the order is that of the manifest.

    Attributes:
        max_seq_length: S, tokens per sequence, special tokens included.
        max_predictions_per_seq: maximum number of masked positions per example.
        whole_sentences: also true of pairs, which begin as whole sentences; Google's truncation may
            cut them.
    """

    max_seq_length: int
    max_predictions_per_seq: int
    masked_lm_prob: float = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    short_seq_prob: float = 0.1
    dupe_factor: int = 10
    whole_word_mask: bool = False
    next_sentence: bool = True
    whole_sentences: bool = True
    random_next_prob: float = 0.5
    masking: Literal["static", "dynamic"] = "static"
    packing: bool = False
    max_examples_per_pack: int = 8
    compression: Literal["none", "gzip"] = "none"

    @classmethod
    def from_params(cls, options: Records, max_seq_length: int) -> Self:
        """Settings of the training records of a phase with this `max_seq_length`.

        `auto` becomes a number here: `max_predictions_per_seq` covers `masked_lm_prob` of a full
        sequence, `max_examples_per_pack` is one per 16 tokens, but at least 6.

        Args:
            options: with the phase's own values (see `split_settings`).
        """
        given = options.model_dump(exclude={"source", "seed"})
        given["max_seq_length"] = max_seq_length
        given["whole_sentences"] = options.whole_sentences or options.next_sentence
        if options.max_predictions_per_seq == "auto":
            given["max_predictions_per_seq"] = math.ceil(options.masked_lm_prob * max_seq_length)
        if options.max_examples_per_pack == "auto":
            given["max_examples_per_pack"] = max(6, max_seq_length // 16)
        return cls(**given)

    def held_out(self) -> Self:
        """The settings for dev and test: one pass with static masks, so that all models, at all
        steps, are evaluated on the same masked tokens."""
        return dataclasses.replace(self, dupe_factor=1, masking="static")

    @property
    def cuts_documents(self) -> bool:
        """Examples begin and end at any token."""
        return not (self.next_sentence or self.whole_sentences)

    @property
    def examples_per_sequence(self) -> int:
        """K, the maximum number of examples per sequence."""
        return self.max_examples_per_pack if self.packing else 1

    def predictions_per_sequence(self) -> int:
        """P, the maximum number of masked positions per sequence.

        Every example of a packed sequence rounds its own number of predictions, so that together
        they may have more than one example of the full length: with S 100 and masked_lm_prob 0.15,
        one example of 100 tokens has 15 predictions, but ten of 10 have round(1.5) = 2 each, so
        20. The maximum is found by dynamic programming over the examples of a sequence.
        """
        if not self.packing:
            return self.max_predictions_per_seq
        special = PAIR_SPECIAL_TOKENS if self.next_sentence else SINGLE_SPECIAL_TOKENS
        shortest = special + (2 if self.next_sentence else 1)
        lengths = np.arange(shortest, self.max_seq_length + 1)
        counts = prediction_counts(lengths, self.masked_lm_prob, self.max_predictions_per_seq)
        counts = np.minimum(counts, lengths - special)
        # best[s]: the most predictions that the examples so far can have in s tokens.
        best = np.zeros(self.max_seq_length + 1, dtype=np.int64)
        for _ in range(min(self.max_examples_per_pack, self.max_seq_length // shortest)):
            before = best.copy()
            for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
                np.maximum(best[length:], before[:-length] + count, out=best[length:])
        return int(best[-1])


def split_settings(params: Params, phase: str) -> dict[str, RecordSettings]:
    """Settings of the records of each split of a phase.

    A phase's own `masked_lm_prob` is for its training records. Those of dev and test are masked at
    the rate in the section `records`, so that all phases are evaluated on the same masked tokens.
    """
    section, own = params.records, params.phases[phase]
    train = RecordSettings.from_params(overridden(section, own), own.max_seq_length)
    held_out = RecordSettings.from_params(section, own.max_seq_length).held_out()
    return {split: train if split == "train" else held_out for split in SPLITS}
