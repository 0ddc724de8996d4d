"""Search for the damaged file of a manifest, after TensorFlow could not read a record.

TensorFlow does not report the file. Here all are read again, one after the other, without it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lib.records.manifest import Manifest, Split, feature_sizes
from lib.records.tfrecord import checksum_bytes, new_digest
from lib.records.tfrecord_reader import decode, read_records
from lib.run.errors import UserError
from lib.run.progress import Progress

_SPLITS = ("train", "dev")


@dataclass(frozen=True)
class _File:
    """A record file as its manifest describes it; `digest` is empty if it has none."""

    path: Path
    split: Split
    sequences: int
    digest: str


def find_damage(
    records: Path, manifest: Manifest, vocab_size: int, type_vocab_size: int
) -> UserError | None:
    """The first training or dev file that is not as the manifest says.

    It may be missing, unreadable, damaged or cut short, have another number of records, or have
    other records: of another kind, with ids that the model does not have, or just others.

    Args:
        records: the folder that contains the manifest.
        vocab_size, type_vocab_size: of the model.

    Returns:
        An error that names the file, the record if it is a single one, and how to fix it; None if
        all files are as they should be.
    """
    files = [
        _File(records / name, split, sequences, digest)
        for split in (manifest.splits[name] for name in _SPLITS if name in manifest.splits)
        for name, sequences, digest in zip(
            split.files,
            split.file_sequences,
            split.file_digests or [""] * len(split.files),
            strict=True,
        )
    ]
    limits = {
        "input_ids": vocab_size,
        "continues_word": 2,
        "masked_lm_ids": vocab_size,
        "segment_ids": type_vocab_size,
        "position_ids": manifest.max_seq_length,
        "masked_lm_positions": manifest.max_seq_length,
        "cls_positions": manifest.max_seq_length,
    }
    # Those that are gone first: opening takes no time.
    for problem in (_cannot_open, lambda file: _problem(file, manifest, limits)):
        with Progress("looking for the damaged record", len(files), "files") as progress:
            for file in files:
                if found := problem(file):
                    return UserError(
                        f"{found}; make the records again: dvc repro --force --single-item "
                        f"records@{records.name}"
                    )
                progress.advance(note=file.path.name)
    return None


def _cannot_open(file: _File) -> str:
    try:
        file.path.open("rb").close()
    except OSError as failure:
        return f"{file.path}: {failure.strerror}"
    return ""


def _problem(file: _File, manifest: Manifest, limits: dict[str, int]) -> str:
    """What is wrong with a file, or an empty string."""
    number, digest, first_misfit = 0, new_digest(), ""
    try:
        for record in read_records(file.path, compressed=manifest.compression == "GZIP"):
            number += 1
            digest.update(checksum_bytes(record))
            # Decoding takes much longer than a checksum. If there is a digest, it says enough of
            # the other records.
            if not first_misfit and (number == 1 or not file.digest):
                misfit = _misfit(record, manifest, file.split, limits)
                first_misfit = misfit and f"{file.path}: record {number} {misfit}"
    except OSError as failure:
        return f"{file.path}: {failure.strerror or failure}"
    except UserError as failure:
        return str(failure).removesuffix("; create the file again")
    if first_misfit:
        return first_misfit
    if number != file.sequences:
        return f"{file.path}: has {number:,} records, but the manifest says {file.sequences:,}"
    if file.digest and digest.hexdigest() != file.digest:
        return f"{file.path}: has other records than those that were written"
    return ""


def _misfit(record: bytes, manifest: Manifest, split: Split, limits: dict[str, int]) -> str:
    """Why a record is not one of these training examples, or an empty string."""
    try:
        values = decode(record)
    except UserError:
        return "is not a tf.train.Example"
    integers, floats = feature_sizes(manifest, split)
    for sizes, dtype in ((integers, np.dtype(np.int64)), (floats, np.dtype(np.float32))):
        for name, size in sizes.items():
            found = values.get(name, np.empty(0, dtype))
            if found.dtype != dtype or found.size != size:
                return (
                    f"has {found.size} values of {found.dtype} for {name}, but should have {size} "
                    f"of {dtype}"
                )
            limit = limits.get(name)
            if limit is not None and (wrong := found[(found < 0) | (found >= limit)]).size:
                return f"has {name} {wrong[0]:,}, but the model has 0 to {limit - 1:,}"
    return ""
