"""What has to be true of examples made elsewhere before a model is trained on them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.records.importing.example_batch import ExampleBatch
from lib.records.masking import VocabularyFacts
from lib.run.errors import UserError

_MEND = (
    "made with another vocabulary? Take the one it was made with: vocab.source: file, "
    "and its vocab.txt as vocab.base"
)


@dataclass(frozen=True)
class ValidatedBatch:
    """R examples in the form in which the records stage writes its own.

    Attributes:
        features: as `lib.records.shard.features` gives them.
        lengths: int64 [R]: tokens of each row.
        unmasked: int32 [R, S]: the rows as they were before masking, 0 in the padding.
    """

    features: dict[str, np.ndarray]
    lengths: np.ndarray
    unmasked: np.ndarray


def validate_batch(
    block: ExampleBatch, vocabulary: VocabularyFacts, path: Path, row_name: str
) -> ValidatedBatch:
    """Checks a block, and puts zeros where nothing is looked at: padding, unused predictions.

    Args:
        path, row_name: name a row in errors, as in `examples.tfrecord: record 7`.

    Raises:
        UserError: a row is not what a model of this vocabulary can be trained on.
    """
    given = block.features
    ids, positions, labels = (
        given[name] for name in ("input_ids", "masked_lm_positions", "masked_lm_ids")
    )
    mask, segments, weights = (
        given[name] for name in ("input_mask", "segment_ids", "masked_lm_weights")
    )
    next_sentence = given["next_sentence_labels"]
    columns = ids.shape[1]

    def refuse(bad: np.ndarray, problem: Callable[[int], str]) -> None:
        """Raises for the first bad row. `bad` is bool [R], or [R, N]: a value of it."""
        if bad.any():
            row = int(np.argmax(bad.any(axis=1) if bad.ndim == 2 else bad))
            raise UserError(f"{path}: {row_name} {block.numbers[row]}: {problem(row)}")

    def first(values: np.ndarray, bad: np.ndarray, row: int) -> object:
        """The value that is bad, to be shown."""
        return values[row, np.argmax(bad[row])].item()

    def refuse_unknown(what: str, values: np.ndarray, used: np.ndarray) -> None:
        unknown = used & ((values < 0) | (values >= vocabulary.vocab_size))
        refuse(
            unknown,
            lambda row: (
                f"the id of {what} is {first(values, unknown, row)}, but the vocabulary has the "
                f"ids 0 to {vocabulary.vocab_size - 1}; {_MEND}"
            ),
        )

    lengths = np.count_nonzero(mask, axis=1)
    filled = np.arange(columns) < lengths[:, np.newaxis]
    refuse(
        mask != filled,
        lambda row: "its mask should be ones for the tokens, then zeros for the padding behind",
    )
    refuse(lengths == 0, lambda row: "has no tokens")

    masked = weights == 1
    bad_weights = ~masked & (weights != 0)
    refuse(
        bad_weights,
        lambda row: f"a weight is {first(weights, bad_weights, row)}; it should be 0 or 1",
    )
    outside = masked & ((positions < 0) | (positions >= columns))
    refuse(
        outside,
        lambda row: (
            f"position {first(positions, outside, row)} is masked, but the row has the "
            f"positions 0 to {columns - 1}"
        ),
    )
    padding = masked & (positions >= lengths[:, np.newaxis])
    refuse(
        padding,
        lambda row: (
            f"position {first(positions, padding, row)} is masked, but from position "
            f"{lengths[row]} on there is only padding"
        ),
    )
    positions = positions * masked
    # Unused slots go behind the row, each to a place of its own.
    slots = np.where(masked, positions, columns + np.arange(positions.shape[1]))
    twice = np.diff(np.sort(slots, axis=1), axis=1) == 0
    refuse(twice, lambda row: "a position is masked twice")

    refuse_unknown("a token", ids, filled)
    refuse_unknown("a token to predict", labels, masked)
    input_ids = (ids * filled).astype(np.int32)
    masked_ids = (labels * masked).astype(np.int32)
    unmasked = input_ids.copy()
    row, slot = np.nonzero(masked)
    unmasked[row, positions[row, slot]] = masked_ids[row, slot]
    refuse(
        unmasked[:, 0] != vocabulary.cls_id,
        lambda row: f"begins with id {unmasked[row, 0]}, but [CLS] is {vocabulary.cls_id}; {_MEND}",
    )
    separators = (unmasked == vocabulary.sep_id) & filled
    refuse(
        ~separators.any(axis=1),
        lambda row: f"has no [SEP], which is {vocabulary.sep_id}; {_MEND}",
    )

    other = filled & ((segments < 0) | (segments > 1))
    refuse(
        other,
        lambda row: f"a segment id is {first(segments, other, row)}; it should be 0 or 1",
    )
    unclear = (next_sentence != 0) & (next_sentence != 1)
    refuse(
        unclear,
        lambda row: (
            f"its next sentence label is {first(next_sentence, unclear, row)}; it should be 0 "
            "(next) or 1 (random)"
        ),
    )
    return ValidatedBatch(
        {
            "input_ids": input_ids,
            "input_mask": filled.view(np.uint8),
            "segment_ids": (segments * filled).astype(np.uint8),
            "masked_lm_positions": positions.astype(np.int32),
            "masked_lm_ids": masked_ids,
            "masked_lm_weights": masked.astype(np.float32),
            "next_sentence_labels": next_sentence.astype(np.uint8),
        },
        lengths.astype(np.int64),
        unmasked,
    )
