"""Experiments of a clone: a queued grid, the table of it, one of them taken up again."""

import csv
import io
import json
import sys
import time
from copy import copy

import pytest

from lib.commands.experiments import command
from lib.params import load_params
from tests.helpers.project import Project, write_text
from tests.stages.test_pipeline import STAGES

_MOST_SECONDS = 1500  # far more than it takes
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
    # The copy's DVC is told that there is no git.
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
    """The lines of the table by the experiment's name."""
    shown = project.run(sys.executable, "-m", "lib.commands.experiments", "--csv")
    return {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown))}


def wait_for_queue(project: Project) -> None:
    deadline = time.monotonic() + _MOST_SECONDS
    while "Queued" in (status := project.run("dvc", "queue", "status")) or "Running" in status:
        assert time.monotonic() < deadline, status
        time.sleep(10)  # Asking takes a second of a core itself.
    assert "Failed" not in status, status


@pytest.mark.slow
def test_a_queued_grid_makes_a_table_and_each_can_be_taken_up(clone):
    grid = ("-S", "vocab.size=250,300", "-S", "records.dupe_factor=1,2")
    assert clone.run("dvc", "exp", "run", "--queue", *grid).count("Queued experiment") == 4
    try:
        # The worker would hold a pipe open that we wait for.
        clone.run("sh", "-c", "dvc queue start >/dev/null 2>&1")
        wait_for_queue(clone)
    finally:
        clone.run("dvc", "queue", "stop", "--kill")
    table = rows(clone)
    found = {name: row for name, row in table.items() if row["State"] == "Success"}
    assert sorted((r["vocab.size"], r["records.dupe_factor"]) for r in found.values()) == _GRID
    bits = [float(row["bits_per_character"]) for row in found.values()]
    assert bits == sorted(bits) and len(set(bits)) == 4 and bits[0] > 0
    # No hash of a dependency, no parameter that is the same in all.
    assert len(next(iter(table.values()))) < 10

    for name, row in list(found.items())[:2]:
        clone.run("dvc", "exp", "apply", name)
        assert "up to date" in clone.run("dvc", "status", *STAGES)
        assert "Running stage" not in clone.run("dvc", "repro")
        assert str(load_params(clone.folder / "params.yaml").vocab.size) == row["vocab.size"]
        metrics = json.loads((clone.folder / "results/evaluate/metrics.json").read_text())
        assert str(metrics["bits_per_character"]) == row["bits_per_character"]


def test_flags_of_the_table_follow():
    assert command(["--md"])[:3] == ["dvc", "exp", "show"] and command(["--md"])[-1] == "--md"
