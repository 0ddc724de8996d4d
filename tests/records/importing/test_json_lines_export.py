"""JSON lines hold what the records hold."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.commands.convert import main
from lib.records.importing.json_lines_export import write_json_lines
from lib.run import fingerprint
from lib.run.errors import UserError
from stages import records as stage
from tests.helpers.external_examples import (
    LENGTH,
    PREDICTIONS,
    as_objects,
    some_examples,
    write_objects,
    write_vocabulary,
)
from tests.helpers.records import read_unpacked


@pytest.fixture
def make_records(tmp_path, monkeypatch, values):
    """Runs the records stage on text of the vocabulary's words, or on the folder `source`."""
    monkeypatch.chdir(tmp_path)
    write_vocabulary(tmp_path / "vocab")
    draw = np.random.default_rng(1)
    for split, shards in (("train", 2), ("dev", 1), ("test", 1)):
        (tmp_path / "shards" / split).mkdir(parents=True)
        for shard in range(shards):
            lines = [
                " ".join(f"w{number}" for number in draw.integers(0, 295, draw.integers(2, 9)))
                + ("\n" if end else "")
                for end in draw.random(200) < 0.2
            ]
            path = tmp_path / "shards" / split / f"{shard:05d}.txt"
            path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")

    def run(source: str = "shards", **changes: object) -> Path:
        values["records"].update(
            source="data/shards" if source == "shards" else source,
            dupe_factor=2,
            max_predictions_per_seq=PREDICTIONS,
            masked_lm_prob=0.3,
            **changes,
        )
        values["phases"]["main"]["max_seq_length"] = LENGTH
        values["cluster"]["workers"] = 1
        Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
        stage.main("main", Path(source), Path("vocab"), Path("records"))
        return Path("records")

    return run


def read_objects(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_holds_what_tensorflow_reads_from_the_record(make_records):
    records = make_records(compression="gzip")
    counts = write_json_lines(records, Path("lines"))
    names = ["train/00000", "train/00001", "dev/00000", "test/00000"]
    written = [path.relative_to("lines").as_posix() for path in Path("lines").rglob("*.*")]
    assert sorted(written) == sorted(f"{name}.jsonl" for name in names)
    for split in ("train", "dev", "test"):
        lines = 0
        for name in names:
            if name.startswith(split):
                found = read_objects(Path(f"lines/{name}.jsonl"))
                path = records / f"{name}.tfrecord.gz"
                theirs = read_unpacked([path], LENGTH, PREDICTIONS, "GZIP")
                assert found == as_objects(theirs)
                lines += len(found)
        assert counts[split] == lines > 20


def test_imported_lines_give_the_same_records(make_records):
    records = make_records()
    before = sorted(path.read_bytes() for path in records.rglob("*.tfrecord"))
    write_json_lines(records, Path("lines"))
    again = make_records("lines")
    assert sorted(path.read_bytes() for path in again.rglob("*.tfrecord")) == before


def test_single_segments_have_no_next_sentence_label(make_records):
    write_json_lines(make_records(next_sentence=False), Path("lines"), ["dev"], workers=2)
    assert [path.name for path in Path("lines").iterdir()] == ["dev"]
    (path,) = Path("lines/dev").iterdir()
    keys = {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert all(each.keys() == keys for each in read_objects(path))


def test_the_number_of_workers_changes_nothing(make_records):
    records = make_records()
    for workers in (1, 2):
        write_json_lines(records, Path(f"lines{workers}"), workers=workers)
    assert fingerprint.of_path(Path("lines1")) == fingerprint.of_path(Path("lines2"))


def test_a_missing_test_split_is_fine(make_records):
    write_objects(Path("external/train.jsonl"), as_objects(some_examples(30, 1)))
    write_objects(Path("external/dev.jsonl"), as_objects(some_examples(8, 2)))
    counts = write_json_lines(make_records("external"), Path("lines"))
    assert counts == {"train": 30, "dev": 8, "test": 0}


@pytest.mark.parametrize(
    ("changes", "splits", "message"),
    [
        ({"packing": True}, (), "records.packing: false"),
        ({"masking": "dynamic"}, (), "train examples are not masked; .* records.masking: static"),
        ({}, ("valid",), "no split valid; there are train, dev, test"),
    ],
)
def test_packed_and_unmasked_records_and_unknown_splits_are_refused(
    make_records, changes, splits, message
):
    records = make_records(**changes)
    with pytest.raises(UserError, match=message) as failure:
        write_json_lines(records, Path("lines"), splits)
    assert str(failure.value).startswith("records/manifest.json: ")
    assert not Path("lines").exists()


def test_dev_of_dynamic_records_can_be_exported(make_records):
    assert write_json_lines(make_records(masking="dynamic"), Path("lines"), ["dev"])["dev"] > 20


def test_wrong_folders_are_refused(make_records):
    records = make_records()
    with pytest.raises(UserError, match=r"shards/manifest\.json: no such file"):
        write_json_lines(Path("shards"), Path("lines"))
    with pytest.raises(UserError, match="shards: already exists"):
        write_json_lines(records, Path("shards"))
    (records / "manifest.json").write_text('{"format": "other"}', encoding="utf-8")
    with pytest.raises(UserError, match="not a manifest of records"):
        write_json_lines(records, Path("lines"))


def test_the_command_line(make_records, capsys, monkeypatch):
    make_records()
    monkeypatch.setattr(sys, "argv", ["convert", "records", "records", "lines", "--split", "dev"])
    main()
    assert "dev examples -> lines" in capsys.readouterr().out
    assert Path("lines/dev/00000.jsonl").exists()
