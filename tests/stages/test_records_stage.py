"""The records stage on text: kinds of records, manifest, metrics, plots."""

import gzip
import hashlib
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.params import parse_params
from lib.records.manifest import read_manifest, record_files
from lib.records.settings import RecordSettings
from lib.records.tfrecord_reader import decode, read_records
from lib.run import fingerprint
from lib.run.errors import UserError
from stages import check
from stages import records as stage
from tests.helpers.project import sentences
from tests.helpers.records import VOCABULARY, read_packed, serialized_records, unpack


@pytest.fixture
def run_stage(tmp_path, monkeypatch, values):
    """A folder with shards and a vocabulary of letters and some words; runs the stage on it."""
    monkeypatch.chdir(tmp_path)
    for split, shards, seed in (("train", 5, 0), ("dev", 1, 50), ("test", 1, 60)):
        (tmp_path / "shards" / split).mkdir(parents=True)
        for shard in range(shards):
            lines = sentences(120, seed + shard)
            text = "".join(
                "\n".join(lines[start : start + 4]) + "\n\n" for start in range(0, 120, 4)
            )
            (tmp_path / "shards" / split / f"{shard:05d}.txt").write_text(text, encoding="utf-8")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789."
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "times",
        "a",
        "##ing",
        "pilot",
    ]
    vocabulary += [letter for letter in letters if letter != "a"]
    vocabulary += [f"##{letter}" for letter in letters]
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab/vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (tmp_path / "vocab/tokenizer_config.json").write_text("{}", encoding="utf-8")

    def run(target: str, workers: int = 1, **changes: object) -> Path:
        values["records"].update(dupe_factor=3, **changes)
        values["phases"]["main"]["max_seq_length"] = 64
        values["cluster"]["workers"] = workers
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        stage.main("main", Path("shards"), Path("vocab"), Path(target))
        return Path(target)

    return run


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(run_stage):
    results = []
    for workers in (1, 2, 5):
        folder = run_stage(
            "records", workers, packing=True, whole_word_mask=True, compression="gzip"
        )
        results.append(
            {
                path.as_posix(): fingerprint.of_file(path)
                for path in [*folder.rglob("*"), *Path("results/records").rglob("*")]
                if path.is_file()
            }
        )
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 7 + 1 + 3  # record files, manifest, metrics and two plots


def test_manifest_and_metrics_describe_the_records(run_stage):
    folder = run_stage("records", packing=True, max_examples_per_pack=5)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["seed"] == 12345
    assert manifest["settings"]["dupe_factor"] == 3
    assert manifest["examples_per_sequence"] == 5
    for name, digest in manifest["vocabulary_md5"].items():
        assert digest == hashlib.md5((Path("vocab") / name).read_bytes()).hexdigest()
    settings = RecordSettings(64, 10, packing=True, max_examples_per_pack=5)
    assert manifest["predictions_per_sequence"] == settings.predictions_per_sequence()
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    for split, facts in manifest["splits"].items():
        assert facts["dupe_factor"] == (3 if split == "train" else 1)
        sequences = []
        for shard in facts["shards"]:
            own = read_packed(folder / shard["file"], settings)
            assert shard["sequences"] == len(own)
            assert shard["examples"] == sum(
                int(each["next_sentence_weights"].sum()) for each in own
            )
            text = Path("shards", shard["source"]).read_bytes()
            assert shard["source_md5"] == hashlib.md5(text).hexdigest()
            sequences += own
        examples = list(itertools.chain.from_iterable(map(unpack, sequences)))
        tokens = sum(len(example[0]) for example in examples)
        masked = sum(len(example[3]) for example in examples)
        expected = {
            "sequences": len(sequences),
            "examples": len(examples),
            "tokens": tokens,
            "fill": tokens / (64 * len(sequences)),
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


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({}, "records.next_sentence: false, or preprocess.document"),
        ({"random_next_prob": 0.0}, None),
        ({"next_sentence": False}, None),
    ],
)
def test_pairs_of_documents_of_one_sentence_are_reported(run_stage, capsys, changes, fix):
    for path in Path("shards").rglob("*.txt"):
        path.write_text("".join(f"{line}\n\n" for line in sentences(120, 3)), encoding="utf-8")
    run_stage("records", **changes)
    notes = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    if changes.get("next_sentence", True):
        assert notes[-1].startswith("records: main: note: 100.0% of the training pairs have a ran")
        assert "records.next_sentence: false" in notes[-1]
    assert [fix in note for note in notes] == [True] if fix else len(notes) < 2


def test_mixed_pairs_are_not_reported_and_one_sided_draws_are(run_stage, capsys):
    run_stage("records")
    assert capsys.readouterr().err.count("note") == 0
    run_stage("always", random_next_prob=1.0)
    assert "records.random_next_prob: 0.5" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["part-1.txt", "1.txt", "00001.text"])
def test_shards_of_other_names_are_refused(run_stage, name):
    Path("shards/train", name).write_text("A.\n\n", encoding="utf-8")
    with pytest.raises(UserError, match=f"{name}: text shards are called 00000.txt"):
        run_stage("records")
    shutil.rmtree("shards/dev")
    Path("shards/train", name).unlink()
    with pytest.raises(UserError, match="shards/dev: no such folder"):
        run_stage("records")


def test_records_of_another_vocabulary_are_refused(run_stage, values):
    folder = run_stage("records", masking="static")
    manifest = read_manifest(folder)
    manifest.check_vocabulary(folder, Path("vocab"), manifest.vocabulary_md5)
    with Path("vocab/vocab.txt").open("a") as stream:
        stream.write("extra\n")
    with pytest.raises(UserError, match=r"vocab/vocab\.txt: not the vocabulary that records was"):
        manifest.check_vocabulary(folder, Path("vocab"), ["vocab.txt"])
    # As external examples, too.
    values["records"]["source"] = "records"
    text = yaml.safe_dump(values)
    Path("params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="not the vocabulary that records was made with"):
        stage.main("main", Path("records"), Path("vocab"), Path("imported"))


def test_dev_and_test_are_the_same_with_dynamic_masks(run_stage):
    static, dynamic = (run_stage(kind, masking=kind) for kind in ("static", "dynamic"))
    for split in "dev", "test":
        assert fingerprint.of_path(static / split) == fingerprint.of_path(dynamic / split)
    assert fingerprint.of_path(static / "train") != fingerprint.of_path(dynamic / "train")
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    assert "masked_fraction" in metrics["dev"] and "masked_fraction" not in metrics["train"]


@pytest.mark.parametrize("packing", [False, True])
def test_the_masking_rate_of_a_phase_is_that_of_its_training_records(run_stage, values, packing):
    from lib.train.input import evaluation_batches, training_batches

    common = run_stage("common", packing=packing)
    values["phases"]["main"]["masked_lm_prob"] = 0.3
    own = run_stage("own", packing=packing)
    for split in "dev", "test":
        assert fingerprint.of_path(common / split) == fingerprint.of_path(own / split)
    metrics = json.loads(Path("results/records/main/metrics.json").read_text(encoding="utf-8"))
    assert metrics["train"]["masked_fraction"] == pytest.approx(0.3, abs=0.01)
    assert metrics["dev"]["masked_fraction"] == pytest.approx(0.15, abs=0.01)
    before, manifest = read_manifest(common), read_manifest(own)
    assert (before.masked_lm_prob, manifest.masked_lm_prob) == (0.15, 0.3)
    # The records of each split have slots for their own predictions, and are read.
    dev, train = before.predictions_per_sequence, manifest.predictions_per_sequence
    assert dev < train
    for shape, batches in (
        (
            train,
            training_batches(own, manifest, VOCABULARY, batch_size=2, steps=1, buffer=9, seed=1),
        ),
        (dev, evaluation_batches(own, manifest, "dev", 2)),
    ):
        assert next(iter(batches))["masked_lm_positions"].shape == (2, shape)


def test_the_manifest_names_only_what_earlier_versions_did_not_do(run_stage):
    """So that equal records have equal manifests."""
    new = {"mask_replace_prob", "random_replace_prob", "whole_sentences"}
    for changes, named in (
        ({}, {}),
        ({"next_sentence": False, "whole_sentences": True}, {}),
        ({"whole_sentences": False}, {"whole_sentences": False}),
        (
            {"next_sentence": True, "mask_replace_prob": 1.0, "random_replace_prob": 0.0},
            {"mask_replace_prob": 1.0, "random_replace_prob": 0.0},
        ),
    ):
        folder = run_stage("records", **changes)
        settings = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["settings"]
        assert {key: settings[key] for key in settings.keys() & new} == named
    manifest = read_manifest(folder)
    assert (manifest.mask_replace_prob, manifest.random_replace_prob) == (1.0, 0.0)


def test_sequences_that_few_examples_fill_are_reported(run_stage, capsys):
    """Documents of 4 tokens, of which six would leave half of a sequence empty."""
    text = "the pilot\n\n" * 400
    for path in Path("shards").rglob("*.txt"):
        path.write_text(text, encoding="utf-8")
    options = {"packing": True, "next_sentence": False, "whole_sentences": False}
    run_stage("few", **options)
    assert "hold 6 examples, as many as records.max_examples_per_pack" in capsys.readouterr().out
    run_stage("many", **options, max_examples_per_pack=16)
    output = capsys.readouterr().out
    assert "max_examples_per_pack" not in output and "100.0% full" in output


def test_check_writes_what_a_phase_overrides(tmp_path, monkeypatch, values):
    values["phases"]["decay"] = {"max_seq_length": 32, "init": "models/main", "masked_lm_prob": 0.1}
    monkeypatch.setattr(check, "load_params", lambda: parse_params(values))
    monkeypatch.setattr(check, "stages", lambda root: [])
    check.main(tmp_path / "code", tmp_path / "phases")
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "phases").iterdir()}
    assert found == {"main.json": {}, "decay.json": {"masked_lm_prob": 0.1}}


def test_gzip_files_hold_the_same_records_and_no_date(run_stage):
    plain, zipped = run_stage("plain"), run_stage("zipped", compression="gzip")
    first = (zipped / "train/00000.tfrecord.gz").read_bytes()
    assert gzip.decompress(first) == (plain / "train/00000.tfrecord").read_bytes()
    assert first[3:8] == bytes(5)  # no name, no time
    manifest = read_manifest(zipped)
    files = record_files(zipped, manifest, "train")
    assert [path.name for path in files] == [f"{n:05d}.tfrecord.gz" for n in range(5)]
    ours = itertools.chain.from_iterable(map(read_records, files))
    assert serialized_records(files, manifest.compression) == list(ours)


def test_training_reads_gzip_and_plain_records_alike(run_stage):
    from lib.train.input import evaluation_batches, training_batches

    batches = []
    for compression in "none", "gzip":
        folder = run_stage(compression, compression=compression)
        manifest = read_manifest(folder)
        train = training_batches(
            folder, manifest, VOCABULARY, batch_size=8, steps=3, buffer=50, seed=1
        )
        dev = evaluation_batches(folder, manifest, "dev", 8)
        batches.append([batch["input_ids"].numpy() for batch in (*train.take(3), *dev)])
    assert len(batches[0]) == len(batches[1]) > 3
    assert all((one == other).all() for one, other in zip(*batches, strict=True))


def test_other_manifests_are_refused(run_stage):
    folder = run_stage("records")
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


def test_a_split_without_examples_is_refused(run_stage):
    Path("shards/dev/00000.txt").unlink()
    with pytest.raises(UserError, match=r"shards/dev: .*raise split\.dev_fraction"):
        run_stage("records")
    assert not Path("records").exists()
    assert not list(Path().glob(".*tmp*"))


def test_special_tokens_in_the_text_are_harmless(run_stage):
    Path("shards/train/00000.txt").write_text("[SEP] the [CLS] pilot\na [MASK].\n\n" * 40)
    for number, changes in enumerate(({}, {"packing": True, "whole_word_mask": True})):
        folder = run_stage(f"records{number}", **changes)
        assert all(map(decode, read_records(folder / "train/00000.tfrecord")))
