"""Validation of external examples: what must hold before a model is trained on them.

Shapes: B examples in the batch, S tokens per sequence, P slots for predictions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.records.importing.example_batch import ExampleBatch
from lib.records.masking import VocabularyFacts
from lib.run.errors import UserError

_FIX = (
    "were they created with another vocabulary? Use that one: vocab.source: file, and its "
    "vocab.txt as vocab.base"
)


@dataclass(frozen=True)
class ValidatedBatch:
    """B examples in the form in which the records stage writes its own.

    Attributes:
        features: as `lib.records.shard.features` gives them.
        lengths: int64 [B]: tokens per sequence.
        unmasked: int32 [B, S]: input_ids before masking, 0 in the padding.
    """

    features: dict[str, np.ndarray]
    lengths: np.ndarray
    unmasked: np.ndarray


def validate_batch(
    batch: ExampleBatch, vocabulary: VocabularyFacts, path: Path, example_name: str
) -> ValidatedBatch:
    """Checks a batch, and sets unused values to 0: padding and unused prediction slots.

    Args:
        path, example_name: name an example in errors, as in `examples.tfrecord: record 7`.

    Raises:
        UserError: a model with this vocabulary cannot be trained on an example.
    """
    given = batch.features
    ids, positions, labels = (
        given[name] for name in ("input_ids", "masked_lm_positions", "masked_lm_ids")
    )
    mask, segments, weights = (
        given[name] for name in ("input_mask", "segment_ids", "masked_lm_weights")
    )
    next_sentence = given["next_sentence_labels"]
    length = ids.shape[1]

    def refuse(bad: np.ndarray, problem: Callable[[int], str]) -> None:
        """Raises for the first bad example. `bad` is bool [B], or [B, N] for its values."""
        if bad.any():
            index = int(np.argmax(bad.any(axis=1) if bad.ndim == 2 else bad))
            raise UserError(f"{path}: {example_name} {batch.numbers[index]}: {problem(index)}")

    def first(values: np.ndarray, bad: np.ndarray, index: int) -> object:
        """The first bad value of an example, for the error."""
        return values[index, np.argmax(bad[index])].item()

    def refuse_unknown_ids(what: str, values: np.ndarray, used: np.ndarray) -> None:
        unknown = used & ((values < 0) | (values >= vocabulary.vocab_size))
        refuse(
            unknown,
            lambda index: (
                f"the id of {what} is {first(values, unknown, index)}, but the vocabulary has the "
                f"ids 0 to {vocabulary.vocab_size - 1}; {_FIX}"
            ),
        )

    lengths = np.count_nonzero(mask, axis=1)  # [B]
    is_token = np.arange(length) < lengths[:, np.newaxis]  # [B, S]
    refuse(
        mask != is_token,
        lambda index: "its mask should be ones for the tokens, then zeros for the padding",
    )
    refuse(lengths == 0, lambda index: "has no tokens")

    masked = weights == 1  # [B, P]
    bad_weights = ~masked & (weights != 0)
    refuse(
        bad_weights,
        lambda index: f"a weight is {first(weights, bad_weights, index)}; it should be 0 or 1",
    )
    outside = masked & ((positions < 0) | (positions >= length))
    refuse(
        outside,
        lambda index: (
            f"position {first(positions, outside, index)} is masked, but the sequence has the "
            f"positions 0 to {length - 1}"
        ),
    )
    padding = masked & (positions >= lengths[:, np.newaxis])
    refuse(
        padding,
        lambda index: (
            f"position {first(positions, padding, index)} is masked, but from position "
            f"{lengths[index]} on there is only padding"
        ),
    )
    positions = positions * masked
    # For the comparison, each unused slot gets a position of its own after the sequence.
    distinct = np.where(masked, positions, length + np.arange(positions.shape[1]))
    twice = np.diff(np.sort(distinct, axis=1), axis=1) == 0
    refuse(twice, lambda index: "a position is masked twice")

    refuse_unknown_ids("a token", ids, is_token)
    refuse_unknown_ids("a token to predict", labels, masked)
    input_ids = (ids * is_token).astype(np.int32)
    masked_ids = (labels * masked).astype(np.int32)
    unmasked = input_ids.copy()
    example, slot = np.nonzero(masked)
    unmasked[example, positions[example, slot]] = masked_ids[example, slot]
    refuse(
        unmasked[:, 0] != vocabulary.cls_id,
        lambda index: (
            f"begins with id {unmasked[index, 0]}, but [CLS] is {vocabulary.cls_id}; {_FIX}"
        ),
    )
    separators = (unmasked == vocabulary.sep_id) & is_token
    refuse(
        ~separators.any(axis=1),
        lambda index: f"has no [SEP], which is {vocabulary.sep_id}; {_FIX}",
    )

    bad_segments = is_token & ((segments < 0) | (segments > 1))
    refuse(
        bad_segments,
        lambda index: (
            f"a segment id is {first(segments, bad_segments, index)}; it should be 0 or 1"
        ),
    )
    bad_next_sentence = (next_sentence != 0) & (next_sentence != 1)
    refuse(
        bad_next_sentence,
        lambda index: (
            f"its next-sentence label is {first(next_sentence, bad_next_sentence, index)}; it "
            "should be 0 (next) or 1 (random)"
        ),
    )
    return ValidatedBatch(
        {
            "input_ids": input_ids,
            "input_mask": is_token.view(np.uint8),
            "segment_ids": (segments * is_token).astype(np.uint8),
            "masked_lm_positions": positions.astype(np.int32),
            "masked_lm_ids": masked_ids,
            "masked_lm_weights": masked.astype(np.float32),
            "next_sentence_labels": next_sentence.astype(np.uint8),
        },
        lengths.astype(np.int64),
        unmasked,
    )
