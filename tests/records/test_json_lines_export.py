"""Records written as JSON lines hold what the records hold."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.commands.convert import main
from lib.records.json_lines_export import write_json_lines
from lib.run import fingerprint
from lib.run.errors import UserError
from stages import records as stage
from tests.helpers.external_examples import (
    LENGTH,
    PREDICTIONS,
    as_objects,
    parsed,
    some_examples,
    write_objects,
    write_vocabulary,
)


@pytest.fixture
def make(tmp_path, monkeypatch, values):
    """Runs the stage on text of the vocabulary's words, or on the folder `source`."""
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


def objects_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_what_tensorflow_reads_in_the_record(make):
    records = make(compression="gzip")
    counts = write_json_lines(records, Path("lines"))
    names = ["train/00000", "train/00001", "dev/00000", "test/00000"]
    written = [path.relative_to("lines").as_posix() for path in Path("lines").rglob("*.*")]
    assert sorted(written) == sorted(f"{name}.jsonl" for name in names)
    for split in ("train", "dev", "test"):
        lines = 0
        for name in names:
            if name.startswith(split):
                found = objects_of(Path(f"lines/{name}.jsonl"))
                theirs = parsed([records / f"{name}.tfrecord.gz"], compression="GZIP")
                assert found == as_objects(theirs)
                lines += len(found)
        assert counts[split] == lines > 20


def test_lines_come_back_as_the_same_records(make):
    records = make()
    before = sorted(path.read_bytes() for path in records.rglob("*.tfrecord"))
    write_json_lines(records, Path("lines"))
    again = make("lines")
    assert sorted(path.read_bytes() for path in again.rglob("*.tfrecord")) == before


def test_single_segments_say_nothing_of_the_next(make):
    write_json_lines(make(next_sentence=False), Path("lines"), ["dev"], workers=2)
    assert [path.name for path in Path("lines").iterdir()] == ["dev"]
    (path,) = Path("lines/dev").iterdir()
    keys = {"input_ids", "attention_mask", "token_type_ids", "labels"}
    assert all(each.keys() == keys for each in objects_of(path))


def test_workers_do_not_matter(make):
    records = make()
    for workers in (1, 2):
        write_json_lines(records, Path(f"lines{workers}"), workers=workers)
    assert fingerprint.of_path(Path("lines1")) == fingerprint.of_path(Path("lines2"))


def test_examples_without_a_test_split_are_written(make):
    write_objects(Path("made/train.jsonl"), as_objects(some_examples(30, 1)))
    write_objects(Path("made/dev.jsonl"), as_objects(some_examples(8, 2)))
    counts = write_json_lines(make("made"), Path("lines"))
    assert counts == {"train": 30, "dev": 8, "test": 0}


@pytest.mark.parametrize(
    ("changes", "splits", "message"),
    [
        ({"packing": True}, (), "records.packing: false"),
        ({"masking": "dynamic"}, (), "train examples are not masked; .* records.masking: static"),
        ({}, ("valid",), "no split valid; there are train, dev, test"),
    ],
)
def test_what_cannot_be_written_is_refused(make, changes, splits, message):
    records = make(**changes)
    with pytest.raises(UserError, match=message) as failure:
        write_json_lines(records, Path("lines"), splits)
    assert str(failure.value).startswith("records/manifest.json: ")
    assert not Path("lines").exists()


def test_dev_of_dynamic_records_can_be_written(make):
    assert write_json_lines(make(masking="dynamic"), Path("lines"), ["dev"])["dev"] > 20


def test_folders_are_looked_at_first(make):
    records = make()
    with pytest.raises(UserError, match=r"shards/manifest\.json: no such file"):
        write_json_lines(Path("shards"), Path("lines"))
    with pytest.raises(UserError, match="shards: already exists"):
        write_json_lines(records, Path("shards"))
    (records / "manifest.json").write_text('{"format": "other"}', encoding="utf-8")
    with pytest.raises(UserError, match="not a manifest of records"):
        write_json_lines(records, Path("lines"))


def test_the_command_line(make, capsys, monkeypatch):
    make()
    monkeypatch.setattr(sys, "argv", ["convert", "records", "records", "lines", "--split", "dev"])
    main()
    assert "dev examples -> lines" in capsys.readouterr().out
    assert Path("lines/dev/00000.jsonl").exists()
