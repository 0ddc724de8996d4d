"""Repeated runs with other seeds: their file, and what report and model card show of them."""

import json

import pytest

from lib.evaluation.metrics import METRICS
from lib.report.repeats import Repeat, Repeats, mean_and_deviation, repeats_of
from lib.run.errors import UserError

BITS, ACCURACY = METRICS["bits_per_character"], METRICS["mlm_accuracy"]


def repeats(*values: float) -> Repeats:
    return Repeats(
        "pretrain.seed",
        [
            Repeat(number, f"repeat-{number}", 40 * "a", {"bits_per_character": value})
            for number, value in enumerate(values, start=1)
        ],
    )


def test_mean_and_sample_standard_deviation():
    assert mean_and_deviation(BITS, [1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert mean_and_deviation(ACCURACY, [0.5, 0.52]) == "51.0% ± 1.4%"
    assert mean_and_deviation(BITS, [1.5]) == "1.500"


def test_the_file_is_read_as_written(tmp_path):
    written = repeats(1.5, 1.7)
    written.write(tmp_path)
    assert Repeats.read(tmp_path) == written
    summary = json.loads((tmp_path / "repeats.json").read_text())["summary"]
    assert summary["bits_per_character"] == {
        "mean": pytest.approx(1.6),
        "sd": pytest.approx(0.02**0.5),
    }
    assert written.described() == "2 runs with pretrain.seed 1, 2"


def test_it_belongs_to_the_models_that_were_repeated_only(tmp_path):
    assert repeats_of(tmp_path, {"bits_per_character": 1.5}) is None
    repeats(1.5, 1.7).write(tmp_path)
    assert repeats_of(tmp_path, {"bits_per_character": 1.7, "words": 3})
    assert repeats_of(tmp_path, {"bits_per_character": 1.6}) is None
    assert repeats_of(tmp_path, {}) is None


def test_a_metric_that_a_run_lacks_has_no_mean():
    first, second = repeats(1.5, 1.7).runs
    partly = Repeats("pretrain.seed", [first, Repeat(2, "b", "c", {})])
    assert partly.written(BITS) == "" and partly.of_metrics() == []
    assert Repeats("pretrain.seed", [first, second]).written(BITS) == "1.600 ± 0.141"


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"varied": "pretrain.seed", "runs": []}',
        '{"varied": "pretrain.seed", "runs": [{"seed": 1}, {"seed": 2}]}',
        '{"varied": "pretrain.seed", "runs": 3}',
        "{",
    ],
)
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "repeats.json").write_text(content)
    with pytest.raises(UserError, match=r"repeats\.json: "):
        Repeats.read(tmp_path)
