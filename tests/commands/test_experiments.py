"""Experiments in a clone: a queued grid, its table, and applying an experiment."""

import csv
import io
import json
import re
import sys
import time
from copy import copy

import pytest

from lib.commands.experiments import command
from lib.params import load_params
from tests.helpers.project import Project, write_text
from tests.stages.test_pipeline import STAGES

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
    """The lines of the table by the name of the experiment."""
    shown = project.run(sys.executable, "-m", "lib.commands.experiments", "--csv")
    return {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown))}


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
    found = {name: row for name, row in table.items() if row["State"] == "Success"}
    assert sorted((r["vocab.size"], r["records.dupe_factor"]) for r in found.values()) == _GRID
    bits = [float(row["bits_per_character"]) for row in found.values()]
    assert bits == sorted(bits) and len(set(bits)) == 4 and bits[0] > 0
    # Neither hashes of dependencies nor parameters that are equal in all experiments.
    assert len(next(iter(table.values()))) < 10

    for name, row in list(found.items())[:2]:
        clone.run("dvc", "exp", "apply", name)
        assert "up to date" in clone.run("dvc", "status", *STAGES)
        assert "Running stage" not in clone.run("dvc", "repro")
        assert str(load_params(clone.folder / "params.yaml").vocab.size) == row["vocab.size"]
        metrics = json.loads((clone.folder / "results/evaluate/metrics.json").read_text())
        assert str(metrics["bits_per_character"]) == row["bits_per_character"]


def test_options_of_dvc_are_passed_on():
    assert command(["--md"])[:3] == ["dvc", "exp", "show"] and command(["--md"])[-1] == "--md"


def test_metrics_that_mean_the_same_for_every_vocabulary_are_shown():
    words = command([])
    dropped = words[words.index("--drop") + 1]
    for name in ("bits_per_character", "word_accuracy", "nsp_accuracy", "vocab.size"):
        assert not re.match(dropped, name), name
    for name in ("mlm_loss", "bits_per_character_unigram", "data/corpus"):
        assert re.match(dropped, name), name
    assert words[words.index("--sort-by") + 1] == "bits_per_character"


def test_a_clone_without_results_shows_none(clone):
    (row,) = rows(clone).values()
    assert row.get("bits_per_character", "") in ("", "-", "!")
