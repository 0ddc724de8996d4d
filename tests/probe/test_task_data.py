"""Training and test parts of a labelled task, and the checks of its settings."""

import pytest

from lib.params import parse_params
from lib.probe.task_data import read_task
from lib.run.errors import UserError
from tests.helpers.labelled import CLASSIFICATION, write_texts

PHASES = {"main": {"max_seq_length": 32, "init": "data/vocab"}}


def test_files_named_train_dev_and_test_are_used_as_such(tmp_path):
    write_texts(tmp_path / "x/train.csv", [("one", "a"), ("two", "b")])
    write_texts(tmp_path / "x/more.csv", [("three", "a")])
    write_texts(tmp_path / "x/valid.csv", [("four", "a")])
    (tmp_path / "x/README.md").write_text("About it.")
    task = CLASSIFICATION
    # Without a test part, the dev part serves as one.
    assert [x.words for x in read_task(tmp_path / "x", task).test] == [("four",)]
    write_texts(tmp_path / "x/test/part.csv", [("five", "a")])
    data = read_task(tmp_path / "x", task)
    assert [x.words[0] for x in data.train] == ["one", "two", "three"]
    assert [x.words[0] for x in data.test] == ["five"]
    assert "the dev part is not used" in data.notes and "README.md" in data.notes[0]


def test_a_name_that_resembles_a_part_is_not_trained_on_in_silence(tmp_path):
    write_texts(tmp_path / "x/train.csv", [("one", "a"), ("two", "b")])
    write_texts(tmp_path / "x/val.csv", [("three", "a")])
    assert [x.words for x in read_task(tmp_path / "x", CLASSIFICATION).test] == [("three",)]
    write_texts(tmp_path / "x/test_en.csv", [("four", "a")])
    with pytest.raises(UserError, match=r"not: test_en\.csv\?.*rename what is held out"):
        read_task(tmp_path / "x", CLASSIFICATION)
    texts = [(f"text {number}", "ab"[number % 2]) for number in range(40)]
    write_texts(tmp_path / "y/test_of_time.csv", texts)
    write_texts(tmp_path / "y/other.csv", texts)
    assert any(
        "test_of_time.csv: not for tests" in n
        for n in read_task(tmp_path / "y", CLASSIFICATION).notes
    )


def test_without_such_names_examples_are_split_by_hash(tmp_path):
    texts = [(f"text {number % 400}", "ab"[number % 2]) for number in range(500)]
    write_texts(tmp_path / "test.csv", texts[:450])
    before = read_task(tmp_path / "test.csv", CLASSIFICATION)  # a single file is not the test part
    assert 0.15 < len(before.test) / 450 < 0.25
    # Equal texts are in the same part, and new texts do not move old ones.
    assert not {x.words for x in before.train} & {x.words for x in before.test}
    write_texts(tmp_path / "test.csv", texts[::-1])
    after = read_task(tmp_path / "test.csv", CLASSIFICATION)
    assert {x.words for x in before.test} <= {x.words for x in after.test}
    assert {x.words for x in before.train} <= {x.words for x in after.train}


def test_a_task_without_enough_examples_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file for classification"):
        read_task(tmp_path, CLASSIFICATION)
    write_texts(tmp_path / "test.csv", [("x", "a")])
    with pytest.raises(UserError, match="no examples for training"):
        read_task(tmp_path, CLASSIFICATION)
    write_texts(tmp_path / "train.csv", [("x", "a"), ("y", "a")])
    with pytest.raises(UserError, match="all training examples have the same label"):
        read_task(tmp_path, CLASSIFICATION)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "parsing"}, "'classification' or 'tagging'"),
        ({"label_field": 2}, "label_field should be the name of a field"),
        ({"kind": "tagging"}, "text_field should be the number of a column"),
        ({"baseline": "models/main/"}, "baseline should differ from model"),
        ({"seeds": 0}, "greater than or equal to 1"),
        ({"epoch": 3}, "did you mean `epochs`"),
    ],
)
def test_wrong_settings_of_a_task_are_refused_in_one_line(changes, message):
    task = CLASSIFICATION.model_dump() | changes
    with pytest.raises(UserError) as error:
        parse_params({"phases": PHASES, "probe": {"tasks": {"mood": task}}})
    assert "probe.tasks.mood" in str(error.value) and message in str(error.value)


def test_there_are_no_tasks_by_default():
    assert parse_params({"phases": PHASES}).probe.tasks == {}
