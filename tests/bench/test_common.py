"""What the benchmarks share: processes, results, inputs, projects, budgets, timing, batches."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import ROOT
from bench.common import cli, inputs, jobs, rounds
from bench.common.batches import collate, example_lengths, random_sequences
from bench.common.budget import Calibration, Meter, calibrated_steps
from bench.common.processes import Measured, alternate, measure
from bench.common.project import RAW, Project
from bench.common.report import compare, table
from bench.common.step_timing import BatchSize, StepTimes, time_steps, useful_flops
from bench.training import cases
from lib.commands.recipe import merge
from lib.params import load_params, parse_params
from lib.run.errors import UserError


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def runs(*seconds: float, mib: float = 100.0) -> list[Measured]:
    return [Measured(one, one / 2, mib) for one in seconds]


def test_comparison_reports_medians_and_the_range_of_pairs():
    result = compare("x", runs(1.0, 2.0, 9.0), runs(30.0, 40.0, 90.0, mib=500.0), threshold=20)
    assert result["wall_ratio"] == 20.0 and result["passed"]
    assert (result["lowest"], result["highest"]) == (10.0, 30.0)
    assert result["memory_ratio"] == 5.0 and result["cpu_ratio"] == 20.0
    assert not compare("x", runs(2.0), runs(39.9), threshold=20)["passed"]
    assert compare("x", runs(2.0), runs(39.9))["passed"] is None


def test_runs_alternate():
    order = []

    def run(name: str) -> Measured:
        order.append(name)
        return Measured(float(len(order)), 0.0, 1.0)

    first, second = alternate(lambda: run("a"), lambda: run("b"), 2)
    assert order == ["a", "b", "a", "b"]
    assert [one.wall_seconds for one in first] == [1.0, 3.0]
    assert [one.wall_seconds for one in second] == [2.0, 4.0]


def test_table_is_aligned_and_failures_stand_out():
    runs = {"runs": [1.0, 2.0], "parts": {"rest": 1.0}}
    rows = [
        {"name": "short", "cpu_ratio": 19.96, "passed": False, **runs},
        {"name": "longer", "cpu_ratio": 1234.5, "peak": None},
    ]
    assert table(rows).splitlines() == [
        "name    cpu ratio  passed  peak",
        "short        20.0      NO     -",
        "longer      1,234       -     -",
    ]


def test_missed_threshold_ends_the_benchmark(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/x/speed.py"])
    passing = [{"name": "a", "passed": True}, {"name": "b", "passed": None}, {"name": "c"}]
    cli.exit_if_failed(passing)
    with pytest.raises(SystemExit, match=r"^speed: threshold missed: d$"):
        cli.exit_if_failed([*passing, {"name": "d", "passed": False}])


def test_inputs_that_do_not_exist_are_reported(tmp_path, monkeypatch):
    parser = cli.make_parser("data.x", "", "google", required=["vocab"])
    parser.add_argument("files", type=Path, nargs="*")
    (tmp_path / "vocab.txt").touch()
    for words, message in (
        (["--vocab", "nowhere"], "--vocab nowhere: no such file; give the vocab.txt of bert-base"),
        (["--google", str(tmp_path)], f"{tmp_path}: no create_pretraining_data.py there"),
        ([str(tmp_path), "nowhere"], "nowhere: no such file or folder; --help describes files"),
    ):
        arguments = ["x.py", "--vocab", str(tmp_path / "vocab.txt"), *words]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(UserError, match=message):
            cli.parse(parser)


def test_peak_memory_does_not_include_that_of_the_launching_process(tmp_path):
    ballast = b"x" * (150 << 20)
    small = measure([sys.executable, "-c", "pass"], tmp_path)
    large = measure([sys.executable, "-c", "print(len(b'x' * (100 << 20)))"], tmp_path)
    assert len(ballast) and small.peak_mib < 60
    assert 100 < large.peak_mib < 160
    assert (tmp_path / "output.log").read_text() == f"{100 << 20}\n"


def test_peaks_of_parent_and_worker_are_measured_separately(tmp_path):
    worker = "import time; kept = b'x' * (90 << 20); time.sleep(0.3)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {worker!r}])"
    own, other = measure([sys.executable, "-c", parent], tmp_path, each=True).peaks_mib.values()
    assert own < 60 and other > 90


def test_failed_command_shows_the_end_of_its_output(tmp_path):
    with pytest.raises(UserError, match="failed with exit code 3: last line"):
        measure([sys.executable, "-c", "print('last line'); raise SystemExit(3)"], tmp_path)


def test_missing_command_is_reported(tmp_path):
    with pytest.raises(UserError, match="no-such-command: cannot be started"):
        measure(["no-such-command"], tmp_path)


def test_wikitext_articles_become_documents(tmp_path):
    raw = " \n = One = \n \n A line .\n = = Part = = \n Another .\n \n = Two = \n Third .\n"
    (tmp_path / "raw.txt").write_text(raw)
    inputs.write_wikitext(tmp_path / "raw.txt", tmp_path / "out.txt")
    assert [
        part.split("\n") for part in (tmp_path / "out.txt").read_text().strip().split("\n\n")
    ] == [
        ["= One =", "A line .", "= = Part = =", "Another ."],
        ["= Two =", "Third ."],
    ]


def test_enlarged_text_has_no_equal_documents(tmp_path):
    (tmp_path / "small.txt").write_text("One. Two.\n\nThree.\n")
    inputs.write_enlarged(tmp_path / "small.txt", 1, 2, tmp_path / "large")
    texts = [path.read_text() for path in sorted((tmp_path / "large").iterdir())]
    documents = "".join(texts).split("\n\n")[:-1]
    assert len(texts) == 2 and len(documents) == len(set(documents))
    assert 1_000_000 <= sum(map(len, texts)) < 1_001_000


def test_project_changes_only_the_given_params(tmp_path, values):
    changes = {"phases": {"main": {"max_seq_length": 48}}, "cluster": {"workers": 3}}
    found = load_params(Project(tmp_path / "project", changes).folder / "params.yaml")
    # Those of `values` are the peers', too.
    merge(values, {"preprocess": RAW, **changes})
    assert found == parse_params(values)


def test_folders_depend_only_on_common_and_peers():
    for path in (ROOT / "bench").glob("*/*.py"):
        folder = path.parent.name
        allowed = (
            {folder, "common"} if folder in ("common", "peers") else {folder, "common", "peers"}
        )
        imported = re.findall(r"^ *from bench\.(\w+)", path.read_text(), re.MULTILINE)
        assert set(imported) <= allowed, path


def test_meter_stops_after_its_steps_and_excludes_the_time_of_saving(tmp_path):
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
    # Every 2.8 steps, and after the last step.
    assert [point["step"] for point in meter.saved] == [3, 6, 9, 12, 14]
    assert [point["cpu_seconds"] for point in meter.saved] == [2.25, 4.5, 6.75, 9.0, 10.5]
    assert saved == ["00", "01", "02", "03", "04"]


def test_calibration_separates_start_up_from_steps():
    clock = Clock()
    calibration = Calibration(2.0, clock=clock)
    clock.now += 20.0  # building the model
    last = False
    while not last:
        clock.now += 0.25
        last = calibration.step(lambda path: None)
    assert calibration.used == 20.75 + 2.0
    # 20 seconds of start-up, then four steps per second.
    assert calibration.steps_in(60.0) == 160


def test_time_of_free_steps_does_not_count(tmp_path):
    clock = Clock()
    meter, calibration = Meter(5, clock=clock, free_steps=3), Calibration(2.0, clock, free_steps=3)
    for seconds in (20.0, 3.0, 3.0, 0.25, 0.5):
        clock.now += seconds
        meter.step(lambda path: None)
    assert meter.used == 0.75
    clock.now += 20.0
    last = False
    while not last:
        clock.now += 0.25
        last = calibration.step(lambda path: None)
    # Four steps per second, after the free ones.
    assert calibration.steps_in(60.0) == 3 + 240


def test_steps_are_calibrated_again_only_if_settings_change(tmp_path):
    path, calls = tmp_path / "steps.json", []

    def calibrate() -> dict[str, list[int]]:
        calls.append(1)
        return {"a": [5, 9, 8], "b": [3]}

    for _ in range(2):
        assert calibrated_steps(path, [60.0, "a", "b"], calibrate) == {"a": 8, "b": 3}
    assert len(calls) == 1
    calibrated_steps(path, [30.0, "a", "b"], calibrate)
    assert len(calls) == 2


def test_finished_job_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "measure", None)
    job = {"rate": 1e-3, "folder": str(tmp_path)}
    (tmp_path / "job.json").write_text(json.dumps(job))
    (tmp_path / "run.json").write_text(json.dumps({"steps": 7}))
    assert jobs.train(job, "module") == {"steps": 7}
    with pytest.raises(TypeError):  # A different job would run.
        jobs.train({**job, "rate": 2e-3}, "module")


def test_useful_flops_are_those_of_the_matrix_products_one_by_one():
    model = {"hidden_size": 6, "num_hidden_layers": 3, "intermediate_size": 10}
    products = []  # [rows, inner] x [inner, columns]
    for length in (4, 7):
        for _layer in range(3):
            products += [(length, 6, 6)] * 4  # query, key, value, output
            products += [(length, 6, length), (length, length, 6)]  # all heads together
            products += [(length, 6, 10), (length, 10, 6)]
    products += [(5, 6, 6), (5, 6, 50)]  # the MLM head at five positions
    forward = sum(2 * rows * inner * columns for rows, inner, columns in products)
    assert useful_flops(model, 50, np.array([4, 7]), 5) == 3 * forward


def test_useful_flops_of_local_layers_are_those_of_tokens_within_half_a_window():
    model = {"hidden_size": 6, "num_hidden_layers": 5, "intermediate_size": 10}
    model |= {"architecture": "modernbert"}
    model |= {"local_attention": 4, "global_attn_every_n_layers": 3}
    multiply_adds = 2 * (6 * 6 + 6 * 50)  # the MLM head at two positions
    for length in (2, 4, 7):
        for layer in range(5):
            multiply_adds += length * (4 * 6 * 6 + 3 * 6 * 10)
            for one, other in itertools.product(range(length), repeat=2):
                if layer in (0, 3) or abs(one - other) <= 2:
                    multiply_adds += 2 * 6
    assert useful_flops(model, 50, np.array([2, 4, 7]), 2) == 3 * 2 * multiply_adds


def test_first_two_steps_and_steps_before_a_compilation_do_not_count():
    clock, done = Clock(), []
    seconds = [9, 5, 1, 7, 5, 2, 3, 4]

    def step(batch: int) -> None:
        clock.now += seconds[batch]
        done.append(batch)

    def compilations() -> int:  # in steps 0 and 3
        return (len(done) > 0) + (len(done) > 3)

    times = time_steps(
        itertools.count(), step, lambda batch: BatchSize(np.array([batch]), 1), 2, compilations,
        lambda: setattr(clock, "now", clock.now + 50), clock,
    )  # fmt: skip
    assert times.first_seconds == 9
    assert times.seconds == [3, 4] and [int(size.lengths[0]) for size in times.sizes] == [6, 7]


def test_a_model_that_compiles_in_every_step_is_measured_anyway():
    counter = itertools.count()
    times = time_steps(
        itertools.count(), lambda batch: None, lambda batch: BatchSize(np.ones(1), 1), 3,
        lambda: next(counter),
    )  # fmt: skip
    assert len(times.seconds) == 3


def test_rates_count_tokens_without_padding():
    job = {"model": cases.sizes(1, 64), "vocab_size": 100}
    sizes = [BatchSize(np.array([10, 20]), 3), BatchSize(np.array([6]), 1)]
    times = StepTimes(seconds=[1.0, 3.0], cpu_seconds=[2.0, 4.0], sizes=sizes)
    result = times.result(job, peak=1e6, adamw={})
    assert result["tokens_per_second"] == 9 and result["examples_per_step"] == 1.5
    assert result["tokens_per_cpu_second"] == 6
    flops = useful_flops(job["model"], 100, np.array([10, 20, 6]), 4)
    assert result["peak_fraction"] == pytest.approx(flops / 4 / 1e6)


def test_examples_of_packed_sequences_are_counted_one_by_one():
    example_ids = np.array([[1, 1, 1, 2, 2, 3, 0], [1, 0, 0, 0, 0, 0, 0]])
    assert sorted(example_lengths(example_ids)) == [1, 1, 2, 3]


def test_random_sequences_are_full_and_masked_at_distinct_inner_positions():
    batch = random_sequences(8, 32, 20, 1000)
    positions = batch["masked_lm_positions"]
    assert (np.diff(positions, axis=1) > 0).all()
    assert positions.min() >= 1 and positions.max() <= 30
    assert batch["input_mask"].all() and batch["input_ids"].min() >= 5


def record(ids: list[int], masked: dict[int, int]) -> dict[str, np.ndarray]:
    """A record of ten token positions, with room for four predictions."""
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


def test_peer_batch_is_padded_to_its_longest_example():
    batch = collate([record([2, 7, 4, 3], {2: 9}), record([2, 4, 4, 6, 6, 3], {1: 8, 2: 7})])
    assert batch["input_ids"].tolist() == [[2, 7, 4, 3, 0, 0], [2, 4, 4, 6, 6, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6]
    # Position 0 of unused predictions does not become a label.
    assert batch["labels"].tolist() == [
        [-100, -100, 9, -100, -100, -100],
        [-100, 8, 7, -100, -100, -100],
    ]
    assert batch["next_sentence_label"].tolist() == [1, 1]


def test_mode_that_is_far_behind_runs_only_once(tmp_path, monkeypatch):
    speeds = {"plain": iter([100.0, 90.0, 110.0]), "XLA": iter([50.0]), "eager": iter([40.0] * 3)}
    order = []

    def run_variant(variant: rounds.Variant, work: Path) -> dict:
        order.append(variant.mode)
        return {
            "tokens_per_second": next(speeds[variant.mode]),
            "tokens_per_cpu_second": {"plain": 60.0, "XLA": 70.0, "eager": 15.0}[variant.mode],
            "first_step_seconds": 3.0,
            "first_step_since_start": 8.0,
            "peak_fraction": 0.5,
            "useful_flops_per_second": 2e9,
            "peak_mib": 10.0,
        }

    monkeypatch.setattr(rounds, "run_variant", run_variant)
    variants = {mode: rounds.Variant(mode, "", {}) for mode in speeds}
    sides = {"ours": [variants["plain"], variants["XLA"]], "peer": [variants["eager"]]}
    results = rounds.run_rounds(sides, 3, tmp_path)
    assert order == ["plain", "XLA", "eager", "plain", "eager", "plain", "eager"]
    row = rounds.summarise("x", results, 2.5)
    assert row["ours_mode"] == "plain" and row["ratio"] == 2.5 and row["passed"]
    assert row["cpu_ratio"] == 4.0
    assert (row["lowest"], row["highest"]) == (90 / 40, 110 / 40)
    assert not rounds.summarise("x", results, 2.6)["passed"]
    assert rounds.summarise("x", results, None)["passed"] is None
    first = {row["mode"]: row["passed"] for row in rounds.first_steps(results)}
    assert first == {"plain": True, "XLA": None, "eager": None}


def test_makefile_skips_benchmarks_without_their_inputs():
    command = ["make", "-n", "-C", ROOT / "bench", "memory", "learning", "DATA=nowhere"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "skipped: memory (give VOCAB= and WIKITEXT= or TWEETS=)" in output
    assert "skipped: learning (give WIKITEXT=)" in output and "accelerate" not in output
