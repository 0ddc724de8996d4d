"""The arithmetic of the training benchmarks; their figures are not for a test."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from bench.common import contest, jobs
from bench.common.budget import Calibration, Meter
from bench.training import cases, learning, learnt
from bench.training.steps import (
    Size,
    Times,
    as_collated,
    example_lengths,
    random_rows,
    time_steps,
    useful_flops,
)
from lib.params import parse_params
from lib.report.charts.curves import svg, ticks
from lib.vocab.tokenizer import WordPieceTokenizer

ROOT = Path(__file__).parents[2]


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def keep(path: Path) -> None:
    """A model that costs nothing to write."""


def test_useful_operations_are_those_of_the_matrix_products_one_by_one():
    model = {"hidden_size": 6, "num_hidden_layers": 3, "intermediate_size": 10}
    products = []  # (rows, inner, columns)
    for length in (4, 7):
        for _layer in range(3):
            products += [(length, 6, 6)] * 4  # query, key, value, output
            products += [(length, 6, length), (length, length, 6)]  # all heads together
            products += [(length, 6, 10), (length, 10, 6)]
    products += [(5, 6, 6), (5, 6, 50)]  # the MLM head at five positions
    forward = sum(2 * rows * inner * columns for rows, inner, columns in products)
    assert useful_flops(model, 50, np.array([4, 7]), 5) == 3 * forward


def test_the_first_two_steps_and_those_before_a_compilation_do_not_count():
    clock, done = Clock(), []
    seconds = [9, 5, 1, 7, 5, 2, 3, 4]

    def step(batch: int) -> None:
        clock.now += seconds[batch]
        done.append(batch)

    def compilations() -> int:  # in the steps 0 and 3
        return (len(done) > 0) + (len(done) > 3)

    times = time_steps(
        itertools.count(), step, lambda batch: Size(np.array([batch]), 1), 2, compilations,
        lambda: setattr(clock, "now", clock.now + 50), clock,
    )  # fmt: skip
    assert times.first_seconds == 9
    assert times.seconds == [3, 4] and [int(size.lengths[0]) for size in times.sizes] == [6, 7]


def test_what_compiles_in_every_step_is_measured_all_the_same():
    counter = itertools.count()
    times = time_steps(
        itertools.count(), lambda batch: None, lambda batch: Size(np.ones(1), 1), 3,
        lambda: next(counter),
    )  # fmt: skip
    assert len(times.seconds) == 3


def test_rates_count_tokens_without_padding():
    job = {"model": cases.sizes(1, 64), "vocab_size": 100}
    times = Times(seconds=[1.0, 3.0], sizes=[Size(np.array([10, 20]), 3), Size(np.array([6]), 1)])
    result = times.result(job, peak=1e6, adamw={})
    assert result["tokens_per_second"] == 9 and result["examples_per_step"] == 1.5
    flops = useful_flops(job["model"], 100, np.array([10, 20, 6]), 4)
    assert result["share_of_peak"] == pytest.approx(flops / 4 / 1e6)


def test_examples_of_packed_rows_are_counted_one_by_one():
    marks = np.array([[1, 1, 1, 2, 2, 3, 0], [1, 0, 0, 0, 0, 0, 0]])
    assert sorted(example_lengths(marks)) == [1, 1, 2, 3]


def test_random_rows_are_full_and_masked_at_different_inner_positions():
    rows = random_rows(8, 32, 20, 1000)
    positions = rows["masked_lm_positions"]
    assert (np.diff(positions, axis=1) > 0).all()
    assert positions.min() >= 1 and positions.max() <= 30
    assert rows["input_mask"].all() and rows["input_ids"].min() >= 5


def record(ids: list[int], masked: dict[int, int]) -> dict[str, np.ndarray]:
    """A row of ten cells as the records stage writes it, with room for four predictions."""
    positions = [*masked, *[0] * (4 - len(masked))]
    return {
        "input_ids": np.array(ids + [0] * (10 - len(ids))),
        "input_mask": np.array([1] * len(ids) + [0] * (10 - len(ids))),
        "segment_ids": np.zeros(10, np.int64),
        "masked_lm_positions": np.array(positions),
        "masked_lm_ids": np.array([*masked.values(), *[0] * (4 - len(masked))]),
        "masked_lm_weights": np.array([1.0] * len(masked) + [0.0] * (4 - len(masked))),
        "next_sentence_labels": np.array([1]),
    }


def test_the_peers_batch_is_padded_to_its_longest_example():
    batch = as_collated([record([2, 7, 4, 3], {2: 9}), record([2, 4, 4, 6, 6, 3], {1: 8, 2: 7})])
    assert batch["input_ids"].tolist() == [[2, 7, 4, 3, 0, 0], [2, 4, 4, 6, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    # Position 0 of unused predictions is no label.
    assert batch["labels"].tolist() == [
        [-100, -100, 9, -100, -100, -100],
        [-100, 8, 7, -100, -100, -100],
    ]
    assert batch["next_sentence_label"].tolist() == [1, 1]


def test_a_meter_stops_after_its_steps_and_leaves_out_what_saving_takes(tmp_path):
    clock = Clock()
    meter = Meter(14, points=5, folder=tmp_path, clock=clock)
    saved = []

    def save(path: Path) -> None:
        clock.now += 1000
        saved.append(path.name)

    last = False
    while not last:
        clock.now += 0.75
        last = meter.step(save)
    assert meter.used == 10.5 and meter.steps == 14
    # 2.8 steps apart, and at the end.
    assert [point["step"] for point in meter.kept] == [3, 6, 9, 12, 14]
    assert [point["cpu_seconds"] for point in meter.kept] == [2.25, 4.5, 6.75, 9.0, 10.5]
    assert saved == ["00", "01", "02", "03", "04"]


def test_a_calibration_tells_start_and_steps_apart():
    clock = Clock()
    calibration = Calibration(2.0, clock=clock)
    clock.now += 20.0  # the making of the model
    last = False
    while not last:
        clock.now += 0.25
        last = calibration.step(keep)
    assert calibration.used == 20.75 + 2.0
    # 20 seconds at the start, and then four steps a second.
    assert calibration.steps_in(60.0) == 160


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4))
def test_ticks_are_few_even_and_within(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 <= value <= low + width + 1e-6 * width + 1e-6 for value in found)
    assert np.allclose(np.diff(found, 2), 0, atol=1e-6)


def test_curves_are_drawn_within_the_image():
    curves = {"one & all": [(1.0, 9.0), (2.0, 5.0), (3.0, 4.5)], "two": [(1.0, 8.0), (3.0, 4.0)]}
    image = ElementTree.fromstring(svg("t", "minutes", "loss", curves, dashed=["two"]))
    space = "{http://www.w3.org/2000/svg}"
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in image.findall(f"{space}polyline")
    ]
    assert [len(line) for line in lines] == [3, 2]
    # Down the loss is down the image, and the same minutes are in the same place.
    assert lines[0][0][1] < lines[0][1][1] < lines[0][2][1] < lines[1][1][1]
    assert lines[0][0][0] == lines[1][0][0] and lines[0][2][0] == lines[1][1][0]
    assert all(0 < x < 720 and 0 < y < 420 for line in lines for x, y in line)
    assert "one & all" in [text.text for text in image.findall(f"{space}text")]


def result_of(system: str, rate: float, seed: int, *losses: float) -> dict:
    points = [
        {"step": 10 * number, "cpu_seconds": 60.0 * number, "records": loss}
        for number, loss in enumerate(losses, 1)
    ]
    for point in points:
        point["records_accuracy"] = 0.25
    points[-1]["joined"] = losses[-1] + 1
    return {
        "job": {"system": system, "rate": rate, "seed": seed, "cpu_seconds": 120.0},
        "points": points,
        "steps": 20,
        "cpu_seconds": 120.0,
    }


def test_learning_is_summarised_by_means_over_seeds():
    results = [
        result_of("ours", 1e-3, 1, 5.0, 4.0),
        result_of("Hugging Face", 1e-3, 1, 7.0, 6.0),
        result_of("ours", 1e-3, 2, 6.0, 3.0),
    ]
    theirs, ours = learnt.summarise(results)
    assert (ours["system"], ours["seeds"], ours["mean"]) == ("ours", 2, 3.5)
    assert ours["lowest"] == "3.0000" and ours["joined"] == "4.5000"
    assert theirs["mean"] == 6.0
    curves = learnt.mean_curves(results)
    assert curves["ours, 0.001"] == [(1.0, 5.5), (2.0, 3.5)]
    assert len(learnt.curves_csv(results).splitlines()) == 1 + 6


def test_a_run_that_is_kept_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "measure", None)
    job = {"system": "ours", "rate": 1e-3, "folder": str(tmp_path)}
    (tmp_path / "result.json").write_text(json.dumps({"job": job, "steps": 7}))
    assert learning.run(job)["steps"] == 7
    with pytest.raises(TypeError):  # of another job: it would be run
        learning.run({**job, "rate": 2e-3})


def test_a_mode_that_is_far_behind_runs_only_once(tmp_path, monkeypatch):
    speeds = {"plain": iter([100.0, 90.0, 110.0]), "XLA": iter([50.0]), "eager": iter([40.0] * 3)}
    order = []

    def run(variant: contest.Variant, work: Path) -> dict:
        order.append(variant.mode)
        return {
            "tokens_per_second": next(speeds[variant.mode]),
            "first_step_seconds": 3.0,
            "first_step_since_start": 8.0,
            "share_of_peak": 0.5,
            "useful_flops_per_second": 2e9,
            "peak_mib": 10.0,
        }

    monkeypatch.setattr(contest, "run", run)
    variants = {mode: contest.Variant(mode, "", {}) for mode in speeds}
    sides = {"ours": [variants["plain"], variants["XLA"]], "peer": [variants["eager"]]}
    results = contest.contest(sides, 3, tmp_path)
    assert order == ["plain", "XLA", "eager", "plain", "eager", "plain", "eager"]
    row = contest.figures("x", results, 2.5)
    assert row["ours_mode"] == "plain" and row["ratio"] == 2.5 and row["passed"]
    assert (row["lowest"], row["highest"]) == (90 / 40, 110 / 40)
    assert not contest.figures("x", results, 2.6)["passed"]
    assert contest.figures("x", results, None)["passed"] is None
    firsts = {row["mode"]: row["passed"] for row in contest.first_steps(results)}
    assert firsts == {"plain": True, "XLA": None, "eager": None}


def test_the_settings_of_every_job_are_valid_params(values, tmp_path):
    options = learning.arguments().parse_args(["--wikitext", "x", "--work", str(tmp_path)])
    made = learning.jobs(options, {}, {"ours": 500, "Hugging Face": 200})
    assert len(made) == 2 * 3 * 3 and len({job["folder"] for job in made}) == len(made)
    for job in made:
        values["pretrain"] |= {"learning_rate": job["rate"], "xla": job["xla"]}
        parse_params(values)


def test_joined_rows_hold_all_lines_one_after_the_other(tmp_path):
    from bench.training.heldout import joined_batches

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = WordPieceTokenizer([*specials, *letters], lowercase=True, strip_accents=True)
    lines = [" ".join(letters[number % 26 :]) for number in range(70)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    rows = []
    for batch in joined_batches(tmp_path / "text.txt", tokenizer, 16):
        ids = batch["input_ids"].numpy()
        row, place = np.nonzero(batch["masked_lm_weights"].numpy())
        columns = batch["masked_lm_positions"].numpy()[row, place]
        ids[row, columns] = batch["masked_lm_ids"].numpy()[row, place]
        rows.append(ids)
    joined = [one for line in lines for one in (2, *tokenizer.encode(line), 3)]
    found = np.concatenate(rows).reshape(-1)
    # Whole batches of 32 rows of 16.
    assert len(found) == len(joined) // 512 * 512
    assert found.tolist() == joined[: len(found)]


def test_models_are_scored_as_the_stage_evaluate_scores_them(tmp_path):
    from bench.training.heldout import losses
    from lib.checkpoints.huggingface import write_model
    from lib.evaluation.evaluator import Evaluator
    from tests.model.test_model import TINY, random_batch, random_weights

    first, second = [random_batch(1), random_batch(2)], [random_batch(3)]
    expected = []
    for seed in (1, 2):
        weights = random_weights(seed)
        write_model(tmp_path / str(seed), TINY, weights, {})
        evaluator = Evaluator(TINY, weights, next_sentence=False)
        expected.append([evaluator.evaluate(batches)["mlm_loss"] for batches in (first, second)])
    # What was trained without sentence pairs has no head for them.
    path = tmp_path / "1/model.safetensors"
    tensors = load_file(path)
    unused = ("bert.pooler", "cls.seq_relationship")
    save_file({key: one for key, one in tensors.items() if not key.startswith(unused)}, path)
    sets = {"records": first, "joined": second}
    scored = losses([tmp_path / "1", tmp_path / "2"], sets)
    assert scored[0]["records"] == pytest.approx(expected[0][0], rel=1e-5)
    assert "joined" not in scored[0]
    assert scored[1]["records"] == pytest.approx(expected[1][0], rel=1e-5)
    assert scored[1]["joined"] == pytest.approx(expected[1][1], rel=1e-5)


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        ("learning", ["--wikitext", "nowhere"], "learning: error: --wikitext nowhere: no train"),
        ("speed", ["--vocab", "nowhere"], "speed: error: --vocab nowhere: no such file"),
    ],
)
def test_what_is_missing_gives_one_clear_line(module, options, said):
    command = [sys.executable, "-m", f"bench.training.{module}", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(said) and run.stderr.count("\n") == 1


def test_cases_that_need_tweets_are_skipped_without_them(tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("[PAD]\n")
    command = [sys.executable, "-m", "bench.training.speed", "--vocab", vocab]
    command += ["--only", "tweets", "packing", "packed-learning"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ("tweets", "packing", "packed-learning"):
        assert f"skipped: {name} (give --tweets)" in run.stdout
