"""Event files, read back as TensorBoard reads them."""

from contextlib import closing
from pathlib import Path

import pytest
import tensorflow as tf

from lib.train.logging.event_files import EventFiles

Point = tuple[int, str, float]


def files(folder: Path) -> list[Path]:
    """TensorBoard takes every file with this in its name."""
    return [path for path in folder.iterdir() if "tfevents" in path.name]


def points(file: Path) -> list[Point]:
    """(step, name, value) of all scalars in a file, in their order."""
    found = []
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            found.append((event.step, value.tag, float(tf.make_ndarray(value.tensor))))
    return found


def test_scalars_can_be_read_back(tmp_path):
    with closing(EventFiles(tmp_path / "new/main")) as events:
        events.log(10, {"train/mlm_loss": 6.5, "learning_rate": 2e-4})
        events.log(3_000_000_000, {"train/mlm_loss": float("inf")})
    (file,) = files(tmp_path / "new/main")
    assert points(file) == [
        (10, "train/mlm_loss", 6.5),
        (10, "learning_rate", pytest.approx(2e-4)),
        (3_000_000_000, "train/mlm_loss", float("inf")),
    ]


def test_points_can_be_read_before_the_end(tmp_path):
    events = EventFiles(tmp_path)
    events.log(1, {"loss": 3})
    assert points(files(tmp_path)[0]) == [(1, "loss", 3.0)]
    events.close()


def test_a_resumed_run_adds_a_file_and_repeats_equal_points(tmp_path):
    for steps in (range(1, 5), range(3, 7)):
        with closing(EventFiles(tmp_path)) as events:
            for step in steps:
                events.log(step, {"loss": 1 / step})
    first, second = sorted(map(points, files(tmp_path)))
    assert [step for step, _, _ in first] == [1, 2, 3, 4]
    assert [step for step, _, _ in second] == [3, 4, 5, 6]
    assert first[2:] == second[:2]


def test_an_error_keeps_what_was_logged_before(tmp_path):
    with pytest.raises(ZeroDivisionError), closing(EventFiles(tmp_path)) as events:
        events.log(1, {"loss": 1.0})
        raise ZeroDivisionError
    assert points(files(tmp_path)[0]) == [(1, "loss", 1.0)]


def test_it_works_within_a_strategy_and_alongside_another_writer(tmp_path):
    other = tf.summary.create_file_writer(str(tmp_path / "other"))
    with (
        tf.distribute.OneDeviceStrategy("/cpu:0").scope(),
        other.as_default(step=1),
        closing(EventFiles(tmp_path / "own")) as events,
    ):
        events.log(7, {"loss": 2.0})
    other.close()
    assert points(files(tmp_path / "own")[0]) == [(7, "loss", 2.0)]
    assert points(files(tmp_path / "other")[0]) == []
