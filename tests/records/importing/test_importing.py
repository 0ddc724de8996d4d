"""External examples become records, value for value; anything else is refused."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.params import parse_params
from lib.records import shard
from lib.records.importing.example_batch import read_tfrecords
from lib.records.manifest import read_manifest, record_files
from lib.records.tfrecord_reader import FEATURES, read_examples
from lib.run import fingerprint
from lib.run.errors import UserError
from stages import records as stage
from tests.helpers.external_examples import (
    LENGTH,
    MASK,
    PREDICTIONS,
    as_feature,
    as_objects,
    some_examples,
    write_hdf5,
    write_objects,
    write_tfrecords,
    write_vocabulary,
)
from tests.helpers.records import read_unpacked, unmasked_ids

MODEL_GARDEN = {"input_ids": "input_word_ids", "segment_ids": "input_type_ids"}


@pytest.fixture
def import_folder(tmp_path, monkeypatch, values):
    """Runs the stage on the folder `external`; returns the folder of records."""
    monkeypatch.chdir(tmp_path)
    write_vocabulary(tmp_path / "vocab")

    def run(workers: int = 1, phase: str = "main", length: int = LENGTH, **changes: object) -> Path:
        values["records"].update(source="external", **changes)
        values["phases"] = {
            "main": {"max_seq_length": length, "init": "data/vocab"},
            phase: {"max_seq_length": length, "init": "data/vocab"},
        }
        values["cluster"]["workers"] = workers
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        target = Path("records") / phase
        stage.main(phase, Path("external"), Path("vocab"), target)
        return target

    return run


def write_as(form: str, name: str, arrays: dict[str, np.ndarray]) -> Path:
    """Writes a file of examples to the folder `external`."""
    path = Path("external") / name
    match form:
        case "tfrecord":
            return write_tfrecords(path.with_suffix(".tfrecord"), arrays)
        case "tfrecord, gzip":
            return write_tfrecords(path.with_suffix(".tfrecord.gz"), arrays, compression="GZIP")
        case "tfrecord, gzip, other name":
            return write_tfrecords(path, arrays, compression="GZIP")
        case "tfrecord of Model Garden":
            return write_tfrecords(path, arrays, MODEL_GARDEN)
        case "HDF5":
            return write_hdf5(path.with_suffix(".hdf5"), arrays, compression="gzip")
        case "HDF5, odd chunks":
            return write_hdf5(path, arrays, chunks=True, compression="lzf")
        case "JSON lines":
            return write_objects(path.with_suffix(".jsonl"), as_objects(arrays))
        case "JSON lines, gzip, not padded":
            return write_objects(path.with_suffix(".jsonl.gz"), as_objects(arrays, padded=False))
    raise AssertionError(form)


FORMS = [
    "tfrecord",
    "tfrecord, gzip",
    "tfrecord, gzip, other name",
    "tfrecord of Model Garden",
    "HDF5",
    "HDF5, odd chunks",
    "JSON lines",
    "JSON lines, gzip, not padded",
]


@pytest.mark.parametrize("form", FORMS)
def test_records_equal_the_external_examples(import_folder, form, monkeypatch):
    """As read by TensorFlow; the training examples are several batches."""
    monkeypatch.setattr(shard, "POSITIONS_PER_BATCH", 37 * LENGTH)
    given = {
        name: some_examples(count, seed)
        for name, count, seed in (("train", 100, 1), ("validation", 30, 2), ("test/a", 20, 3))
    }
    for name, arrays in given.items():
        write_as(form, name, arrays)
    folder = import_folder()
    manifest = read_manifest(folder)
    assert (manifest.predictions_per_sequence, manifest.max_seq_length) == (PREDICTIONS, LENGTH)
    assert manifest.next_sentence and not manifest.packing
    for split, arrays in zip(("train", "dev", "test"), given.values(), strict=True):
        found = read_unpacked(record_files(folder, manifest, split), LENGTH, PREDICTIONS)
        assert found.keys() == arrays.keys()
        for name, matrix in arrays.items():
            np.testing.assert_array_equal(found[name], matrix, err_msg=name)


def test_workers_and_the_order_of_files_change_nothing(import_folder):
    written = []
    for order, workers in ((range(5), 1), (reversed(range(5)), 3)):
        for number in order:
            write_as("JSON lines, gzip, not padded", f"part-{number}", some_examples(50, number))
        folder = import_folder(workers, compression="gzip")
        written.append(
            {
                path.as_posix(): fingerprint.of_file(path)
                for path in [*folder.rglob("*"), *Path("results/records").rglob("*")]
                if path.is_file()
            }
        )
    assert written[0] == written[1]


def sorted_examples(arrays: dict[str, np.ndarray]) -> list[tuple]:
    return sorted(
        tuple(tuple(arrays[name][index].tolist()) for name in sorted(arrays))
        for index in range(len(arrays["input_ids"]))
    )


def test_examples_are_drawn_for_dev_by_their_text(import_folder):
    """Copies of an example with other masks stay together, and nothing is lost."""
    first, copy = some_examples(1500, 1), some_examples(1500, 1)
    for arrays, replacement in ((first, MASK), (copy, 99)):
        example, slot = np.nonzero(arrays["masked_lm_weights"])
        positions = arrays["masked_lm_positions"][example, slot]
        arrays["input_ids"][example, positions] = replacement
    write_as("tfrecord", "a", first)
    write_as("tfrecord", "b-train", copy)
    folder = import_folder()
    manifest = read_manifest(folder)
    found = {
        split: read_unpacked(record_files(folder, manifest, split), LENGTH, PREDICTIONS)
        for split in ("train", "dev")
    }
    given = sorted_examples(first) + sorted_examples(copy)
    assert sorted(given) == sorted(sorted_examples(found["train"]) + sorted_examples(found["dev"]))

    texts = {split: set(map(bytes, unmasked_ids(arrays))) for split, arrays in found.items()}
    assert not texts["train"] & texts["dev"]
    # dev_fraction is 0.02: 30 of 1500 texts, plus or minus four standard deviations.
    assert 2 * 8 <= manifest.splits["dev"].sequences <= 2 * 52
    assert manifest.splits["test"].sequences == 0 and manifest.splits["test"].files == ()


def test_metrics_and_manifest_describe_the_examples(import_folder):
    train, dev = some_examples(400, 1), some_examples(40, 2)
    path = write_as("HDF5", "train", train)
    write_as("HDF5", "dev", dev)
    folder = import_folder()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    for split, arrays in (("train", train), ("dev", dev)):
        tokens, predictions = arrays["input_mask"].sum(), arrays["masked_lm_weights"].sum()
        expected = {
            "examples": len(arrays["input_ids"]),
            "sequences": len(arrays["input_ids"]),
            "tokens": tokens,
            "fill": tokens / arrays["input_mask"].size,
            "predictions": predictions,
            "masked_fraction": predictions / tokens,
            "random_next_fraction": arrays["next_sentence_labels"].mean(),
        }
        for facts in (manifest["splits"][split], metrics[split]):
            assert {key: facts[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    (shard,) = manifest["splits"]["train"]["shards"]
    assert (shard["source"], shard["source_md5"]) == ("train.hdf5", fingerprint.of_file(path))
    # Only their author knows how they were made.
    unknown = ("dupe_factor", "masked_lm_prob", "whole_word_mask", "seed")
    assert all(manifest["settings"][key] is None for key in unknown)
    assert manifest["splits"]["train"]["dupe_factor"] is None


def test_training_reads_imported_examples(import_folder):
    from lib.train.input import evaluation_batches, training_batches

    train, dev = some_examples(64, 1), some_examples(20, 2)
    write_as("JSON lines", "train", train)
    write_as("JSON lines", "dev", dev)
    folder = import_folder(compression="gzip")
    manifest = read_manifest(folder)
    batches = training_batches(folder, manifest, None, batch_size=8, steps=8, buffer=50, seed=1)
    seen = np.concatenate([batch["input_ids"].numpy() for batch in batches.take(8)])
    assert sorted(map(bytes, seen.astype(np.int64))) == sorted(map(bytes, train["input_ids"]))
    held_out = [
        batch["masked_lm_ids"].numpy() for batch in evaluation_batches(folder, manifest, "dev", 8)
    ]
    np.testing.assert_array_equal(np.concatenate(held_out)[:20], dev["masked_lm_ids"])


def test_a_phase_has_a_folder_of_its_own(import_folder):
    write_as("tfrecord", "train", some_examples(40, 1))
    write_as("tfrecord", "dev", some_examples(10, 2))
    write_as("tfrecord", "long/train", some_examples(50, 3, length=24))
    write_as("tfrecord", "long/dev", some_examples(5, 4, length=24))
    assert read_manifest(import_folder(phase="long", length=24)).splits["train"].sequences == 50
    with pytest.raises(
        UserError, match=r"other files have 24; .* give each phase a folder with its name"
    ):
        import_folder()


def test_dvc_files_hidden_files_and_manifests_are_ignored(import_folder):
    write_as("tfrecord", "train", some_examples(40, 1))
    write_as("tfrecord", "dev", some_examples(10, 2))
    for name in (".gitignore", "train.dvc", "manifest.json", ".cache/x"):
        Path("external", name).parent.mkdir(exist_ok=True)
        Path("external", name).write_text("{}", encoding="utf-8")
    assert read_manifest(import_folder()).splits["train"].sequences == 40


def test_our_own_records_are_imported_unchanged(import_folder):
    write_as("tfrecord", "train", some_examples(40, 1))
    write_as("tfrecord", "dev", some_examples(10, 2))
    first = {path.name: path.read_bytes() for path in import_folder().rglob("*.tfrecord")}
    Path("records/main").rename("again")
    for path in Path("external").rglob("*.tfrecord"):
        path.unlink()
    for path in Path("again").rglob("*.tfrecord"):
        path.rename(Path("external") / f"{path.parent.name}.tfrecord")
    second = {path.name: path.read_bytes() for path in import_folder().rglob("*.tfrecord")}
    assert sorted(first.values()) == sorted(second.values())


def test_segments_and_next_sentence_labels_are_optional(import_folder):
    objects = as_objects(some_examples(30, 1), padded=False)
    for each in objects:
        del each["token_type_ids"], each["next_sentence_label"]
    write_objects(Path("external/train.jsonl"), objects)
    write_objects(Path("external/dev.jsonl"), objects[:5])
    folder = import_folder()
    manifest = read_manifest(folder)
    assert not manifest.next_sentence
    found = read_unpacked(record_files(folder, manifest, "train"), LENGTH, PREDICTIONS)
    assert not found["segment_ids"].any() and not found["next_sentence_labels"].any()


LABEL = "next_sentence_labels"


@pytest.mark.parametrize("form", ["tfrecord", "HDF5", "JSON lines"])
def test_examples_without_next_sentence_labels_are_read_in_every_format(import_folder, form):
    train, dev = some_examples(30, 1), some_examples(5, 2)
    labelled = write_as(form, "dev", dev)
    del train[LABEL]
    lacking = write_as(form, "train", train)
    with pytest.raises(UserError) as failure:
        import_folder()
    assert str(failure.value).startswith(f"{lacking}: lacks next_sentence_label")
    assert f"which {labelled} has; add it to all files or to none" in str(failure.value)
    del dev[LABEL]
    write_as(form, "dev", dev)
    folder = import_folder()
    manifest = read_manifest(folder)
    assert not manifest.next_sentence and manifest.segments == 2
    found = read_unpacked(record_files(folder, manifest, "train"), LENGTH, PREDICTIONS)
    assert not found[LABEL].any()
    for name, matrix in train.items():
        np.testing.assert_array_equal(found[name], matrix, err_msg=name)


def test_one_file_with_and_without_next_sentence_labels_is_refused(import_folder, monkeypatch):
    """In the same batch, and in a later one."""
    monkeypatch.setattr(shard, "POSITIONS_PER_BATCH", 20 * LENGTH)
    for count in (3, 40):
        path = write_as("tfrecord", "train", some_examples(count, 1))
        lacking = some_examples(2, 2)
        del lacking[LABEL]
        other = write_as("tfrecord", "other", lacking)
        path.write_bytes(path.read_bytes() + other.read_bytes())
        other.unlink()
        message = rf"record {count + 1} lacks next_sentence_labels, unlike the records before it"
        with pytest.raises(UserError, match=message):
            import_folder()


@pytest.mark.parametrize("form", ["tfrecord", "HDF5", "JSON lines"])
def test_sequences_without_masks_are_counted_in_every_format(import_folder, capsys, form):
    def unmask(arrays: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        for name in ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights"):
            arrays[name][:count] = 0
        return arrays

    write_as(form, "train", unmask(some_examples(30, 1), 7))
    write_as(form, "dev", some_examples(5, 2))
    folder = import_folder()
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    assert [metrics[split]["unmasked_sequences"] for split in ("train", "dev")] == [7, 0]
    assert "note: 7 of 30 train sequences have no masked tokens" in capsys.readouterr().out
    assert read_manifest(folder).splits["train"].sequences == 30
    for split, count in (("train", 30), ("dev", 5)):
        write_as(form, "train", some_examples(30, 1))
        write_as(form, "dev", some_examples(5, 2))
        path = write_as(form, split, unmask(some_examples(count, 1), count))
        with pytest.raises(UserError) as failure:
            import_folder()
        assert str(failure.value).startswith(f"{path}: has no masked tokens, and neither ")


def test_examples_of_one_segment_are_known_as_such(import_folder):
    for name in ("train", "dev"):
        arrays = some_examples(30, 1)
        del arrays[LABEL]
        arrays["segment_ids"][:] = 0
        write_as("tfrecord", name, arrays)
    assert read_manifest(import_folder()).segments == 1


def test_predictions_of_json_lines_are_the_maximum_of_all_files(import_folder):
    """Here the maximum is in dev."""
    objects = as_objects(some_examples(30, 1))
    for each in objects:
        masked = [index for index, label in enumerate(each["labels"]) if label != -100]
        for index in masked[1:]:
            each["labels"][index] = -100
    write_objects(Path("external/train.jsonl"), objects)
    length = max(sum(each["attention_mask"]) for each in objects)
    many = next(each for each in objects if sum(each["attention_mask"]) == length)
    many["labels"] = [
        token if mask and token not in (2, 3) else -100
        for token, mask in zip(many["input_ids"], many["attention_mask"], strict=True)
    ]
    write_objects(Path("external/dev.jsonl"), [many])
    assert read_manifest(import_folder()).predictions_per_sequence == length - 3


def test_masks_of_hdf5_end_at_the_first_zero(import_folder):
    """As in NVIDIA's loader."""
    arrays = some_examples(30, 1)
    arrays["masked_lm_positions"][:5, 1:] = [0, 5, 5]
    arrays["masked_lm_ids"][:5, 1:] = [9, 9, 9]
    write_as("HDF5", "train", arrays)
    write_as("HDF5", "dev", some_examples(5, 2))
    folder = import_folder()
    found = read_unpacked(record_files(folder, read_manifest(folder), "train"), LENGTH, PREDICTIONS)
    for index, positions in enumerate(arrays["masked_lm_positions"]):
        zeros = (positions == 0).nonzero()[0]
        used = zeros[0] if len(zeros) else PREDICTIONS
        assert found["masked_lm_weights"][index].tolist() == [1.0] * used + [0.0] * (
            PREDICTIONS - used
        )
        assert found["masked_lm_positions"][index, used:].tolist() == [0] * (PREDICTIONS - used)
        assert found["masked_lm_ids"][index, used:].tolist() == [0] * (PREDICTIONS - used)


# Refusals.


def test_another_sequence_length_is_refused(import_folder):
    for form in ("tfrecord", "HDF5", "JSON lines"):
        path = write_as(form, "train", some_examples(40, 1))
        for length in (12, 24):
            with pytest.raises(UserError) as failure:
                import_folder(length=length)
            assert str(failure.value) == (
                f"{path}: its sequences have 16 tokens, but phase main needs {length}; set "
                "phases.main.max_seq_length to 16"
            )
        path.unlink()


def with_value(name: str, value: object, index: tuple) -> dict[str, np.ndarray]:
    """Examples of which the seventh has a wrong value."""
    arrays = some_examples(20, 1)
    arrays[name][(6, *index)] = value
    return arrays


def without_token(value: int) -> dict[str, np.ndarray]:
    arrays = some_examples(20, 1)
    ids = arrays["input_ids"][6]
    ids[ids == value] = 9
    return arrays


OTHER_VOCABULARY = "were they created with another vocabulary? Use that one: vocab.source: file"
WRONG_EXAMPLES = [
    (with_value("input_mask", 2, (1,)), "mask should be ones"),
    (with_value("input_mask", 0, (0,)), "mask should be ones"),
    (with_value("input_mask", 0, (slice(None),)), "has no tokens"),
    (
        with_value("input_ids", 300, (1,)),
        "the id of a token is 300, but the vocabulary has the ids 0 to 299; " + OTHER_VOCABULARY,
    ),
    (with_value("input_ids", -1, (1,)), "the id of a token is -1"),
    (
        with_value("input_ids", 101, (0,)),
        "begins with id 101, but [CLS] is 2; " + OTHER_VOCABULARY,
    ),
    (without_token(3), "has no [SEP], which is 3; " + OTHER_VOCABULARY),
    (with_value("masked_lm_ids", 30_000, (0,)), "the id of a token to predict is 30000"),
    (
        with_value("masked_lm_positions", 16, (0,)),
        "position 16 is masked, but the sequence has the positions 0 to 15",
    ),
    (with_value("masked_lm_positions", -3, (0,)), "position -3 is masked"),
    (with_value("masked_lm_weights", 0.5, (0,)), "a weight is 0.5; it should be 0 or 1"),
    (with_value("masked_lm_weights", np.nan, (0,)), "a weight is nan"),
    (with_value("segment_ids", 2, (1,)), "a segment id is 2; it should be 0 or 1"),
    (with_value("segment_ids", -1, (1,)), "a segment id is -1"),
    (with_value("next_sentence_labels", 2, ()), "its next-sentence label is 2"),
]


@pytest.mark.parametrize(("arrays", "message"), WRONG_EXAMPLES)
def test_errors_name_the_wrong_example(import_folder, arrays, message):
    path = write_as("tfrecord", "train", arrays)
    with pytest.raises(UserError) as failure:
        import_folder()
    text = str(failure.value)
    assert text.startswith(f"{path}: record 7: ") and message in text and "\n" not in text
    assert not Path("records").exists() or not list(Path("records").iterdir())


def test_masks_in_the_padding_and_duplicate_masks_are_refused(import_folder):
    arrays = some_examples(20, 1)
    index = int(np.argmin(arrays["input_mask"].sum(axis=1)))
    arrays["masked_lm_positions"][index, 0] = 15
    path = write_as("HDF5", "train", arrays)
    with pytest.raises(UserError, match=rf"hdf5: row {index + 1}: position 15 .* only padding"):
        import_folder()
    arrays = some_examples(20, 1)
    index = int(np.argmax(arrays["masked_lm_weights"].sum(axis=1)))
    arrays["masked_lm_positions"][index, 1] = arrays["masked_lm_positions"][index, 0]
    write_as("HDF5", "train", arrays)
    with pytest.raises(UserError, match=rf"row {index + 1}: a position is masked twice"):
        import_folder()
    assert path.exists()


def test_tfrecords_of_different_sizes_are_refused(import_folder):
    path = Path("external/train.tfrecord")
    tokens = ("input_ids", "input_mask", "segment_ids")
    masks = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")
    for changed, size in ((masks, 2), (tokens, 12), (("segment_ids",), 15)):
        write_tfrecords(path, some_examples(3, 1))
        arrays = some_examples(2, 2)
        arrays |= {name: arrays[name][:, :size] for name in changed}
        other = write_tfrecords(Path("external/other"), arrays)
        path.write_bytes(path.read_bytes() + other.read_bytes())
        other.unlink()
        message = rf"train\.tfrecord: record 4: {changed[0]} has {size} values"
        with pytest.raises(UserError, match=message):
            import_folder()
    arrays = some_examples(20, 2)
    write_as("tfrecord", "train", some_examples(20, 1))
    write_as("tfrecord", "zz", arrays | {name: arrays[name][:, :2] for name in masks})
    message = r"zz\.tfrecord: has 2 slots for masked .*train\.tfrecord has 4"
    with pytest.raises(UserError, match=message):
        import_folder()


def test_examples_of_other_tasks_are_refused(import_folder):
    """Such as fine-tuning data."""
    arrays = some_examples(5, 1)
    found = "(it has input_ids, input_mask, segment_ids)"
    lacks = ["masked_lm_positions", "masked_lm_ids", "masked_lm_weights"]
    for name in (*lacks, "next_sentence_labels"):
        del arrays[name]
    path = write_tfrecords(Path("external/a"), arrays)
    with pytest.raises(UserError) as failure:
        import_folder()
    assert f"{path}: record 1 is not a pretraining example" in str(failure.value)
    assert f"it lacks {', '.join(lacks)} {found}" in str(failure.value)
    path.unlink()
    path = write_hdf5(Path("external/b.h5"), arrays)
    lacks.remove("masked_lm_weights")
    with pytest.raises(UserError) as failure:
        import_folder()
    assert f"{path}: has no pretraining examples: it lacks {', '.join(lacks)}" in str(failure.value)
    assert found in str(failure.value)
    path.unlink()
    path = write_objects(Path("external/c"), [{"text": "once"}])
    with pytest.raises(UserError) as failure:
        import_folder()
    assert f"{path}: line 1 is not a pretraining example" in str(failure.value)
    assert "it lacks input_ids, attention_mask, labels (it has text)" in str(failure.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.tfrecord", b"", "is empty; remove it"),
        ("train.tfrecord.gz", gzip.compress(b"", mtime=0), "is empty; remove it"),
        ("train.jsonl", b"\n\n", "holds no examples"),
        ("train.tfrecord", b"abc", "record 1 is cut short"),
        ("train.tfrecord", b"x" * 80, "record 1 has a damaged length"),
        ("train.h5", b"\x89HDF\r\n\x1a\n rest", "is damaged or cut short"),
        (
            "train.h5.gz",
            gzip.compress(b"\x89HDF\r\n\x1a\n rest", mtime=0),
            "compressed HDF5 cannot be read",
        ),
        ("train.jsonl", b'[{"input_ids": [2, 3]}]', "line 1 is not a JSON object"),
        ("train.jsonl", b'{"input_ids": [2, 3', "line 1 is not JSON"),
        ("train.txt", b"Once upon a time.\n", "not a file of examples: neither TFRecords"),
        ("train.jsonl.gz", gzip.compress(b"{}" * 500, mtime=0)[:20], "cannot be decompressed"),
    ],
)
def test_other_files_are_refused(import_folder, name, content, message):
    Path("external").mkdir()
    Path("external", name).write_bytes(content)
    with pytest.raises(UserError) as failure:
        import_folder()
    assert str(failure.value).startswith(f"external/{name}: ") and message in str(failure.value)


def test_damaged_files_are_refused(import_folder):
    for form, cut in (
        ("tfrecord", 0.5),
        ("tfrecord, gzip", 0.5),
        ("HDF5", 0.5),
        ("JSON lines", 0.5),
        ("JSON lines, gzip, not padded", 0.9),
    ):
        path = write_as(form, "train", some_examples(300, 1))
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * cut)])
        with pytest.raises(UserError, match=r"cut short|decompressed|damaged") as failure:
            import_folder()
        assert str(failure.value).startswith(str(path)) and "\n" not in str(failure.value)
        if "gzip" in form or form == "tfrecord":  # these have checksums
            middle = len(whole) // 2
            path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
            with pytest.raises(UserError, match=r"damaged|decompressed|not JSON"):
                import_folder()
        path.unlink()


def third_with(key: str, value: object) -> list[dict]:
    """JSON lines of which the third has another value, or lacks the key."""
    objects = as_objects(some_examples(5, 1), padded=False)
    objects[2][key] = value
    if value is None:
        del objects[2][key]
    return objects


def all_with(key: str, value: object) -> list[dict]:
    """JSON lines that all have a list of this value only."""
    objects = as_objects(some_examples(5, 1), padded=False)
    return [{**each, key: [value] * len(each[key])} for each in objects]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (third_with("labels", [-100]), "line 3: labels has 1 values, input_ids "),
        (third_with("labels", "no"), "line 3: labels should be a list"),
        (third_with("input_ids", 7), "line 3: input_ids should be a list"),
        (third_with("input_ids", None), "line 3 is not a pretraining example: it lacks input_ids"),
        (third_with("next_sentence_label", None), "line 3 lacks next_sentence_label"),
        (third_with("next_sentence_label", "0"), "line 3: next_sentence_label should be 0 or 1"),
        (third_with("next_sentence_label", 2), "line 3: its next-sentence label is 2"),
        (all_with("labels", -100), "has no masked tokens"),
        (all_with("input_ids", 0.5), "line 1: input_ids should be a list of integers"),
        (all_with("input_ids", 10**30), "line 1: input_ids should be a list of integers"),
        (all_with("input_ids", [1]), "line 1: input_ids should be a list of integers"),
    ],
)
def test_errors_name_the_wrong_line(import_folder, objects, message):
    path = write_objects(Path("external/train.jsonl"), objects)
    with pytest.raises(UserError) as failure:
        import_folder()
    assert str(failure.value).startswith(f"{path}: ") and message in str(failure.value)


def test_blank_lines_count_as_lines(import_folder):
    objects = as_objects(some_examples(5, 1))
    objects[4]["input_ids"][0] = 9
    lines = [json.dumps(each) for each in objects]
    Path("external").mkdir()
    Path("external/train.jsonl").write_text("\n".join([lines[0], "", "  ", *lines[1:]]) + "\n")
    with pytest.raises(UserError, match=r"train\.jsonl: line 7: begins with id 9"):
        import_folder()


def test_misshapen_hdf5_is_refused(import_folder):
    path = write_as("HDF5", "train", some_examples(10, 1))
    for name, data, message in (
        ("segment_ids", np.zeros((9, 16), int), r"has shape \(9, 16\), but should have \(10, 16\)"),
        ("masked_lm_ids", np.zeros((10, 3), int), r"has shape \(10, 3\)"),
        ("next_sentence_labels", np.zeros((10, 2), int), "has shape"),
        ("input_mask", np.zeros(160, int), "should be a matrix"),
        ("input_ids", np.zeros((10, 16)), r"should be a matrix of integers.* float64"),
    ):
        with h5py.File(path, "a") as file:
            before = file[name][()]
            del file[name]
            file[name] = data
        with pytest.raises(UserError, match=rf"train\.hdf5: {name} {message}"):
            import_folder()
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = before
    with h5py.File(path, "a") as file:
        del file["input_ids"]
        file.create_dataset("input_ids", (10,), dtype=h5py.vlen_dtype(np.int32))
    with pytest.raises(UserError, match="input_ids should be a matrix of integers"):
        import_folder()


def test_hdf5_that_leads_to_other_files_is_refused(import_folder):
    """Otherwise it would bring any readable file into the records."""
    path = write_as("HDF5", "train", some_examples(10, 1))
    secret = Path("secret.h5")
    write_hdf5(secret, some_examples(10, 2))
    Path("secret.bin").write_bytes(bytes(10 * LENGTH * 4))
    layout = h5py.VirtualLayout((10, LENGTH), "i4")
    layout[:] = h5py.VirtualSource(secret, "input_ids", (10, LENGTH))

    def external(file: h5py.File) -> None:
        storage = [("secret.bin", 0, 10 * LENGTH * 4)]
        file.create_dataset("input_ids", (10, LENGTH), "i4", external=storage)

    def link(target: object) -> Callable[[h5py.File], None]:
        return lambda file: file.__setitem__("input_ids", target)

    for write, message in (
        (link(h5py.ExternalLink("../secret.h5", "input_ids")), "input_ids is a link"),
        (link(h5py.ExternalLink("nowhere.h5", "input_ids")), "input_ids is a link"),
        (link(h5py.SoftLink("/input_mask")), "input_ids is a link"),
        (external, "the values of input_ids are in other files"),
        (
            lambda file: file.create_virtual_dataset("input_ids", layout),
            "the values of input_ids are in other files",
        ),
    ):
        with h5py.File(path, "a") as file:
            del file["input_ids"]
            write(file)
        with pytest.raises(UserError) as failure:
            import_folder()
        assert str(failure.value).startswith(f"{path}: {message}, which is refused because")


def test_folders_without_usable_files_are_refused(import_folder):
    with pytest.raises(UserError, match=r"external: no such folder; records\.source"):
        import_folder()
    Path("external").mkdir()
    with pytest.raises(UserError, match="external: has no files of examples"):
        import_folder()
    write_as("tfrecord", "dev", some_examples(10, 1))
    with pytest.raises(UserError, match=r"for dev or test, .* add files"):
        import_folder()
    write_as("HDF5", "train", some_examples(10, 1))
    with pytest.raises(
        UserError, match=r"train\.hdf5: is HDF5, but external/dev\.tfrecord is TFRecord"
    ):
        import_folder()
    Path("external/dev.tfrecord").unlink()
    with pytest.raises(UserError, match=r"no example was drawn .* raise split\.dev_fraction"):
        import_folder()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "data/records/main"}, "records.source: should be separate from data/records"),
        ({"source": ""}, "records.source: should be the path of a file or folder"),
    ],
)
def test_params_that_contradict_external_examples_are_refused(values, changes, message):
    values["records"].update({"source": "external"} | changes)
    with pytest.raises(UserError) as failure:
        parse_params(values)
    assert message in str(failure.value)


def test_masking_and_packing_do_not_apply_to_external_examples(values):
    values["records"] |= {"source": "external", "packing": True, "masking": "dynamic"}
    found = parse_params(values).records
    assert (found.packing, found.masking) == (False, "static")


# The fast TFRecord reader against the plain one.


@st.composite
def odd_files(draw: st.DrawFn) -> list[bytes]:
    """Examples whose bytes have various legal layouts, or are damaged."""
    arrays = some_examples(draw(st.integers(1, 6)), draw(st.integers(0, 99)))
    if draw(st.booleans()):
        arrays["input_ids"][0, 0] = draw(st.sampled_from([-1, 2**21, 2**31 - 1, 2**63 - 1]))
    records = []
    for index in range(len(arrays["input_ids"])):
        order = draw(st.permutations(FEATURES))
        feature = {name: as_feature(arrays[name][index]) for name in order}
        if draw(st.booleans()):
            feature["other"] = tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[draw(st.binary(max_size=300))])
            )
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        records.append(example.SerializeToString())
    if draw(st.booleans()):
        number = draw(st.integers(0, len(records) - 1))
        offset = draw(st.integers(0, len(records[number]) - 1))
        new = draw(st.binary(max_size=2))
        records[number] = records[number][:offset] + new + records[number][offset + 1 :]
    return records


def assert_both_readers_agree(path: Path, records: list[bytes], batch_size: int) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    expected, failure = [], None
    try:
        for example in read_examples(path):
            expected.append(example)
    except UserError as error:
        failure = str(error)
    try:
        batches = list(read_tfrecords(path, False, batch_size))
    except UserError as error:
        assert str(error) == failure
        return
    assert failure is None
    numbers = np.concatenate([batch.numbers for batch in batches])
    assert numbers.tolist() == list(range(1, len(records) + 1))
    for name in FEATURES:
        found = np.concatenate([batch.features[name] for batch in batches])
        theirs = np.stack([example[name] for example in expected])
        assert found.dtype == theirs.dtype
        np.testing.assert_array_equal(found, theirs)


@given(odd_files(), st.integers(1, 4))
@settings(max_examples=150)
def test_batches_equal_the_records_read_one_by_one(tmp_path_factory, records, batch_size):
    path = tmp_path_factory.mktemp("odd") / "file.tfrecord"
    assert_both_readers_agree(path, records, batch_size)


def test_batches_equal_the_records_read_one_by_one_whichever_byte_is_damaged(tmp_path):
    arrays = some_examples(1, 3)
    feature = {name: as_feature(values[0]) for name, values in arrays.items()}
    feature["other"] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"ab"]))
    whole = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    for offset in range(len(whole)):
        damaged = whole[:offset] + b"\0" + whole[offset + 1 :]
        # The first record determines sizes, and is read value by value.
        assert_both_readers_agree(tmp_path / f"{offset}.tfrecord", [whole, damaged], 1)
