"""Validation of external examples: what must hold before a model is trained on them.

Shapes: B examples in the batch, S tokens per sequence, P slots for predictions.
"""

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

    def refuse(bad: np.ndarray, problem: str, values: np.ndarray | None = None) -> None:
        """Raises for the first bad example. `bad` is bool [B, N], or [B] without `values`.

        Args:
            values: [B, N]; the first bad one of the example takes the place of {} in `problem`.
        """
        if bad.any():
            index = int(np.argmax(bad.any(axis=1) if bad.ndim == 2 else bad))
            if values is not None:
                problem = problem.format(values[index, np.argmax(bad[index])].item())
            raise UserError(f"{path}: {example_name} {batch.numbers[index]}: {problem}")

    def refuse_unknown_ids(what: str, values: np.ndarray, used: np.ndarray) -> None:
        refuse(
            used & ((values < 0) | (values >= vocabulary.vocab_size)),
            f"the id of {what} is {{}}, but the vocabulary has the ids 0 to "
            f"{vocabulary.vocab_size - 1}; {_FIX}",
            values,
        )

    lengths = np.count_nonzero(mask, axis=1)  # [B]
    is_token = np.arange(length) < lengths[:, np.newaxis]  # [B, S]
    refuse(mask != is_token, "its mask should be ones for the tokens, then zeros for the padding")
    refuse(lengths == 0, "has no tokens")

    masked = weights == 1  # [B, P]
    refuse(~masked & (weights != 0), "a weight is {}; it should be 0 or 1", weights)
    refuse(
        masked & ((positions < 0) | (positions >= length)),
        f"position {{}} is masked, but the sequence has the positions 0 to {length - 1}",
        positions,
    )
    refuse(
        masked & (positions >= lengths[:, np.newaxis]),
        "position {} is masked, where there is only padding",
        positions,
    )
    positions = positions * masked
    # For the comparison, each unused slot gets a position of its own after the sequence.
    distinct = np.where(masked, positions, length + np.arange(positions.shape[1]))
    refuse(np.diff(np.sort(distinct, axis=1), axis=1) == 0, "a position is masked twice")

    refuse_unknown_ids("a token", ids, is_token)
    refuse_unknown_ids("a token to predict", labels, masked)
    input_ids = (ids * is_token).astype(np.int32)
    masked_ids = (labels * masked).astype(np.int32)
    unmasked = input_ids.copy()
    example, slot = np.nonzero(masked)
    unmasked[example, positions[example, slot]] = masked_ids[example, slot]
    refuse(
        unmasked[:, :1] != vocabulary.cls_id,
        f"begins with id {{}}, but [CLS] is {vocabulary.cls_id}; {_FIX}",
        unmasked,
    )
    separators = (unmasked == vocabulary.sep_id) & is_token
    refuse(~separators.any(axis=1), f"has no [SEP], which is {vocabulary.sep_id}; {_FIX}")

    refuse(
        is_token & ((segments < 0) | (segments > 1)),
        "a segment id is {}; it should be 0 or 1",
        segments,
    )
    refuse(
        (next_sentence != 0) & (next_sentence != 1),
        "its next-sentence label is {}; it should be 0 (next) or 1 (random)",
        next_sentence,
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
