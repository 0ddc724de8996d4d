"""Writer of external examples as our records, some of them held out for dev.

The examples keep their order: they have been shuffled where they were created, and training
shuffles again.
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
    batches: Iterable[ValidatedBatch],
    target: Path,
    dev_target: Path | None,
    dev_fraction: float,
    vocabulary: VocabularyFacts,
    compression: str,
) -> list[tuple[Path, RecordStatistics, str]]:
    """Writes the examples of one file to one record file, or to two.

    Args:
        dev_target: the record file for examples that are drawn for dev; None: all go to `target`.
        dev_fraction: fraction of them. The draw is a hash of an example's unmasked tokens, so that
            copies of an example with other masks are in the same split.
        compression: of the record files: none or gzip.

    Returns:
        The files written, their statistics and the digests of their records; a file that would be
        empty is not written.
    """
    paths = [target] if dev_target is None else [target, dev_target]
    totals = [RecordStatistics() for _ in paths]
    digests = [tfrecord.new_digest() for _ in paths]
    dev_below = np.uint64(dev_fraction * 2**64)
    with ExitStack() as stack:
        files = [stack.enter_context(new_records(path, compression)) for path in paths]
        for batch in batches:
            in_dev = np.zeros(len(batch.lengths), bool)
            if dev_target is not None:
                in_dev = _hashes(batch) < dev_below
            for number, file in enumerate(files):
                chosen = np.flatnonzero(in_dev == number)
                features = {name: matrix[chosen] for name, matrix in batch.features.items()}
                file.write(tfrecord.encode(features, digests[number]))
                totals[number] += _count(features, batch.lengths[chosen], vocabulary)
    written = []
    for path, total, digest in zip(paths, totals, digests, strict=True):
        if total.sequences:
            written.append((path, total, digest.hexdigest()))
        else:
            path.unlink()
    return written


def _hashes(batch: ValidatedBatch) -> np.ndarray:
    """uint64 [B]: a hash of the unmasked tokens of each example, without the padding."""
    width = 4 * batch.unmasked.shape[1]
    data = batch.unmasked.astype("<i4").tobytes()
    digests = bytearray()
    for index, length in enumerate(batch.lengths.tolist()):
        tokens = data[width * index : width * index + 4 * length]
        digests += hashlib.blake2b(tokens, digest_size=8, person=b"split").digest()
    return np.frombuffer(digests, "<u8")


def _count(
    features: dict[str, np.ndarray], lengths: np.ndarray, vocabulary: VocabularyFacts
) -> RecordStatistics:
    predictions = np.count_nonzero(features["masked_lm_weights"], axis=1)  # [B]
    histogram = np.bincount(lengths, minlength=features["input_ids"].shape[1] + 1)
    return RecordStatistics(
        examples=len(lengths),
        sequences=len(lengths),
        tokens=int(lengths.sum()),
        predictions=int(predictions.sum()),
        unmasked_sequences=int(np.count_nonzero(predictions == 0)),
        two_segments=int(np.count_nonzero(features["segment_ids"].any(axis=1))),
        masked_tokens=int(np.count_nonzero(features["input_ids"] == vocabulary.mask_id)),
        random_next=int(np.count_nonzero(features["next_sentence_labels"])),
        example_lengths=histogram,
        sequence_lengths=histogram,
    )
