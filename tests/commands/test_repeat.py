"""Runs of one setting with several training seeds."""

import json
import os
import re
import signal
import sys
import time

import pytest

from lib.commands import repeat as command
from lib.commands.evaluations import Experiment
from lib.commands.repeat import experiment_name, repeat
from lib.params import Params, parse_params
from lib.run.errors import UserError
from tests.helpers.project import PERSON, Project, write_text

REPEAT = (sys.executable, "-m", "lib.commands.repeat")


@pytest.fixture
def params(values) -> Params:
    return parse_params(values)


def test_the_name_depends_on_everything_but_the_seed(values):
    def name(overrides: list[str] | None = None, **changes: object) -> str:
        pretrain = values["pretrain"] | changes
        return experiment_name(parse_params(values | {"pretrain": pretrain}), overrides or [], "r")

    assert name() == name(seed=77) and re.fullmatch("r-[0-9a-f]{6}", name())
    assert len({name(), name(learning_rate=3e-4), name(["vocab.size=9"])}) == 3


@pytest.fixture
def made(monkeypatch) -> list[tuple[str, int]]:
    """Runs take no time; their loss is a tenth of the seed."""
    ran: list[tuple[str, int]] = []

    def experiments() -> list[Experiment]:
        found = []
        for name, seed in ran:
            metrics = {"mlm_loss": seed / 10, "mlm_accuracy": None, "words": 9}
            params = {"pretrain.seed": seed, "vocab.size": 300}
            found.append(Experiment(name, "abc", "", params, "", "", metrics, {}, None))
        return found

    monkeypatch.setattr(command, "run_git", lambda *words: "")
    monkeypatch.setattr(command, "run_seed", lambda name, seed, overrides: ran.append((name, seed)))
    monkeypatch.setattr(command, "experiments", experiments)
    return ran


def test_every_seed_is_run_and_its_metrics_kept(made, params):
    repeats = repeat(params, [5, 6, 7], [], "repeat")
    assert [seed for _, seed in made] == [5, 6, 7]
    assert [run.seed for run in repeats.runs] == [5, 6, 7]
    assert [name for name, _ in made] == [run.experiment for run in repeats.runs]
    assert repeats.runs[1].metrics == {"mlm_loss": 0.6}
    assert "600 ± 0.100" in command.summary(repeats)


def test_params_that_change_between_the_runs_are_noticed(made, params, monkeypatch):
    found = command.experiments

    def changed() -> list[Experiment]:
        return [each for each in found() if not each.params.update(vocab=each.name)]

    monkeypatch.setattr(command, "experiments", changed)
    with pytest.raises(UserError, match="changed between the runs"):
        repeat(params, [5, 6], [], "repeat")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1"], "SEEDS should be at least 2. Received: 1"),
        (["3", "-S", "pretrain.seed=4"], "pretrain.seed is what differs"),
        (["3", "--name", "a b"], "NAME should have letters"),
    ],
)
def test_arguments_that_cannot_be_meant_are_refused(arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["repeat", *arguments])
    with pytest.raises(UserError, match=message):
        command.main()


@pytest.mark.slow
def test_a_killed_repetition_continues_and_the_card_shows_its_result(tmp_path):
    project = Project(tmp_path / "project")
    project.environment |= PERSON
    write_text(project.folder / "data/raw")
    project.run("dvc", "config", "--unset", "core.no_scm")
    project.run("git", "init", "-q")
    project.run("dvc", "add", "-q", "data/raw")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-qm", "text")
    project.run("dvc", "repro")

    killed = project.start(*REPEAT, "2")
    lines = []
    assert killed.stdout
    for line in killed.stdout:
        lines.append(line)
        # The base seed comes from the cache; the other one is trained.
        if "Running stage 'pretrain@main'" in line:
            break
    assert any("Stage 'pretrain@main' is cached" in line for line in lines)
    os.kill(killed.pid, signal.SIGKILL)
    killed.stdout.read()  # Until dvc and the stage have ended too.
    killed.wait()
    deadline = time.monotonic() + 60
    while project.processes("dvc") or project.processes("stages.pretrain"):
        assert time.monotonic() < deadline
        time.sleep(0.5)

    output = project.run(*REPEAT, "2", timeout=600)
    assert output.count("Running stage 'pretrain@main'") == 1
    assert "2 runs with pretrain.seed 1, 2" in output
    assert "models/main/README.md shows them" in output
    runs = json.loads((project.folder / "results/repeats.json").read_text())["runs"]
    losses = [run["metrics"]["mlm_loss"] for run in runs]
    assert len(set(losses)) == 2
    card = (project.folder / "models/main/README.md").read_text()
    assert "2 runs with pretrain.seed 1, 2" in card
    assert "2 seeds: mean ± sd" in (project.folder / "results/report.html").read_text()
    assert "up to date" in project.run("dvc", "status", "evaluate")

    again = project.run(*REPEAT, "2", timeout=600)
    assert "Running stage 'pretrain@main'" not in again
    table = project.run(sys.executable, "-m", "lib.commands.experiments")
    assert re.search(r"repeat-[0-9a-f]{6}-seed-\{1,2\}", table)
    compare = (sys.executable, "-m", "lib.commands.compare")
    assert "MLM loss" in project.run(*compare, "main", runs[1]["experiment"])
    assert "include the variance over documents and over training seeds" in project.run(
        *compare, "repeat-*", "unigram"
    )
    # A folder is evaluated as the model in it was.
    folder = project.run(*compare, "models/main", "main")
    assert re.search(r"MLM loss \(nats\) .* \+0\.000 ", folder)
