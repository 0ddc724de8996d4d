"""Experiments in a clone: a queued grid, its table, and applying an experiment."""

import csv
import io
import json
import sys
import time
from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.commands.evaluations import Experiment, _relevant_keys
from lib.commands.experiments import Setting, rank, settings, table, table_of_runs
from lib.evaluation.metrics import METRICS
from lib.evaluation.paired import Run
from lib.params import load_params
from lib.run.errors import UserError
from tests.helpers.project import Project, write_text
from tests.stages.test_pipeline import STAGES

BITS = METRICS["bits_per_character"]
_MAX_SECONDS = 1500  # far more than it takes
_GRID = [(size, dupes) for size in ("250", "300") for dupes in ("1", "2")]


def identify(project: Project) -> None:
    project.run("git", "config", "user.name", "x")
    project.run("git", "config", "user.email", "x@y")


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Project:
    """A clone of a project with its text and parameters committed; no stage has run."""
    folder = tmp_path_factory.mktemp("experiments")
    origin = Project(folder / "origin")
    write_text(origin.folder / "data/raw")
    # DVC of the copy is configured without git.
    origin.run("dvc", "config", "--unset", "core.no_scm")
    origin.run("git", "init", "-q")
    origin.run("dvc", "config", "cache.dir", str(folder / "cache"))
    origin.run("dvc", "add", "-q", "data/raw")
    origin.run("git", "add", "-A")
    identify(origin)
    origin.run("git", "commit", "-qm", "text")
    origin.run("git", "clone", "-q", str(origin.folder), str(folder / "clone"))
    clone = copy(origin)
    clone.folder = folder / "clone"
    identify(clone)
    clone.run("dvc", "checkout", "-q", "data/raw.dvc")
    return clone


def rows(project: Project) -> dict[str, dict[str, str]]:
    """The runs of the table by the name of the experiment."""
    shown = project.run(sys.executable, "-m", "lib.commands.experiments", "--csv")
    return {row["experiment"]: row for row in csv.DictReader(io.StringIO(shown))}


def wait_for_queue(project: Project) -> None:
    deadline = time.monotonic() + _MAX_SECONDS
    while "Queued" in (status := project.run("dvc", "queue", "status")) or "Running" in status:
        assert time.monotonic() < deadline, status
        time.sleep(10)  # The command itself takes a second of a core.
    assert "Failed" not in status, status


@pytest.mark.slow
def test_experiments_of_a_queued_grid_are_ranked_and_can_be_applied(clone):
    grid = ("-S", "vocab.size=250,300", "-S", "records.dupe_factor=1,2")
    assert clone.run("dvc", "exp", "run", "--queue", *grid).count("Queued experiment") == 4
    try:
        # The worker would keep the pipe open on which this process waits.
        clone.run("sh", "-c", "dvc queue start >/dev/null 2>&1")
        wait_for_queue(clone)
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    table = rows(clone)
    found = {name: row for name, row in table.items() if not row["state"]}
    assert sorted((r["vocab.size"], r["records.dupe_factor"]) for r in found.values()) == _GRID
    bits = [float(row["code_length_per_character"]) for row in found.values()]
    assert bits == sorted(bits) and len(set(bits)) == 4 and bits[0] > 0
    # Neither hashes of dependencies nor parameters that are equal in all experiments.
    params = {name for name in next(iter(table.values())) if "." in name}
    assert params == {"vocab.size", "records.dupe_factor"}
    best, *others = found.values()
    assert not best["low"]
    for row in others:
        difference = float(row["code_length_per_character_from_best"])
        assert float(row["low"]) <= difference <= float(row["high"])
    first, second = list(found)[:2]
    compared = clone.run(sys.executable, "-m", "lib.commands.compare", first, second)
    assert f"A  {first} (sequences of 32 tokens)" in compared and "bits per character" in compared

    for name, row in list(found.items())[:2]:
        clone.run("dvc", "exp", "apply", name)
        assert "up to date" in clone.run("dvc", "status", *STAGES)
        assert "Running stage" not in clone.run("dvc", "repro")
        assert str(load_params(clone.folder / "params.yaml").vocab.size) == row["vocab.size"]
        metrics = json.loads((clone.folder / "results/evaluate/metrics.json").read_text())
        assert str(metrics["bits_per_character"]) == row["bits_per_character"]


def documents(experiment: Experiment) -> Run | None:
    """The evaluation of a made experiment: totals of 40 documents."""
    bits = experiment.metrics.get("bits_per_character")
    if experiment.documents is None or bits is None:
        return None
    # The same documents are hard for all.
    hard = np.random.default_rng(0).normal(0, 5, 40)
    own = np.random.default_rng(len(experiment.name)).normal(0, 0.1, 40)
    own -= own.mean() + hard.mean()
    names = [str(number) for number in range(40)]
    table = pd.DataFrame({"document": names, "mlm.bits": 100 * bits + hard + own})
    return Run(experiment.name, 32, table.assign(**{"mlm.characters": 100.0, "mlm.words": 20.0}))


def made(name: str, bits: float | None, state: str = "", **params: object) -> Experiment:
    values = {"vocab.size": 300, "pretrain.seed": 1, "pretrain.learning_rate": 1e-3} | {
        key.replace("__", "."): value for key, value in params.items()
    }
    metrics = {} if bits is None else {"bits_per_character": bits, "word_accuracy": 0.5}
    return Experiment(name, name * 7, state, values, "c0de", "7e87", metrics, metrics, "md5")


def ranked(*found: Experiment) -> tuple[list[Setting], list[str]]:
    return rank(settings(found, documents), BITS)


def shown(*found: Experiment, keep: str = "") -> pd.DataFrame:
    unfinished = [each for each in found if not each.metrics]
    return table(ranked(*found)[0], unfinished, BITS, keep)


def test_only_parameters_that_differ_have_a_column():
    lines = shown(made("a", 2.0), made("bb", 2.1, vocab__size=600))
    assert "vocab.size" in lines and "pretrain.learning_rate" not in lines and "seeds" not in lines
    assert lines["vocab.size"].tolist() == ["300", "600"]


def test_a_difference_within_the_noise_is_not_ranked():
    lines = shown(
        made("best", 2.0),
        made("as-good", 2.0001, vocab__size=500),
        made("worse", 2.1, vocab__size=600),
    )
    assert lines["rank"].tolist() == ["1", "1", ""]
    assert lines["from the best"].tolist() == ["best", "+0.000", "+0.100"]
    assert lines["experiment"].tolist() == ["best", "as-good", "worse"]
    _, notes = ranked(made("best", 2.0), made("worse", 2.1, vocab__size=600))
    assert "do not include the variance over training seeds" in " ".join(notes)
    assert "40 test documents" in notes[0]


def test_runs_with_other_seeds_are_one_line_with_their_deviation():
    repeated = [made(f"a-seed-{s}", 2 + s / 100, pretrain__seed=s) for s in (1, 2, 3)]
    other = made("other", 2.04, vocab__size=600)
    lines = shown(*repeated, other, made("again", 2.01))
    assert lines["bits_per_character"].tolist() == ["2.020 ± 0.010", "2.040"]
    assert lines["seeds"].tolist() == ["1, 2, 3", "1"]
    assert lines["experiment"][0] == "a-seed-{1,2,3}, again"
    # Over documents alone, 0.02 would be a clear difference.
    assert lines["rank"].tolist() == ["1", "1"]
    _, notes = ranked(*repeated, other)
    assert "standard deviation 0.01, with 2 degrees of freedom" in " ".join(notes)
    assert ranked(repeated[1], other)[0][1].difference.better == "B"


def test_runs_of_another_code_or_text_are_another_setting():
    lines = shown(made("a", 2.0), replace(made("bb", 2.0, pretrain__seed=2), code="0ther"))
    assert lines["code"].tolist() == ["c0de", "0ther"] and len(lines) == 2


def test_experiments_without_results_come_last_with_their_state():
    lines = shown(made("a", 2.0), made("queued", None, "queued", vocab__size=9))
    assert lines["experiment"].tolist() == ["a", "queued"]
    assert lines["state"].tolist() == ["", "queued"] and lines["vocab.size"][1] == "9"


def test_without_documents_the_reason_is_given():
    found, notes = ranked(made("a", 2.0), replace(made("b", 3.0, vocab__size=9), documents=None))
    assert found[1].difference is None and "older version" in notes[0]


def test_experiments_without_the_metric_are_named():
    found, notes = rank(settings([made("a", 2.0)], documents), METRICS["nsp_accuracy"])
    assert found == [] and notes == ["not shown, without nsp_accuracy: a"]


def test_further_columns_are_chosen_by_name():
    assert "pretrain.learning_rate" in shown(made("a", 2.0), made("b", 3.0), keep="pretrain.l")
    with pytest.raises(UserError, match="not a regular expression"):
        shown(made("a", 2.0), keep="(")


def test_a_table_of_runs_has_all_digits():
    found, _ = ranked(made("a", 2.00001), made("b", 3.0, vocab__size=9))
    lines = table_of_runs(found, [], BITS, "")
    assert lines["bits_per_character"].tolist() == [2.00001, 3.0]
    assert lines["setting"].tolist() == [1, 2]
    assert lines["low"][1] <= lines["bits_per_character_from_best"][1] <= lines["high"][1]


def test_names_with_a_common_start_are_written_as_the_shell_expands_them():
    def name_of(*names: str) -> str:
        runs = [made(name, 2.0, pretrain__seed=seed) for seed, name in enumerate(names)]
        return str(shown(*runs)["experiment"][0])

    assert name_of("slow-seed-1", "slow-seed-2") == "slow-seed-{1,2}"
    assert name_of("slow", "fast") == "slow, fast" and name_of("slow") == "slow"


def test_parameters_that_can_affect_results_are_those_of_dvc_yaml():
    keys = _relevant_keys()
    for name in ("vocab.size", "preprocess.input", "records.source", "phases.main.steps"):
        assert keys.fullmatch(name), name
    for name in ("pretrain.model.hidden_size", "preprocess.clean.urls", "pretrain.seed"):
        assert keys.fullmatch(name), name
    for name in ("cluster.workers", "pretrain.checkpoint_every", "probe.tasks", "vocab.sizes"):
        assert not keys.fullmatch(name), name


def test_a_clone_without_results_says_so(clone):
    shown = clone.run(sys.executable, "-m", "lib.commands.experiments")
    assert "No experiment has finished here" in shown
