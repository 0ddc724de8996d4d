"""Runs that go on from the state of a shorter one, and phases that start from a state."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from lib.model.bert_config import BertConfig
from lib.params import parse_params
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.phases import training_settings
from lib.train import initial_state, prolonging
from lib.train.initial_state import Earlier, earlier_training, read_initial_state
from lib.train.saving import accepted_code, checkpoint, identity, kept_state, run_record, runs
from lib.train.saving.saved_models import SavedModels
from lib.train.saving.tokenizer_files import digests_of
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer
from tests.helpers.tiny_bert import TINY, random_weights

FACTS = {"processor": "one", "log_every": "100"}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]
TOKENIZER = WordPieceTokenizer(WORDS, True, True)
STEPS, SEQUENCES = 20, 1000
STATE = Path("models/state/main")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder of the project."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(identity, "training_code", lambda: "new")
    Path("vocab").mkdir()
    Path("vocab/vocab.txt").write_text("[PAD]\n")
    return tmp_path


@pytest.fixture
def stable(values):
    """Parameters of a run with a constant rate."""
    values["pretrain"] |= {"schedule": "constant", "steps": STEPS, "warmup_steps": 4}
    return values


def run_of(values, code="new", records="1", **changes):
    """The settings, identity and folder of the run of phase main with some changes."""
    params = parse_params({**values, "pretrain": values["pretrain"] | changes})
    settings = training_settings(params.pretrain, params.phases["main"])
    found = identity.identify(settings, records, Path("vocab"), Path("vocab"))
    own = identity.Identity(found.inputs, found.settings, code)
    return settings, own, runs.phase_folder("main") / own.name


def arrays(workers=1) -> dict[str, np.ndarray]:
    weights = random_weights(1)
    slots = {f"{slot}/{name}": each * 0.5 for name, each in weights.items() for slot in "mv"}
    facts = {"workers": workers, "pending": True, "skipped/total": 2.0, "final/00/x": 1.0}
    return {**weights, **slots, **{name: np.array(value) for name, value in facts.items()}}


def finish(values, output: Path | None = STATE, workers=1, earlier=None, **changes) -> Path:
    """A finished run with a saved model and its state, also as an output; its folder in scratch."""
    settings, own, run = run_of(values, **changes)
    with checkpoint.exclusive(run):
        facts = {
            "config": vars(TINY),
            "tokenizer": digests_of(TINY, TOKENIZER),
            "total_steps": settings.steps,
            **(earlier or Earlier()).record(),
        }
        run_record.begin(run, "main", own, facts)
        run_record.start(run, 0, FACTS)
        saved = SavedModels(run, None, lambda target: (target / "model").write_text("best"))
        saved.after_step(10, 3.0)
        saved.save_state(
            lambda target, models: kept_state.write(
                target, run, settings.steps, arrays(workers), run / "logs", models
            )
        )
        saved.after_step(settings.steps, 2.0)
        checkpoint.save(run, settings.steps, arrays(workers), run / "logs", 2, saved.digests)
        if output:
            kept_state.publish(saved, output)
        (run / "weights").write_bytes(b"x")
        runs.finish(run, run / "weights")
    return run.parent / runs.FINISHED


def prolonged(values, workers=1, **changes) -> list[int]:
    """The steps of the checkpoints that a run has before its first step."""
    settings, own, run = run_of(values, **changes)
    runs.prepare(run, own)
    prolonging.prolong(run, own, settings, SEQUENCES, workers, STATE)
    return checkpoint.steps(run)


LONGER = {
    "more steps": {"steps": 30},
    "epochs": {"steps": None, "epochs": 1.0},
    "a decay that begins later": {"steps": 30, "schedule": "polynomial", "decay_steps": 10},
    "another rate that a constant schedule never has": {"steps": 30, "end_learning_rate": 1e-5},
}
OTHERS = {
    "seed": {"steps": 30, "seed": 2},
    "batch size": {"steps": 30, "batch_size": 8},
    "rate": {"steps": 30, "learning_rate": 1e-3},
    "warm-up": {"steps": 30, "warmup_steps": 5},
    "warm-up in proportion": {"steps": 30, "warmup_steps": 0.2},
    "decay from the start": {"steps": 30, "schedule": "polynomial"},
    "a decay that began earlier": {"steps": 30, "schedule": "polynomial", "decay_steps": 11},
    "optimizer": {"steps": 30, "optimizer": "lamb"},
    "weight decay": {"steps": 30, "weight_decay": 0.1},
    "fewer steps": {"steps": 19},
    "records": {"steps": 30, "records": "2"},
    "code": {"steps": 30, "code": "newer"},
    "workers": {"steps": 30, "workers": 2},
}


@pytest.mark.parametrize("change", LONGER)
@pytest.mark.parametrize("where", ["scratch", "output"])
def test_a_longer_run_goes_on_from_the_last_state(stable, capsys, change, where):
    finished = finish(stable)
    if where == "output":
        finished.rename(finished.with_name(".gone"))
    assert prolonged(stable, **LONGER[change]) == [STEPS]
    assert f"goes on from step {STEPS}, the last one of a run" in capsys.readouterr().err
    _, _, run = run_of(stable, **LONGER[change])
    # The model that the last evaluation replaced is there, too: a longer run may not make that.
    assert checkpoint.damage(run, STEPS) is None
    assert [path.name for path in run.glob("models/*")] == ["best-10"]
    assert checkpoint.load(run, STEPS).arrays["pending"]
    assert run_record.read(run)["history"] == [{"step": 0, **FACTS}]
    # It is resumed from its own checkpoints from now on.
    checkpoint.save(run, 25, arrays(), run / "logs", 9)
    assert prolonged(stable, **LONGER[change]) == [STEPS, 25]


@pytest.mark.parametrize("change", OTHERS)
def test_other_runs_start_at_step_0(stable, change):
    finish(stable)
    assert prolonged(stable, **OTHERS[change]) == []


def test_a_run_with_the_rate_of_an_equal_schedule_goes_on(stable):
    stable["pretrain"] |= {"schedule": "cosine", "decay_steps": 10}
    finish(stable, output=None, schedule="constant")
    assert prolonged(stable, steps=30) == [STEPS]


def test_the_longest_state_that_fits_is_taken(stable):
    finish(stable, steps=30)
    finish(stable, output=None)
    assert prolonged(stable, steps=40) == [30]


def test_a_state_of_accepted_code_is_taken(stable, capsys):
    finish(stable)
    assert prolonged(stable, steps=30, code="newer") == []
    assert "training code has changed" in capsys.readouterr().err
    accepted_code.accept("new", "newer")
    assert prolonged(stable, steps=30, code="newer") == [STEPS]


def test_a_damaged_state_is_not_taken(stable, capsys):
    finished = finish(stable)
    for state in (finished / "models/state", STATE):
        path = state / f"step-{STEPS}/arrays.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.unlink()
        path.write_bytes(content)
    assert prolonged(stable, steps=30) == []
    assert "damaged state (the content of arrays.safetensors" in capsys.readouterr().err


def to_cache(cache: Path) -> None:
    """Moves the output into DVC's cache, as DVC does before it runs the stage."""
    listed = []
    for path in sorted(path for path in STATE.rglob("*") if path.is_file()):
        md5 = fingerprint.of_file(path)
        target = cache / "files/md5" / md5[:2] / md5[2:]
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        listed.append({"md5": md5, "relpath": path.relative_to(STATE).as_posix()})
    target = cache / "files/md5/ab/cd.dir"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(listed))
    out = {"path": str(STATE), "md5": "abcd.dir", "nfiles": len(listed)}
    lock = {"stages": {"pretrain@main": {"cmd": "python", "outs": [out]}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    STATE.rename("elsewhere")


def test_a_longer_run_goes_on_from_the_state_in_the_cache_of_dvc(stable, monkeypatch, capsys):
    finished = finish(stable)
    to_cache(Path("cache").resolve())
    finished.rename(finished.with_name(".gone"))
    monkeypatch.setattr(prolonging, "_cache", lambda: Path("cache").resolve())
    assert prolonged(stable, steps=30, seed=2) == []
    assert prolonged(stable, steps=30) == [STEPS]
    assert not list(finished.parent.glob(".*.dropped"))
    assert prolonged(stable, steps=40) == [STEPS]
    # Pulled without it: a line says what to do.
    next(path for path in Path("cache").rglob("*") if path.stat().st_size > 10_000).unlink()
    capsys.readouterr()
    assert prolonged(stable, steps=50) == []
    assert "`dvc fetch models/state/main`" in capsys.readouterr().err


def read(values, init=STATE, length=16, tokenizer=TOKENIZER, **changes):
    settings = parse_params({**values, "pretrain": values["pretrain"] | changes}).pretrain
    return read_initial_state(settings, "decay", init, length, 2, tokenizer)


def test_a_phase_starts_from_a_state(stable):
    finish(stable)
    initial = read(stable, learning_rate=1e-4, batch_size=8)
    assert initial.config == BertConfig(**vars(TINY)) and not initial.from_scratch
    for name, values in random_weights(1).items():
        assert np.array_equal(initial.weights[name], values)
    (note,) = initial.notes
    assert "weights and optimizer slots after 20 steps" in note


def test_a_state_that_does_not_fit_is_refused_in_one_line(stable, tmp_path):
    finish(stable)
    other = WordPieceTokenizer([*WORDS[:-1], "other"], True, True)
    refused = [
        (r"pretrain.optimizer adamw, which is now lamb", {"optimizer": "lamb"}),
        (
            r"pretrain.model.hidden_size 128, which is now 64",
            {"model": {**stable["pretrain"]["model"], "hidden_size": 64}},
        ),
        (r"with another vocabulary than data/vocab", {"tokenizer": other}),
        (r"max_seq_length: 25 is more than the 24 positions", {"length": 25}),
    ]
    kept_state.write_nothing(tmp_path / "models/state/falling")
    refused.append((r"no state is kept .* models/falling", {"init": Path("models/state/falling")}))
    for message, changes in refused:
        with pytest.raises(UserError, match=message) as failure:
            read(stable, **changes)
        assert "\n" not in str(failure.value) and "phases.decay." in str(failure.value)
    next(STATE.glob("step-*/arrays.safetensors")).unlink()
    with pytest.raises(UserError, match=r"damaged \(arrays.safetensors is missing\)"):
        read(stable)


def test_a_state_of_an_earlier_version_goes_on(stable):
    """It had BERT only, and its parameters no architecture."""
    finished = finish(stable)
    finished.rename(finished.with_name(".gone"))
    record = run_record.read(STATE)
    for key in ("architecture", "local_attention", "global_attn_every_n_layers"):
        del record["settings"]["model"][key]
    run_record.write(STATE, record)
    assert read(stable).config == TINY
    assert prolonged(stable, steps=30) == [STEPS]
    stable["records"]["next_sentence"] = False
    stable["pretrain"]["model"]["architecture"] = "modernbert"
    assert prolonged(stable, steps=30) == []
    with pytest.raises(UserError, match="architecture bert, which is now modernbert; set it back"):
        read(stable)


def test_the_order_of_the_same_records_goes_on(stable):
    batch = stable["pretrain"]["batch_size"]
    finish(stable, earlier=Earlier(100, 50, 1))
    assert earlier_training(STATE, run_of(stable, batch_size=7)[1], 1) == Earlier(
        120, 50 + STEPS * batch, 2
    )
    for other in ({"records": "2"}, {"seed": 5}, {"shuffle_buffer": 9}):
        assert earlier_training(STATE, run_of(stable, **other)[1], 1) == Earlier(120, 0, 2)
    assert earlier_training(STATE, run_of(stable)[1], 2) == Earlier(120, 0, 2)
    assert initial_state.Earlier.recorded({}) == Earlier()
