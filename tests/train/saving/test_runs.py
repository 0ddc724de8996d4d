"""Runs in scratch: what makes another run, which is resumed, what a finished one keeps."""

import random

import numpy as np
import pytest
import yaml

from lib.commands.accept import accept_runs
from lib.params import parse_params
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.train.saving import accepted_code, checkpoint, continuing, identity, run_record, runs

FACTS = {"processor": "one (avx2)", "tensorflow": "2.0", "log_every": "100"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder of the project; the code is called `new`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(identity, "training_code", lambda: "new")
    (tmp_path / "init.json").write_text("{}")
    (tmp_path / "vocab").mkdir()
    (tmp_path / "vocab/vocab.txt").write_text("[PAD]\n")
    return tmp_path


def identity_of(folder, values, code="new", records="1", **changes) -> identity.Identity:
    settings = parse_params({**values, "pretrain": values["pretrain"] | changes}).pretrain
    found = identity.identify(settings, records, folder / "init.json", folder / "vocab")
    return identity.Identity(found.inputs, found.settings, code)


def train(phase, own, *steps):
    """A run with these checkpoints."""
    run = runs.phase_folder(phase) / own.name
    with checkpoint.exclusive(run):
        run_record.begin(run, phase, own, {})
        run_record.start(run, 0, FACTS)
        for step in steps:
            checkpoint.save(run, step, {"step": np.float32(step)}, run / "logs", 9)
    return run


def finish(folder, run):
    """Makes it the finished run; returns its folder."""
    (folder / "weights").write_bytes(run.name.encode())
    with checkpoint.exclusive(run):
        runs.finish(run, folder / "weights")
    return run.parent / runs.FINISHED


def test_a_run_is_identified_by_what_determines_its_weights(folder, values):
    first = identity_of(folder, values)
    unchanged = {
        "log_every": 7,
        "evaluate_every": 70,
        "save_model_every": 3,
        "max_dev_sequences": 9,
        "checkpoint_every": 5,
        "checkpoint_minutes": 2,
        "checkpoint_dir": "gs://bucket/x",
        "keep_checkpoints": 3,
        "tensorboard": True,
        "tpu": {"name": "x", "steps_per_execution": 9},
    }
    for key, value in unchanged.items():
        assert identity_of(folder, values, **{key: value}).name == first.name, key
    changed = {"learning_rate": 1e-4, "seed": 2, "steps": 9000, "batch_size": 8, "power": 2.0}
    names = {identity_of(folder, values, **{key: value}).name for key, value in changed.items()}
    names |= {
        identity_of(folder, values, code="old").name,
        identity_of(folder, values, records="2").name,
    }
    for path in ("init.json", "vocab/vocab.txt"):
        (folder / path).write_text("{ }")
        names.add(identity_of(folder, values).name)
    assert len(names - {first.name}) == len(changed) + 4
    # Every other setting counts.
    left_out = set(type(parse_params(values).pretrain).model_fields) - first.settings.keys()
    assert left_out == unchanged.keys()


def test_a_run_by_other_code_is_resumed_after_make_accept_only(folder, values, capsys):
    train("main", identity_of(folder, values, "old"), 10, 20)
    new = identity_of(folder, values)
    run = runs.phase_folder("main") / new.name
    runs.prepare(run, new)
    assert "training code has changed since step 20 of this run" in capsys.readouterr().err
    assert checkpoint.steps(run) == []
    (line,) = accept_runs()
    assert line == "accept: phase main: its unfinished run of 20 steps can be resumed"
    # Also where the new code has made some steps meanwhile, and changed once more.
    train("main", new, 10)
    accepted_code.accept("new", "newest")
    newest = identity_of(folder, values, "newest")
    run = runs.phase_folder("main") / newest.name
    runs.prepare(run, newest)
    assert checkpoint.steps(run) == [10, 20] and run_record.code_of(run) == "old"
    assert [path.name for path in runs.unfinished(run.parent)] == [newest.name]
    assert not accepted_code.is_accepted("newest", "old")


def test_the_same_run_is_not_trained_by_two_versions_of_the_code_at_the_same_time(folder, values):
    other = train("main", identity_of(folder, values, "old"), 10)
    new = identity_of(folder, values)
    with checkpoint.exclusive(other), pytest.raises(UserError, match="is training this same run"):
        runs.prepare(other.parent / new.name, new)


def test_a_run_with_other_settings_is_left_alone(folder, values, capsys):
    other = train("main", identity_of(folder, values, "old", seed=7), 10)
    accepted_code.accept("old", "new")
    new = identity_of(folder, values)
    runs.prepare(runs.phase_folder("main") / new.name, new)
    assert checkpoint.steps(other) == [10] and capsys.readouterr().err == ""


def test_a_finished_run_keeps_its_last_checkpoint_until_the_next_one_finishes(folder, values):
    train("main", identity_of(folder, values, "old"), 10)
    run = train("main", identity_of(folder, values), 10, 20)
    finished = finish(folder, run)
    assert checkpoint.steps(finished) == [20] and run_record.read(finished)["finished"]
    # That of the same run by other code is of no use any more.
    assert runs.unfinished(runs.phase_folder("main")) == []
    next_run = train("main", identity_of(folder, values, seed=2), 30)
    finish(folder, next_run)
    assert checkpoint.steps(finished) == [30]
    with checkpoint.exclusive(finished):
        runs.drop_finished(runs.phase_folder("main"))
        assert finished.exists()  # It is in use.
        finish(folder, train("main", identity_of(folder, values, seed=3), 40))
        assert checkpoint.steps(finished) == [30]
    runs.drop_finished(runs.phase_folder("main"))
    assert not finished.exists()


def test_the_history_names_what_changed_and_at_which_step(folder, values, capsys):
    run = train("main", identity_of(folder, values), 10)
    run_record.start(run, 10, FACTS)
    assert capsys.readouterr().err == ""
    assert run_record.changes(run_record.read(run)["history"]) == {}
    run_record.start(run, 20, {**FACTS, "processor": "two (avx512f)"})
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "pretrain: processor changed at step 20: one (avx2) -> two (avx512f); the weights may "
        "differ from those of a run without this change"
    ]
    run_record.start(run, 30, {**FACTS, "log_every": "50"})
    # What was made after step 25 is lost.
    run_record.start(run, 25, {**FACTS, "log_every": "50"})
    assert run_record.changes(run_record.read(run)["history"]) == {
        "after_step_20": {"processor": "one (avx2) -> two (avx512f)"},
        "after_step_25": {"processor": "two (avx512f) -> one (avx2)", "log_every": "100 -> 50"},
    }
    # A run that begins again has no past.
    run_record.start(run, 0, FACTS)
    assert run_record.changes(run_record.read(run)["history"]) == {}


def test_a_damaged_record_is_noticed(folder, values, capsys):
    run = train("main", identity_of(folder, values), 10)
    whole = (run / run_record.RECORD).read_bytes()
    written = run_record.read(run)
    draw = random.Random(1)
    for _ in range(20):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (run / run_record.RECORD).write_bytes(content)
        # A flip in a space between two values changes nothing.
        assert run_record.read(run) in ({}, written)
    assert "run.json: damaged" in capsys.readouterr().err


def test_an_unreadable_file_of_accepted_code_is_reported(folder):
    accepted_code.accept("old", "new")
    (folder / ".scratch/accepted_code.json").write_text("[[")
    with pytest.raises(UserError, match=r"accepted_code.json: not readable; delete it"):
        accepted_code.is_accepted("old", "new")


def test_a_run_that_is_forced_to_start_at_step_0_forgets_its_checkpoints(folder, values):
    new = identity_of(folder, values)
    run = train("main", new, 10)
    runs.prepare(run, new, from_start=True)
    assert checkpoint.steps(run) == [] and run_record.read(run) == {}


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_is_continued_once_with_another_length_and_rate(folder, values, capsys, is_finished):
    source = train("main", identity_of(folder, values), 10, 20)
    before = source
    if is_finished:
        source = finish(folder, source)
    longer = identity_of(folder, values, steps=9000, learning_rate=1e-4)
    run = before.parent / longer.name
    # Without being asked to, a run with other settings starts at step 0.
    runs.prepare(run, longer)
    assert checkpoint.steps(run) == []
    assert continuing.check(source, longer) == {
        "steps": "8000 -> 9000",
        "learning_rate": "0.002 -> 0.0001",
    }
    continuing.ask(run.parent, source, longer)
    other = identity_of(folder, values, steps=7000)
    runs.prepare(run.parent / other.name, other)  # Another run, which is not meant.
    runs.prepare(run, longer)
    assert checkpoint.steps(run) == [20] and checkpoint.damage(run, 20) is None
    assert "continues the run of 20 steps" in capsys.readouterr().err
    run_record.begin(run, "main", longer, {})
    assert list(run_record.read(run)["continued"]) == ["after_step_20"]
    assert checkpoint.steps(source)[-1] == 20  # Nothing is taken away from it.
    # Once: from now on this is a run as any other.
    checkpoint.save(run, 30, {"step": np.float32(30)}, run / "logs", 9)
    runs.prepare(run, longer)
    assert checkpoint.steps(run) == [20, 30]


def test_what_is_forced_is_not_continued(folder, values, capsys):
    source = train("main", identity_of(folder, values), 10)
    longer = identity_of(folder, values, steps=9000)
    run = source.parent / longer.name
    continuing.ask(run.parent, source, longer)
    runs.prepare(run, longer, from_start=True)
    runs.prepare(run, longer)
    assert checkpoint.steps(run) == [] and "is void" in capsys.readouterr().err


def test_a_run_of_other_data_sizes_or_code_cannot_be_continued(folder, values):
    source = train("main", identity_of(folder, values), 10)
    for other in (
        identity_of(folder, values, batch_size=8),
        identity_of(folder, values, records="2"),
        identity_of(folder, values, model={**values["pretrain"]["model"], "hidden_size": 64}),
    ):
        with pytest.raises(UserError, match=r"cannot be continued: .* differs"):
            continuing.check(source, other)
    with pytest.raises(UserError, match="run `make accept` to continue"):
        continuing.check(source, identity_of(folder, values, code="newer", steps=9000))
    longer = identity_of(folder, values, steps=9000)
    continuing.ask(source.parent, source, longer)
    (source / "step-10/arrays.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="has no checkpoint any more"):
        runs.prepare(source.parent / longer.name, longer)


def test_a_finished_run_is_taken_up_by_dvc_if_only_intervals_changed_or_its_end_is_not_recorded(
    folder, values, capsys
):
    new = identity_of(folder, values)
    run = train("main", new, 10, 20)
    finished = finish(folder, run)
    md5 = fingerprint.of_file(folder / "weights")
    lock = {"stages": {"pretrain@main": {"outs": [{"path": "models/main/x", "md5": md5}]}}}
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock))
    same, other = {"log_every": "100"}, {"log_every": "50"}
    for identity_, intervals in (
        (new, None),  # not run by dvc
        (new, same),  # dvc has recorded it: its outputs are missing on purpose
        (identity_of(folder, values, seed=2), other),
        (identity_of(folder, values, code="newer"), other),
    ):
        runs.prepare(run.parent / identity_.name, identity_, intervals=intervals)
        assert finished.exists()
    runs.prepare(run, new, intervals=other)
    assert checkpoint.steps(run) == [20] and not finished.exists()
    assert "its outputs are written from its last checkpoint" in capsys.readouterr().err
    finish(folder, run)
    (folder / "dvc.lock").unlink()
    runs.prepare(run, new, from_start=True, intervals=same)
    assert checkpoint.steps(run) == [] and finished.exists()
    runs.prepare(run, new, intervals=same)
    assert checkpoint.steps(run) == [20]
