"""The benchmarks of training; their figures are not tested."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from bench import ROOT
from bench.common import jobs
from bench.training import learning, recipes, summary
from bench.training.probe import hashtag_task
from lib.commands.recipe import apply_recipe, merge
from lib.params import parse_params
from lib.vocab.tokenizer import WordPieceTokenizer


def make_run(name: str, rate: float, seed: int, *losses: float) -> dict:
    points = [
        {"step": 10 * number, "cpu_seconds": 60.0 * number, "loss": loss, "accuracy": 0.25}
        for number, loss in enumerate(losses, 1)
    ]
    points[-1]["other"] = losses[-1] + 1
    return {
        "job": {"name": name, "rate": rate, "seed": seed, "cpu_seconds": 120.0},
        "points": points,
        "steps": 20,
        "cpu_seconds": 120.0,
    }


def test_runs_are_summarised_by_means_over_seeds():
    runs = [
        make_run("ours", 1e-3, 1, 5.0, 4.0),
        make_run("Hugging Face", 1e-3, 1, 7.0, 6.0),
        make_run("ours", 1e-3, 2, 6.0, 3.0),
        make_run("ours", 2e-3, 1, 6.0, 3.8),
    ]
    rows = summary.summarise(runs, "loss", "accuracy", "other")
    ours, theirs, _ = rows
    assert (ours["name"], ours["rate"], ours["seeds"], ours["mean"]) == ("ours", "0.001", 2, 3.5)
    assert ours["lowest"] == "3.0000" and ours["other"] == "4.5000"
    assert ours["accuracy"] == "25.0%" and ours["cpu_minutes"] == 2.0
    assert theirs["mean"] == 6.0
    assert summary.best_rates(runs, "loss") == {"ours": 1e-3, "Hugging Face": 1e-3}
    assert summary.best_rates(runs, "accuracy") == {"ours": 1e-3, "Hugging Face": 1e-3}  # all equal
    curves = summary.mean_curves(runs, "loss")
    assert curves["ours", 1e-3] == [(1.0, 5.5), (2.0, 3.5)]
    assert summary.time_to_reach(curves["ours", 1e-3], 4.0) == 2.0
    assert summary.time_to_reach(curves["ours", 1e-3], 3.0) == math.inf
    assert len(summary.curves_csv(runs, "loss", "accuracy").splitlines()) == 1 + 8


def test_saved_result_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "measure", None)
    job = {"name": "ours", "rate": 1e-3, "folder": str(tmp_path)}
    (tmp_path / "result.json").write_text(json.dumps({"job": job, "steps": 7}))
    assert learning.run(job)["steps"] == 7
    with pytest.raises(TypeError):  # A different job would run.
        learning.run({**job, "rate": 2e-3})


def test_settings_of_every_learning_job_are_valid_params(values, tmp_path):
    parser = learning.make_argument_parser()
    options = parser.parse_args(["--wikitext", "x", "--work", str(tmp_path)])
    runs = [(name, r, 1) for name in learning.SYSTEMS for r in learning.rates_of(options, name)]
    made = learning.make_jobs(options, {}, {"ours": 500, "Hugging Face": 200}, runs)
    assert len(made) == 2 * 3 and len({job["folder"] for job in made}) == len(made)
    for job in made:
        values["pretrain"] |= {"learning_rate": job["rate"], **job["pretrain"]}
        parse_params(values)


def test_each_variant_of_a_recipe_has_valid_params_of_its_own(tmp_path):
    found = []
    for recipe, changes in recipes.make_variants(parts=True).values():
        path = tmp_path / "params.yaml"
        shutil.copyfile(ROOT / "params.yaml", path)
        apply_recipe(ROOT / "recipes" / f"{recipe}.yaml", path)
        values = yaml.safe_load(path.read_text())
        for each in (recipes.SHARED, recipes.OWN[recipe], changes):
            merge(values, each)
        parse_params(values)
        found.append(values)
    assert all(values not in found[:number] for number, values in enumerate(found))


def test_blocks_contain_all_lines_one_after_the_other(tmp_path):
    from bench.training.heldout import block_batches

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = WordPieceTokenizer([*specials, *letters], lowercase=True, strip_accents=True)
    lines = [" ".join(letters[number % 26 :]) for number in range(70)]
    (tmp_path / "text.txt").write_text("\n\n".join(lines))
    blocks = []
    for batch in block_batches(tmp_path / "text.txt", tokenizer, 16):
        ids = batch["input_ids"].numpy()
        block, prediction = np.nonzero(batch["masked_lm_weights"].numpy())
        positions = batch["masked_lm_positions"].numpy()[block, prediction]
        ids[block, positions] = batch["masked_lm_ids"].numpy()[block, prediction]
        blocks.append(ids)
    expected = [one for line in lines for one in (2, *tokenizer.encode(line), 3)]
    found = np.concatenate(blocks).reshape(-1)
    # Whole batches of 32 blocks of 16 tokens.
    assert len(found) == len(expected) // 512 * 512
    assert found.tolist() == expected[: len(found)]


@pytest.mark.slow
def test_losses_are_those_of_the_evaluator(tmp_path):
    from bench.training.heldout import losses
    from lib.checkpoints.huggingface import write_model
    from lib.evaluation.evaluator import Evaluator
    from tests.helpers.tiny_bert import TINY, random_batch, random_weights

    first, second = [random_batch(1), random_batch(2)], [random_batch(3)]
    expected = []
    for seed in (1, 2):
        weights = random_weights(seed)
        write_model(tmp_path / str(seed), TINY, weights, {})
        evaluator = Evaluator(TINY, weights)
        found = (evaluator.evaluate_records(batches, False) for batches in (first, second))
        expected.append([means["mlm_loss"] for means in found])
    # A model that was trained without sentence pairs has no NSP head.
    path = tmp_path / "1/model.safetensors"
    tensors = load_file(path)
    unused = ("bert.pooler", "cls.seq_relationship")
    save_file({key: one for key, one in tensors.items() if not key.startswith(unused)}, path)
    sets = {"records": first, "blocks": second}
    scored = losses([tmp_path / "1", tmp_path / "2"], sets)
    assert scored[0]["records_loss"] == pytest.approx(expected[0][0], rel=1e-5)
    assert "blocks_loss" not in scored[0]
    assert scored[1]["records_loss"] == pytest.approx(expected[1][0], rel=1e-5)
    assert scored[1]["blocks_loss"] == pytest.approx(expected[1][1], rel=1e-5)


def test_labelled_tweets_are_not_part_of_the_pretraining_text():
    tweets = [f"a walk in the sun number {number} #Sun" for number in range(9)]
    tweets += [f"so much rain on day {number} #rain #wet" for number in range(8)]
    tweets += ["both of them in a day #sun #rain", "too short #sun", "no label in this one #fog"]
    labelled, others = hashtag_task([*tweets, tweets[0]], classes=2, examples=5)
    assert sorted(example["label"] for example in labelled) == ["#rain"] * 5 + ["#sun"] * 5
    assert len({example["text"] for example in labelled}) == 10
    for example in labelled:
        assert example["label"] not in example["text"].lower()
        assert example["text"].endswith("#wet") == (example["label"] == "#rain")
    # Nor is any other tweet with one of the labels.
    assert others == ["no label in this one #fog"]


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("learning", ["--wikitext", "nowhere"], "--wikitext nowhere: no train.txt"),
        ("speed", ["--vocab", "nowhere"], "--vocab nowhere: no such file"),
    ],
)
def test_wrong_path_is_reported_in_one_line(module, options, message):
    command = [sys.executable, "-m", f"bench.training.{module}", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith(f"{module}: error: {message}") and run.stderr.count("\n") == 1


def test_cases_that_need_tweets_are_skipped_without_them(tmp_path):
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("[PAD]\n")
    command = [sys.executable, "-m", "bench.training.speed", "--vocab", vocab]
    command += ["--only", "tweets", "packing", "packed-learning"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in ("tweets", "packing", "packed-learning"):
        assert f"skipped: {name} (give --tweets)" in run.stdout
