"""The benchmarks' own arithmetic; their figures are not for a test."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.common import inputs
from bench.common.processes import Measured, alternate, measure
from bench.common.project import Project
from bench.common.report import compare, table
from bench.data.data_preparation import CASES
from bench.data.statistics import file_statistics, rows_as_the_formula, welch
from bench.data.where import Stopwatch
from bench.training.probe import hashtag_task
from lib.commands.recipe import merge
from lib.params import load_params, parse_params
from lib.run.errors import UserError

ROOT = Path(__file__).parents[2]


def runs(*seconds: float, mib: float = 100.0) -> list[Measured]:
    return [Measured(one, one / 2, mib) for one in seconds]


def test_a_comparison_takes_medians_and_tells_the_range_of_pairs():
    result = compare("x", runs(1.0, 2.0, 9.0), runs(30.0, 40.0, 90.0, mib=500.0), bar=20)
    assert result["wall_ratio"] == 20.0 and result["passed"]
    assert (result["lowest"], result["highest"]) == (10.0, 30.0)
    assert result["memory_ratio"] == 5.0 and result["cpu_ratio"] == 20.0
    assert not compare("x", runs(2.0), runs(39.9), bar=20)["passed"]


def test_runs_alternate():
    order = []

    def run(name: str) -> Measured:
        order.append(name)
        return Measured(float(len(order)), 0.0, 1.0)

    first, second = alternate(lambda: run("a"), lambda: run("b"), 2)
    assert order == ["a", "b", "a", "b"]
    assert [one.wall_seconds for one in first] == [1.0, 3.0]
    assert [one.wall_seconds for one in second] == [2.0, 4.0]


def test_a_table_lines_up_and_says_no_loudly():
    text = table(
        [{"name": "short", "ratio": 19.96, "ok": False}, {"name": "longer", "ratio": 1234.5}],
        {"name": "against", "ratio": "ratio", "ok": "passed"},
    )
    assert text.splitlines() == [
        "against  ratio  passed",
        "short     20.0      NO",
        "longer   1,234       -",
    ]


def test_peak_memory_is_that_of_the_child_however_fat_the_starter(tmp_path):
    ballast = b"x" * (150 << 20)
    small = measure([sys.executable, "-c", "pass"], tmp_path)
    large = measure([sys.executable, "-c", "print(len(b'x' * (100 << 20)))"], tmp_path)
    assert len(ballast) and small.peak_mib < 60
    assert 100 < large.peak_mib < 160
    assert (tmp_path / "output.log").read_text() == f"{100 << 20}\n"


def test_peaks_of_parent_and_worker_are_told_apart(tmp_path):
    worker = "import time; kept = b'x' * (90 << 20); time.sleep(0.3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    own, other = measure([sys.executable, "-c", parent], tmp_path, each=True).peaks_mib.values()
    assert own < 60 and other > 90


def test_a_failed_command_shows_the_end_of_its_output(tmp_path):
    with pytest.raises(UserError, match=r"failed \(3\): so it is"):
        measure([sys.executable, "-c", "print('so it is'); raise SystemExit(3)"], tmp_path)


def test_a_command_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UserError, match="no-such-command: cannot be started"):
        measure(["no-such-command"], tmp_path)


def test_seconds_are_counted_for_the_innermost_part():
    clock = iter([0.0, 1.0, 3.0, 6.0, 10.0])
    watch = Stopwatch(lambda: next(clock))
    inner = watch.watch("inner", lambda: None)
    watch.watch("outer", inner)()
    assert watch.seconds == {"rest": 1.0, "outer": 2.0 + 4.0, "inner": 3.0}


def test_welch_against_a_value_computed_by_hand():
    # Means 2 and 5, variances 1 and 4 of three values each: -3 / sqrt(1/3 + 4/3).
    assert welch([1, 2, 3], [3, 5, 7]) == pytest.approx(-3 / math.sqrt(5 / 3))
    assert welch([4, 4], [4, 4]) == 0
    assert welch([5, 5], [4, 4]) == math.inf


def features() -> dict[str, np.ndarray]:
    """Two rows of eight cells: [CLS] 1 2 [SEP] 3 4 [SEP], and one cell shorter."""
    return {
        "input_ids": np.array([[90, 1, 99, 91, 3, 7, 91, 0], [90, 99, 2, 91, 3, 91, 0, 0]]),
        "input_mask": np.array([[1] * 7 + [0], [1] * 6 + [0] * 2]),
        "segment_ids": np.array([[0] * 4 + [1] * 3 + [0], [0] * 4 + [1] * 2 + [0] * 2]),
        "masked_lm_positions": np.array([[2, 5], [1, 0]]),
        "masked_lm_ids": np.array([[2, 4], [1, 0]]),
        "masked_lm_weights": np.array([[1, 1], [1, 0]], np.float32),
        "next_sentence_labels": np.array([[1], [0]]),
    }


def test_statistics_of_two_rows_counted_by_hand():
    found = file_statistics(features(), mask_id=99, max_seq_length=7)
    assert found["pairs"] == 2 and found["length, mean"] == 6.5 and found["full rows"] == 0.5
    assert found["random next"] == 0.5 and found["second segment, mean"] == 2.5
    assert found["masked share of tokens"] == pytest.approx(3 / 13)
    assert found["shown as [MASK]"] == pytest.approx(2 / 3)
    assert found["shown as another"] == pytest.approx(1 / 3)
    assert found["shown as they are"] == 0


def test_the_formula_for_predictions_excuses_only_whole_words_that_do_not_fit():
    # round(7 * 0.3) = 2 and round(6 * 0.3) = 2: the second row has one too few...
    assert rows_as_the_formula(features(), 0.3, 20, None) == 0.5
    single = np.zeros(100, bool)
    assert rows_as_the_formula(features(), 0.3, 20, single) == 0.5
    # ... which is right if what is left there is one word of two pieces and one of one: no;
    pieces = single.copy()
    pieces[2] = True
    assert rows_as_the_formula(features(), 0.3, 20, pieces) == 0.5
    # ... and if all that is left is a word of two pieces: yes.
    pieces[3] = True
    row = {name: matrix[1:].copy() for name, matrix in features().items()}
    row["input_ids"][0] = [90, 99, 91, 2, 3, 91, 0, 0]
    row["segment_ids"][0] = [0, 0, 0, 1, 1, 1, 0, 0]
    pieces[2] = False
    assert rows_as_the_formula(row, 0.3, 20, pieces) == 1


def test_wikitext_articles_become_documents(tmp_path):
    raw = " \n = One = \n \n A line .\n = = Part = = \n Another .\n \n = Two = \n Third .\n"
    (tmp_path / "raw.txt").write_text(raw)
    inputs.wikitext_documents(tmp_path / "raw.txt", tmp_path / "out.txt")
    assert [
        part.split("\n") for part in (tmp_path / "out.txt").read_text().strip().split("\n\n")
    ] == [
        ["= One =", "A line .", "= = Part = =", "Another ."],
        ["= Two =", "Third ."],
    ]


def test_an_enlarged_text_has_no_equal_documents(tmp_path):
    (tmp_path / "small.txt").write_text("One. Two.\n\nThree.\n")
    inputs.enlarged(tmp_path / "small.txt", 1, 2, tmp_path / "large")
    texts = [path.read_text() for path in sorted((tmp_path / "large").iterdir())]
    documents = "".join(texts).split("\n\n")[:-1]
    assert len(texts) == 2 and len(documents) == len(set(documents))
    assert 1_000_000 <= sum(map(len, texts)) < 1_001_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_settings_of_every_case_are_valid_params(case, values):
    merge(values, case.params())
    parse_params(values)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--google", "nowhere"], "bench: error: --google nowhere: no create_pretraining_data.py"),
        (["--vocab", "nowhere"], "bench: error: --vocab nowhere: no such file"),
    ],
)
def test_what_is_missing_gives_one_clear_line(options, said):
    command = [sys.executable, "-m", "bench.data.data_preparation", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(said) and run.stderr.count("\n") == 1


def test_what_is_not_given_is_skipped_with_a_line_each(tmp_path):
    command = [sys.executable, "-m", "bench.data.data_preparation", "--work", tmp_path / "work"]
    command += ["--out", tmp_path / "out.json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for case in CASES:
        assert f"skipped: {case.name} (give --{case.peer}" in run.stdout
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []


def test_no_tweet_of_the_task_is_pretrained_on():
    tweets = [f"a walk in the sun number {number} #Sun" for number in range(9)]
    tweets += [f"so much rain on day {number} #rain #wet" for number in range(8)]
    tweets += ["both of them in a day #sun #rain", "too short #sun", "no tag in this one #fog"]
    labelled, others = hashtag_task([*tweets, tweets[0]], classes=2, examples=5)
    assert sorted(row["label"] for row in labelled) == ["#rain"] * 5 + ["#sun"] * 5
    assert len({row["text"] for row in labelled}) == 10
    for row in labelled:
        assert row["label"] not in row["text"].lower()
        assert row["text"].endswith("#wet") == (row["label"] == "#rain")
    # Nor any other that holds one of the answers.
    assert others == ["no tag in this one #fog"]


def test_a_project_has_the_params_of_its_bench_and_else_those_of_this_one(tmp_path, values):
    changes = {"phases": {"main": {"max_seq_length": 48}}, "cluster": {"workers": 3}}
    found = load_params(Project(tmp_path / "project", changes).folder / "params.yaml")
    merge(values, changes)
    assert found == parse_params(values)
