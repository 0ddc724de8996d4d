"""Damaged record files are named with file and record, however they are damaged and read."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from lib.records import tfrecord
from lib.records.manifest import Manifest, Split
from lib.run.errors import UserError
from lib.train.damaged_records import naming_damaged_records
from lib.train.input import evaluation_batches, training_batches
from tests.helpers.masking import VOCABULARY
from tests.helpers.tiny_bert import TINY

SEQUENCES, LENGTH, PREDICTIONS = 12, 8, 2
NAMES = ("train/00000.tfrecord", "train/00001.tfrecord", "dev/00000.tfrecord")


def encoded(count: int, digest=None, length: int = LENGTH, **features: np.ndarray) -> bytes:
    """Records of random sequences; `features` replace those of their names."""
    draw = np.random.default_rng(count)
    values = {
        "input_ids": draw.integers(5, 50, (count, length)),
        "input_mask": np.ones((count, length), np.uint8),
        "segment_ids": np.zeros((count, length), np.uint8),
        "masked_lm_positions": np.ones((count, PREDICTIONS), np.int32),
        "masked_lm_ids": draw.integers(5, 50, (count, PREDICTIONS)),
        "masked_lm_weights": np.ones((count, PREDICTIONS), np.float32),
        "next_sentence_labels": np.zeros((count, 1), np.uint8),
    }
    return tfrecord.encode(values | features, digest)


def write(folder: Path, compression: str) -> Manifest:
    """Three files of records, and their manifest."""
    digests = []
    for number, name in enumerate(NAMES):
        digest = tfrecord.new_digest()
        data = encoded(SEQUENCES + number, digest)
        digests.append(digest.hexdigest())
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(gzip.compress(data) if compression else data)

    def split(*files: int) -> Split:
        counts = tuple(SEQUENCES + number for number in files)
        names = tuple(NAMES[number] for number in files)
        total = sum(counts)
        return Split(total, total, "static", names, counts, tuple(digests[x] for x in files))

    splits = {"train": split(0, 1), "dev": split(2)}
    return Manifest(LENGTH, True, False, 1, PREDICTIONS, 0.3, 2, False, compression, splits)


def train(folder: Path, manifest: Manifest) -> None:
    """Reads more than an epoch, and looks ids up as the model does."""
    table = tf.zeros([TINY.vocab_size, 2])
    batches = training_batches(
        folder, manifest, VOCABULARY, batch_size=5, steps=12, buffer=4, seed=1
    )
    for batch in batches.take(12):
        tf.gather(table, batch["input_ids"])


def evaluate(folder: Path, manifest: Manifest) -> None:
    for batch in evaluation_batches(folder, manifest, "dev", 4):
        tf.gather(tf.zeros([TINY.vocab_size, 2]), batch["input_ids"])


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def frame(data: bytes, number: int) -> int:
    """Where the frame of a record begins."""
    start = 0
    for _ in range(number - 1):
        start += 16 + int.from_bytes(data[start : start + 8], "little")
    return start


# Name -> (what becomes of the content before compression, the message).
DAMAGES: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "a flipped bit in the data": (lambda x: flip(x, frame(x, 3) + 40), "record 3 has damaged data"),
    "a flipped bit in a length": (lambda x: flip(x, frame(x, 4)), "record 4 has a damaged length"),
    "a flipped bit in a checksum": (lambda x: flip(x, len(x) - 1), r"record 1\d has damaged data"),
    "cut within a record": (lambda x: x[: frame(x, 5) + 20], "record 5 is cut short"),
    "cut between two records": (
        lambda x: x[: frame(x, 7)],
        r"has 6 records, but the manifest says 1\d",
    ),
    "empty": (lambda x: b"", r"has 0 records, but the manifest says 1\d"),
    "something else": (lambda x: b"not a TFRecord\n" * 90, "record 1 has a damaged length"),
    "sequences of another length": (
        lambda x: encoded(14, length=6),
        "record 1 has 6 values of int64 for input_ids, but should have 8",
    ),
    "ids of another vocabulary": (
        lambda x: encoded(14, input_ids=np.full((14, LENGTH), 50)),
        "record 1 has input_ids 50, but the model has 0 to 49",
    ),
    "missing": (lambda x: None, "No such file or directory"),
}


def damage_and_read(folder: Path, compression: str, name: str, damage: str) -> None:
    manifest = write(folder, compression)
    change, message = DAMAGES[damage]
    path = folder / name
    before = path.read_bytes()
    content = change(gzip.decompress(before) if compression else before)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(gzip.compress(content) if compression else content)
    with (
        pytest.raises(UserError, match=f"{path}.*{message}.*; make the records again: dvc"),
        naming_damaged_records(folder, manifest, TINY),
    ):
        train(folder, manifest) if name.startswith("train") else evaluate(folder, manifest)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(tmp_path, damage):
    in_training = list(DAMAGES).index(damage) % 5 == 0
    damage_and_read(tmp_path, "", NAMES[1 if in_training else 2], damage)


@pytest.mark.slow
@pytest.mark.parametrize("compression", ["", "GZIP"], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", NAMES[1:])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_however_it_is_read(tmp_path, damage, name, compression):
    damage_and_read(tmp_path, compression, name, damage)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-30], "cannot be decompressed|cut short"),
        (lambda x: flip(x, len(x) // 2), "cannot be decompressed|damaged"),
        (gzip.decompress, "cannot be decompressed"),
        (lambda x: b"", "has 0 records"),
    ],
    ids=["cut", "flipped", "not compressed", "empty"],
)
def test_damage_of_the_compression_is_named(tmp_path, change, message):
    manifest = write(tmp_path, "GZIP")
    path = tmp_path / NAMES[2]
    path.write_bytes(change(path.read_bytes()))
    with (
        pytest.raises(UserError, match=f"{path}.*({message})"),
        naming_damaged_records(tmp_path, manifest, TINY),
    ):
        evaluate(tmp_path, manifest)


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    manifest = write(tmp_path, "")
    (tmp_path / NAMES[2]).unlink()
    (tmp_path / NAMES[2]).mkdir()
    with (
        pytest.raises(UserError, match=f"{tmp_path / NAMES[2]}: Is a directory"),
        naming_damaged_records(tmp_path, manifest, TINY),
    ):
        evaluate(tmp_path, manifest)


def test_other_errors_and_sound_records_are_left_alone(tmp_path):
    manifest = write(tmp_path, "")
    with naming_damaged_records(tmp_path, manifest, TINY):
        evaluate(tmp_path, manifest)
    for error in (tf.errors.DataLossError, tf.errors.ResourceExhaustedError):
        with (
            pytest.raises(error, match="another cause"),
            naming_damaged_records(tmp_path, manifest, TINY),
        ):
            raise error(None, None, "another cause")
    # When the records are read again, a file with other records is found by its digest.
    path = tmp_path / NAMES[2]
    path.write_bytes(encoded(14, input_ids=np.full((14, LENGTH), 7)))
    with (
        pytest.raises(UserError, match=f"{path}: has other records than those that were written"),
        naming_damaged_records(tmp_path, manifest, TINY),
    ):
        raise tf.errors.DataLossError(None, None, "some record")
