"""Examples made elsewhere written as our records, some of them held out.

The rows keep their order: who made them has shuffled them, and training shuffles again.
"""

import hashlib
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from lib.records import tfrecord
from lib.records.importing.validation import ValidatedBatch
from lib.records.masking import VocabularyFacts
from lib.records.shard import new_records
from lib.records.statistics import RecordStatistics


def write_sequences(
    blocks: Iterable[ValidatedBatch],
    target: Path,
    dev_target: Path | None,
    dev_fraction: float,
    vocabulary: VocabularyFacts,
    compression: str,
) -> list[tuple[Path, RecordStatistics]]:
    """Writes the rows of one file to one record file, or to two.

    Args:
        dev_target: the record file for rows that are drawn for dev; None: all go to `target`.
        dev_fraction: share of them. A row's draw is a hash of its tokens as they were before
            masking, so that copies of a row with other masks stay on one side.
        compression: of the record files: none or gzip.

    Returns:
        The files written and what each holds; one that would be empty is not there.
    """
    paths = [target] if dev_target is None else [target, dev_target]
    totals = [RecordStatistics() for _ in paths]
    dev_below = np.uint64(dev_fraction * 2**64)
    with ExitStack() as stack:
        files = [stack.enter_context(new_records(path, compression)) for path in paths]
        for rows in blocks:
            in_dev = np.zeros(len(rows.lengths), bool)
            if dev_target is not None:
                in_dev = _draws(rows) < dev_below
            for number, file in enumerate(files):
                chosen = np.flatnonzero(in_dev == number)
                some = {name: matrix[chosen] for name, matrix in rows.features.items()}
                file.write(tfrecord.encode(some))
                totals[number] += _count(some, rows.lengths[chosen], vocabulary)
    written = []
    for path, total in zip(paths, totals, strict=True):
        if total.sequences:
            written.append((path, total))
        else:
            path.unlink()
    return written


def _draws(rows: ValidatedBatch) -> np.ndarray:
    """uint64 [R]: a hash of each row's unmasked tokens."""
    width = 4 * rows.unmasked.shape[1]
    data = rows.unmasked.astype("<i4").tobytes()
    digests = bytearray()
    for row, length in enumerate(rows.lengths.tolist()):
        tokens = data[width * row : width * row + 4 * length]
        digests += hashlib.blake2b(tokens, digest_size=8, person=b"split").digest()
    return np.frombuffer(digests, "<u8")


def _count(
    features: dict[str, np.ndarray], lengths: np.ndarray, vocabulary: VocabularyFacts
) -> RecordStatistics:
    histogram = np.bincount(lengths, minlength=features["input_ids"].shape[1] + 1)
    return RecordStatistics(
        examples=len(lengths),
        sequences=len(lengths),
        tokens=int(lengths.sum()),
        predictions=int(np.count_nonzero(features["masked_lm_weights"])),
        masked_tokens=int(np.count_nonzero(features["input_ids"] == vocabulary.mask_id)),
        random_next=int(np.count_nonzero(features["next_sentence_labels"])),
        example_lengths=histogram,
        sequence_lengths=histogram,
    )
