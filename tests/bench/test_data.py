"""The benchmarks of the data stages; their figures are not tested."""

import json
import math
import subprocess
import sys
from pkgutil import resolve_name

import numpy as np
import pytest

from bench import ROOT
from bench.data import sentences, where
from bench.data.data_preparation import CASES
from bench.data.statistics import file_statistics, fraction_with_expected_predictions, welch
from lib.commands.recipe import merge
from lib.params import parse_params


def test_seconds_count_for_the_innermost_part():
    clock = iter([0.0, 1.0, 3.0, 6.0, 10.0])
    stopwatch = where.Stopwatch(lambda: next(clock))
    inner = stopwatch.watch("inner", lambda: None)
    stopwatch.watch("outer", inner)()
    assert stopwatch.seconds == {"rest": 1.0, "outer": 2.0 + 4.0, "inner": 3.0}


@pytest.mark.parametrize("stage", where.PARTS)
def test_functions_of_the_profile_exist(stage):
    for names in where.PARTS[stage].values():
        for name in names:
            assert callable(resolve_name(name)), name


def test_welch_against_a_value_computed_by_hand():
    # Means 2 and 5, variances 1 and 4 of three values each: -3 / sqrt(1/3 + 4/3).
    assert welch([1, 2, 3], [3, 5, 7]) == pytest.approx(-3 / math.sqrt(5 / 3))
    assert welch([4, 4], [4, 4]) == 0
    assert welch([5, 5], [4, 4]) == math.inf


TREEBANK = """# newdoc
# text = Hi  there.
1\tHi\t_\t_\t_\t_\t_\t_\t_\t_
2\tthere\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
3\t.\t_\t_\t_\t_\t_\t_\t_\t_

# text = 好。
1\t好\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2-3\t。\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\t。\t_\t_\t_\t_\t_\t_\t_\t_
3\t。\t_\t_\t_\t_\t_\t_\t_\t_

# newpar
# text = Dr. A is here.
1\tDr.\t_\t_\t_\t_\t_\t_\t_\t_

# text = Yes
1\tYes\t_\t_\t_\t_\t_\t_\t_\t_

"""


def test_sentences_of_a_treebank_are_joined_as_it_says(tmp_path):
    path = tmp_path / "en_x-ud-test.conllu"
    path.write_text(TREEBANK, encoding="utf-8")
    texts = sentences.read_texts(path)
    assert [sentences.joined(each) for each in texts] == ["Hi there. 好。", "Dr. A is here. Yes"]


def test_score_of_sentences_counted_by_hand(tmp_path):
    path = tmp_path / "en_x-ud-test.conllu"
    path.write_text(TREEBANK, encoding="utf-8")
    # Two boundaries (in either text one); one of them found, and a wrong one.
    split = [["Hi there.", "好。"], ["Dr.", "A is here. Yes"]]
    found, errors = sentences.score(sentences.read_texts(path), lambda texts: split)
    assert found == 100 * 2 * 1 / (2 + 2)
    assert errors == [("wrong", "Dr. |A is here. Yes"), ("missed", "Dr. A is here. |Yes")]


def features() -> dict[str, np.ndarray]:
    """Two sequences of eight positions: [CLS] 1 2 [SEP] 3 4 [SEP], and one a token shorter."""
    return {
        "input_ids": np.array([[90, 1, 99, 91, 3, 7, 91, 0], [90, 99, 2, 91, 3, 91, 0, 0]]),
        "input_mask": np.array([[1] * 7 + [0], [1] * 6 + [0] * 2]),
        "segment_ids": np.array([[0] * 4 + [1] * 3 + [0], [0] * 4 + [1] * 2 + [0] * 2]),
        "masked_lm_positions": np.array([[2, 5], [1, 0]]),
        "masked_lm_ids": np.array([[2, 4], [1, 0]]),
        "masked_lm_weights": np.array([[1, 1], [1, 0]], np.float32),
        "next_sentence_labels": np.array([[1], [0]]),
    }


def test_statistics_of_two_sequences_counted_by_hand():
    found = file_statistics(features(), mask_id=99, max_seq_length=7)
    assert found["pairs"] == 2 and found["length, mean"] == 6.5
    assert found["sequences without padding"] == 0.5
    assert found["random next"] == 0.5 and found["second segment, mean"] == 2.5
    assert found["masked fraction of tokens"] == pytest.approx(3 / 13)
    assert found["replaced by [MASK]"] == pytest.approx(2 / 3)
    assert found["replaced by another token"] == pytest.approx(1 / 3)
    assert found["left unchanged"] == 0


def test_fewer_predictions_are_accepted_only_if_no_unmasked_word_fits():
    # round(7 * 0.3) = 2 and round(6 * 0.3) = 2: the second sequence has one too few.
    assert fraction_with_expected_predictions(features(), 0.3, 20, None) == 0.5
    continuation = np.zeros(100, bool)
    assert fraction_with_expected_predictions(features(), 0.3, 20, continuation) == 0.5
    # Wrong if a word of one token is left unmasked, ...
    continuation[2] = True
    assert fraction_with_expected_predictions(features(), 0.3, 20, continuation) == 0.5
    # ... right if the only word left has two tokens.
    continuation[2], continuation[3] = False, True
    second = {name: array[1:].copy() for name, array in features().items()}
    second["input_ids"][0] = [90, 99, 91, 2, 3, 91, 0, 0]
    second["segment_ids"][0] = [0, 0, 0, 1, 1, 1, 0, 0]
    assert fraction_with_expected_predictions(second, 0.3, 20, continuation) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_settings_of_every_case_are_valid_params(case, values):
    merge(values, case.params())
    parse_params(values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--google", "nowhere"], "--google nowhere: no create_pretraining_data.py"),
        (["--vocab", "nowhere"], "--vocab nowhere: no such file"),
    ],
)
def test_wrong_path_is_reported_in_one_line(options, message):
    command = [sys.executable, "-m", "bench.data.data_preparation", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(f"data_preparation: error: {message}")
    assert run.stderr.count("\n") == 1


def test_cases_without_inputs_are_skipped_with_a_line_each(tmp_path):
    command = [sys.executable, "-m", "bench.data.data_preparation", "--work", tmp_path / "work"]
    command += ["--out", tmp_path / "out.json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for case in CASES:
        assert f"skipped: {case.name} (give --{case.peer}" in run.stdout
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []
