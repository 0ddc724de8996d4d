"""Experiments of a clone: a queued grid, the table of it, one of them taken up again."""

import csv
import io
import sys
import time

import pytest

from lib.experiments import command
from tests.project import Project, write_text
from tests.test_pipeline import STAGES

_MOST_SECONDS = 600
_GRID = [(size, dupes) for size in ("250", "300") for dupes in ("1", "2")]


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
    name = ("-c", "user.name=x", "-c", "user.email=x@y")
    origin.run("git", *name, "commit", "-qm", "text")
    origin.run("git", "clone", "-q", str(origin.folder), str(folder / "clone"))
    origin.folder = folder / "clone"
    origin.run("git", "config", "user.name", "x")
    origin.run("git", "config", "user.email", "x@y")
    origin.run("dvc", "checkout", "-q", "data/raw.dvc")
    return origin


def rows(project: Project) -> dict[str, dict[str, str]]:
    """The lines of the table by the experiment's name."""
    shown = project.run(sys.executable, "-m", "lib.experiments", "--csv")
    return {row["Experiment"]: row for row in csv.DictReader(io.StringIO(shown))}


def wait_for_queue(project: Project) -> None:
    deadline = time.monotonic() + _MOST_SECONDS
    while "Queued" in (status := project.run("dvc", "queue", "status")) or "Running" in status:
        assert time.monotonic() < deadline, status
        time.sleep(2)
    assert "Failed" not in status, status


@pytest.mark.slow
def test_a_queued_grid_makes_a_table_and_each_can_be_taken_up(clone):
    grid = ("-S", "vocab.size=250,300", "-S", "records.dupe_factor=1,2")
    assert clone.run("dvc", "exp", "run", "--queue", *grid).count("Queued experiment") == 4
    try:
        clone.run("dvc", "queue", "start")
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
        assert f"size: {row['vocab.size']} " in (clone.folder / "params.yaml").read_text()
        shown = clone.run("dvc", "metrics", "show", "results/evaluate/metrics.json", "--json")
        assert row["bits_per_character"] in shown


def test_flags_of_the_table_follow():
    assert command(["--md"])[:3] == ["dvc", "exp", "show"] and command(["--md"])[-1] == "--md"
