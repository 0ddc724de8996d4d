"""make finish: the models of a run that has not finished."""

import json
import os

import numpy as np
import pytest

from lib.checkpoints.huggingface import read_model, write_model
from lib.commands import finish as command
from lib.commands.finish import finish
from lib.model.config import config_record
from lib.model.initialization import initial_values
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.train.saving import checkpoint, digests, run_record, runs
from lib.vocab.export import write_tokenizer
from tests.helpers.tiny_bert import TINY, TINY_MODERN

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]


def train(run, *steps, best=20, config=TINY):
    """A run with checkpoints whose weights are those of the seed `step`, and a best model."""
    tokenizer = run / runs.TOKENIZER
    if not tokenizer.exists():
        write_tokenizer(tokenizer, VOCABULARY, True, True, config.max_position_embeddings)
    special_ids = config.special_ids(0, 2, 3)
    record = {"config": config_record(config), "special_ids": special_ids, "total_steps": 90}
    run_record.write(run, {**record, "tokenizer": digests.of_folder(tokenizer)})
    name = f"best-{best}"
    if not (run / "models" / name).exists():
        write_model(run / "models" / name, config, initial_values(config, best), special_ids)
    models = {name: digests.of_folder(run / "models" / name)}
    for step in steps:
        arrays = {
            **initial_values(config, step),
            "best/step": np.array(best),
            "best/loss": np.array(2.5),
            "final/00/dev_mlm_loss": np.array(3.0),
        }
        checkpoint.save(run, step, arrays, run / "logs", 2, models)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of an unfinished run of the phase main."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return runs.phase_folder("main") / "0123-4567"


def assert_weights(folder, seed, config=TINY):
    found, weights = read_model(folder)
    assert found == config
    for name, values in initial_values(config, seed).items():
        assert np.array_equal(weights[name], values), name


def test_the_last_and_the_best_model_are_exported_and_the_run_is_left_as_it_is(run, tmp_path):
    train(run, 20, 30)
    before = fingerprint.of_path(run)
    target = tmp_path / "models/unfinished/main"
    with checkpoint.exclusive(run):  # It is training.
        lines = list(finish("main", target))
    assert lines == [
        f"main: step 30 of 90, dev MLM loss 3.000 when last evaluated -> {target}/last",
        f"main: best model so far, step 20, dev MLM loss 2.500 -> {target}/best",
    ]
    assert_weights(target / "last", 30)
    assert_weights(target / "best", 20)
    assert (target / "last/vocab.txt").read_text().split() == VOCABULARY
    (run / "lock-0").unlink()
    assert fingerprint.of_path(run) == before


def test_the_models_of_a_modernbert_are_exported(run, tmp_path):
    train(run, 30, config=TINY_MODERN)
    assert "step 30 of 90" in next(finish("main", tmp_path / "target"))
    assert_weights(tmp_path / "target/last", 30, TINY_MODERN)
    assert_weights(tmp_path / "target/best", 20, TINY_MODERN)
    values = json.loads((tmp_path / "target/last/config.json").read_text())
    assert (values["cls_token_id"], values["eos_token_id"], values["pad_token_id"]) == (2, 3, 0)


def test_a_run_of_an_earlier_version_is_exported(run, tmp_path):
    train(run, 30)
    record = run_record.read(run)
    del record["config"]["architecture"], record["special_ids"]
    run_record.write(run, record | {"pad_token_id": 0})
    assert "step 30 of 90" in next(finish("main", tmp_path / "target"))
    assert_weights(tmp_path / "target/last", 30)


def test_a_damaged_checkpoint_is_left_out_but_not_removed(run, tmp_path):
    train(run, 20, 30)
    path = run / "step-30/arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    lines = list(finish("main", tmp_path / "target"))
    assert "step-30: damaged checkpoint" in lines[0] and "step 20 of 90" in lines[1]
    assert_weights(tmp_path / "target/last", 20)
    assert path.exists()


def test_a_run_that_replaces_its_checkpoints_meanwhile_is_read_again(run, tmp_path, monkeypatch):
    train(run, 20, 30)
    original, calls = command.write_model, []

    def write_while_it_trains(*arguments):
        original(*arguments)
        if not calls:
            calls.append(1)
            train(run, 40, 50, best=35)

    monkeypatch.setattr(command, "write_model", write_while_it_trains)
    lines = list(finish("main", tmp_path / "target"))
    assert "step 50 of 90" in lines[0] and "step 35" in lines[1]
    assert_weights(tmp_path / "target/last", 50)
    assert_weights(tmp_path / "target/best", 35)


def test_of_several_runs_the_one_that_was_trained_last_is_exported(run, tmp_path):
    train(run, 20)
    other = run.with_name("89ab-4567")
    train(other, 30)
    os.utime(other / "step-30", (1, 1))
    assert "step 20 of 90" in next(finish("main", tmp_path / "target"))


def test_without_an_unfinished_run_the_error_says_where_finished_models_are(run, tmp_path):
    train(run, 20)
    run.rename(run.with_name(runs.FINISHED))
    with pytest.raises(UserError, match="no unfinished run of phase main has a checkpoint"):
        list(finish("main", tmp_path / "target"))
