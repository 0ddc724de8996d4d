"""The stage from text shards to records: kinds of records, manifest, plots, files of others."""

import gzip
import hashlib
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.records import tfrecord
from lib.records.manifest import read_manifest, record_files
from lib.records.masking import VocabularyFacts
from lib.records.settings import RecordSettings
from lib.records.shard import write_shard
from lib.records.statistics import histogram_csv
from lib.records.tfrecord_reader import decode, read_examples, read_records
from lib.records.tokens import read_tokens
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.vocab.tokenizer import WordPieceTokenizer
from stages import records as stage
from tests.helpers.project import sentences
from tests.records.test_packing import parsed_packed, single_example, unpacked_examples
from tests.records.test_tfrecord import VOCABULARY, parsed, some_tokens

tf = pytest.importorskip("tensorflow")


@pytest.fixture
def project(tmp_path, monkeypatch, values):
    """A folder with shards and a vocabulary of letters and some words; runs the stage."""
    monkeypatch.chdir(tmp_path)
    for split, shards, seed in (("train", 5, 0), ("dev", 1, 50), ("test", 1, 60)):
        (tmp_path / "shards" / split).mkdir(parents=True)
        for shard in range(shards):
            lines = sentences(120, seed + shard)
            text = "".join("\n".join(lines[at : at + 4]) + "\n\n" for at in range(0, 120, 4))
            (tmp_path / "shards" / split / f"{shard:05d}.txt").write_text(text, encoding="utf-8")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "times", "a", "##ing", "pilot"]
    pieces += [letter for letter in letters if letter != "a"] + [f"##{one}" for one in letters]
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab/vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    (tmp_path / "vocab/tokenizer_config.json").write_text("{}", encoding="utf-8")

    def run(target: str, workers: int = 1, **changes: object) -> Path:
        values["records"].update(dupe_factor=3, **changes)
        values["phases"]["main"]["max_seq_length"] = 64
        values["cluster"]["workers"] = workers
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        stage.main("main", Path("shards"), Path("vocab"), Path(target))
        return Path(target)

    return run


def test_workers_do_not_matter(project):
    results = []
    for workers in (1, 2, 5):
        folder = project("records", workers, packing=True, whole_word_mask=True, compression="gzip")
        results.append(
            {
                path.as_posix(): fingerprint.of_file(path)
                for path in [*folder.rglob("*"), *Path("results/records").rglob("*")]
                if path.is_file()
            }
        )
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 7 + 1 + 3  # record files, manifest, metrics and two plots


def test_manifest_says_what_was_made_from_what(project):
    folder = project("records", packing=True, max_examples_per_pack=5)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["seed"] == 12345
    assert manifest["settings"]["dupe_factor"] == 3
    assert manifest["examples_per_sequence"] == 5
    for name, digest in manifest["vocabulary_md5"].items():
        assert digest == hashlib.md5((Path("vocab") / name).read_bytes()).hexdigest()
    wanted = RecordSettings(64, 10, packing=True, max_examples_per_pack=5)
    assert manifest["predictions_per_sequence"] == wanted.predictions_per_sequence()
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    for split, facts in manifest["splits"].items():
        assert facts["dupe_factor"] == (3 if split == "train" else 1)
        rows, examples = [], []
        for shard in facts["shards"]:
            own = parsed_packed(folder / shard["file"], wanted)
            assert shard["sequences"] == len(own)
            assert shard["examples"] == sum(int(row["next_sentence_weights"].sum()) for row in own)
            text = Path("shards", shard["source"]).read_bytes()
            assert shard["source_md5"] == hashlib.md5(text).hexdigest()
            rows += own
        examples = list(itertools.chain.from_iterable(map(unpacked_examples, rows)))
        tokens = sum(len(example[0]) for example in examples)
        masked = sum(len(example[3]) for example in examples)
        expected = {
            "sequences": len(rows),
            "examples": len(examples),
            "tokens": tokens,
            "fill": tokens / (64 * len(rows)),
            "predictions": masked,
            "masked_fraction": masked / tokens,
            "random_next_fraction": np.mean([example[2] for example in examples]),
        }
        assert {key: facts[key] for key in expected} == pytest.approx(expected)
        assert {key: metrics[split][key] for key in expected} == pytest.approx(expected, rel=1e-5)
    for name, column, total in (
        ("lengths", "examples", "examples"),
        ("sequences", "sequences", "sequences"),
    ):
        lines = Path(f"results/records/main/{name}.csv").read_text(encoding="utf-8").splitlines()
        assert lines[0] == f"tokens,{column}"
        assert sum(int(line.split(",")[1]) for line in lines[1:]) == metrics["train"][total]


def test_dev_and_test_are_the_same_however_train_is_masked(project):
    static, dynamic = (project(kind, masking=kind) for kind in ("static", "dynamic"))
    for split in "dev", "test":
        assert fingerprint.of_path(static / split) == fingerprint.of_path(dynamic / split)
    assert fingerprint.of_path(static / "train") != fingerprint.of_path(dynamic / "train")
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    assert "masked_fraction" in metrics["dev"] and "masked_fraction" not in metrics["train"]


def test_unmasked_examples_are_the_static_ones_before_masking(tmp_path):
    """The same pairs in the same order; and each pass of dupe_factor has other pairs."""
    tokens = some_tokens(40)
    for masking in "static", "dynamic":
        wanted = RecordSettings(48, 7, dupe_factor=2, masking=masking)
        write_shard(tmp_path / masking, tokens, wanted, VOCABULARY, 3, 0)
    static = parsed(tmp_path / "static", wanted)
    serialized = list(tf.data.TFRecordDataset(str(tmp_path / "dynamic")).as_numpy_iterator())
    sizes = {"input_ids": 48, "input_mask": 48, "segment_ids": 48, "next_sentence_labels": 1}
    assert decode(serialized[0]).keys() == sizes.keys()
    dynamic = tf.io.parse_example(
        serialized, {name: tf.io.FixedLenFeature([size], tf.int64) for name, size in sizes.items()}
    )
    for name in "input_mask", "segment_ids", "next_sentence_labels":
        assert (dynamic[name].numpy() == static[name]).all()
    ids = static["input_ids"].copy()
    row, slot = np.nonzero(static["masked_lm_weights"])
    ids[row, static["masked_lm_positions"][row, slot]] = static["masked_lm_ids"][row, slot]
    assert (dynamic["input_ids"].numpy() == ids).all()
    assert max(Counter(map(bytes, ids)).values()) <= 2
    assert len(np.unique(ids, axis=0)) > 0.6 * len(ids)


def test_gzip_holds_the_same_records_in_files_without_a_date(project):
    plain, zipped = project("plain"), project("zipped", compression="gzip")
    first = (zipped / "train/00000.tfrecord.gz").read_bytes()
    assert gzip.decompress(first) == (plain / "train/00000.tfrecord").read_bytes()
    assert first[3:8] == bytes(5)  # no name, no time
    manifest = read_manifest(zipped)
    files = record_files(zipped, manifest, "train")
    assert [path.name for path in files] == [f"{n:05d}.tfrecord.gz" for n in range(5)]
    names = [str(path) for path in files]
    theirs = tf.data.TFRecordDataset(names, manifest.compression).as_numpy_iterator()
    mine = itertools.chain.from_iterable(map(read_records, files))
    assert list(theirs) == list(mine)


def test_training_reads_gzip_like_plain_records(project):
    from lib.train.input import evaluation_batches, training_batches

    batches = []
    for compression in "none", "gzip":
        folder = project(compression, compression=compression)
        manifest = read_manifest(folder)
        train = training_batches(
            folder, manifest, VOCABULARY, batch_size=8, steps=3, buffer=50, seed=1
        )
        dev = evaluation_batches(folder, manifest, "dev", 8)
        batches.append([batch["input_ids"].numpy() for batch in (*train.take(3), *dev)])
    assert len(batches[0]) == len(batches[1]) > 3
    assert all((one == other).all() for one, other in zip(*batches, strict=True))


def test_training_refuses_other_manifests(project):
    folder = project("records")
    path = folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    for broken in (
        text.replace('"version": 1', '"version": 99'),
        text[:-20],
        "[]",
        text.replace('"max_seq_length"', '"something"'),
    ):
        path.write_text(broken, encoding="utf-8")
        with pytest.raises(UserError, match=r"manifest\.json: not a manifest of records"):
            read_manifest(folder)
    path.unlink()
    with pytest.raises(UserError, match="no such file; run the records stage"):
        read_manifest(folder)


def test_a_split_without_examples_is_refused(project):
    shutil.rmtree("shards/dev")
    with pytest.raises(UserError, match=r"shards/dev: .*raise split\.dev_fraction"):
        project("records")
    assert not Path("records").exists()
    assert not list(Path().glob(".*tmp*"))


def test_a_literal_special_token_in_the_text_does_no_harm(project):
    Path("shards/train/00000.txt").write_text("[SEP] the [CLS] pilot\na [MASK].\n\n" * 40)
    for number, changes in enumerate(({}, {"packing": True, "whole_word_mask": True})):
        folder = project(f"records{number}", **changes)
        assert all(map(decode, read_records(folder / "train/00000.tfrecord")))


def test_histograms_are_few_bins_that_leave_nothing_out():
    for longest in (1, 5, 63, 64, 65, 96, 128, 500, 512):
        counts = np.arange(longest + 1)
        counts[0] = 0
        lines = histogram_csv(counts, "examples").splitlines()
        assert lines[0] == "tokens,examples"
        ends, sums = zip(*(map(int, line.split(",")) for line in lines[1:]), strict=True)
        assert len(ends) <= 64 and ends[-1] >= longest > ends[-1] - max(ends[0], 1)
        for end, start, total in zip(ends, (0, *ends), sums, strict=False):
            assert total == sum(range(start + 1, min(end, longest) + 1))


# Files of others.


def google_record(length: int = 16, predictions: int = 3, **other: object) -> bytes:
    """A record as Google's create_pretraining_data.py writes it."""

    def integers(values: list[int]) -> object:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    feature = {
        "input_ids": integers([2, 103, 1012, 3, 7, 3] + [0] * (length - 6)),
        "input_mask": integers([1] * 6 + [0] * (length - 6)),
        "segment_ids": integers([0] * 4 + [1] * 2 + [0] * (length - 6)),
        "masked_lm_positions": integers([1] + [0] * (predictions - 1)),
        "masked_lm_ids": integers([5000] + [0] * (predictions - 1)),
        "masked_lm_weights": tf.train.Feature(
            float_list=tf.train.FloatList(value=[1.0] + [0.0] * (predictions - 1))
        ),
        "next_sentence_labels": integers([1]),
    }
    for name, values in other.items():
        if values is None:
            del feature[name]
        else:
            feature[name] = integers(values)
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write_records(path: Path, records: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def test_googles_records_are_read(tmp_path):
    path = write_records(tmp_path / "google.tfrecord", [google_record()] * 3)
    examples = list(read_examples(path))
    assert len(examples) == 3
    ids, segments, label, positions, labels = single_example(examples[0])
    assert ids == (2, 103, 1012, 3, 7, 3) and segments == (0, 0, 0, 0, 1, 1)
    assert (label, positions, labels) == ((1,), (1,), (5000,))


FINETUNING = {
    **dict.fromkeys(
        ["masked_lm_positions", "masked_lm_ids", "masked_lm_weights", "next_sentence_labels"]
    ),
    "label_ids": [1],
    "is_real_example": [1],
}


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (
            [google_record(**FINETUNING)],
            "record 1 is not a pretraining example: it lacks masked_lm_positions, masked_lm_ids, "
            "masked_lm_weights, next_sentence_labels (it has input_ids, input_mask, "
            "is_real_example, label_ids, segment_ids)",
        ),
        ([google_record(), google_record(length=20)], "record 2: input_ids has 20 values"),
        ([google_record(segment_ids=[0])], "record 1: segment_ids has 1 values"),
        ([google_record(masked_lm_weights=[1, 0, 0])], "masked_lm_weights has 3 values of int64"),
        ([google_record(next_sentence_labels=[0, 1])], "next_sentence_labels has 2 values"),
        ([google_record(), b"\xff\xff"], "record 2: A record should be a tf.train.Example"),
    ],
)
def test_other_records_are_refused(tmp_path, records, message):
    path = write_records(tmp_path / "other.tfrecord", records)
    with pytest.raises(UserError) as failure:
        list(read_examples(path))
    assert message in str(failure.value)
    assert str(failure.value).startswith(f"{path}: record ")
    assert "\n" not in str(failure.value)


def test_damaged_gzip_gives_one_line(tmp_path):
    whole = gzip.compress(tfrecord.encode({"x": np.arange(3000).reshape(3, 1000)}))
    path = tmp_path / "some.tfrecord.gz"
    for damaged in (whole[:-9], whole[:200], whole[:20], b"no gzip", whole[:100] + whole[101:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"some\.tfrecord\.gz: record [1-4] "):
            list(read_records(path))


def test_facts_of_a_tokenizer():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "##c"]
    facts = VocabularyFacts.from_tokenizer(WordPieceTokenizer(pieces, True, True))
    assert (facts.cls_id, facts.sep_id, facts.mask_id, facts.vocab_size) == (2, 3, 4, 7)
    assert facts.continuation.tolist() == [False] * 6 + [True]


def test_a_shard_of_one_very_long_line(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    tokenizer = WordPieceTokenizer(pieces, True, True)
    text = tmp_path / "00000.txt"
    text.write_text("word word\n\n" + "word " * 200_000 + "\n\nword\nword\n\n", encoding="utf-8")
    tokens = read_tokens(text, tokenizer.encode_lines)
    for next_sentence in (True, False):
        wanted = RecordSettings(64, 10, next_sentence=next_sentence, dupe_factor=1, packing=True)
        facts = VocabularyFacts.from_tokenizer(tokenizer)
        statistics = write_shard(tmp_path / "records", tokens, wanted, facts, 1, 0)
        assert statistics.examples >= 3
        if not next_sentence:  # no token is lost
            assert statistics.tokens - 2 * statistics.examples == 200_004
