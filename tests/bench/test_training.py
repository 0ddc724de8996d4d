"""The benchmarks of training; their figures are not tested."""

import json
import math
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file

from bench import ROOT
from bench.common import jobs
from bench.common.project import Project
from bench.training import continuing, learning, lengths, long_run, recipes, summary
from bench.training.architectures import NAMES, SMALL_INTERMEDIATE, model_settings, small_model
from bench.training.baseline import unigram_loss
from bench.training.probe import hashtag_task
from lib.commands.recipe import apply_recipe, merge
from lib.model.config import new_config
from lib.params import Model, Params, Pretrain, parse_params
from lib.records.tfrecord import encode
from lib.run.errors import UserError
from lib.vocab.export import write_tokenizer
from lib.vocab.wordpiece_tokenizer import WordPieceTokenizer


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
    assert (ours["name"], ours["rate"], ours["seeds"]) == ("ours", "0.001", 2)
    assert ours["score"] == "3.5000" and ours["score_deviation"] == "0.7071"
    assert ours["lowest"] == "3.0000" and ours["other"] == "4.5000"
    assert ours["accuracy"] == "25.0%" and ours["cpu_minutes"] == 2.0
    assert theirs["score"] == "6.0000" and "score_deviation" not in theirs
    assert summary.best_rates(runs, "loss") == {"ours": 1e-3, "Hugging Face": 1e-3}
    assert summary.best_rates(runs, "accuracy") == {"ours": 1e-3, "Hugging Face": 1e-3}  # all equal
    curves = summary.mean_curves(runs, "loss")
    assert curves["ours", 1e-3] == [(1.0, 5.5), (2.0, 3.5)]
    assert summary.time_to_reach(curves["ours", 1e-3], 4.0) == 2.0
    assert summary.time_to_reach(curves["ours", 1e-3], 3.0) == math.inf
    assert len(summary.curves_table(runs, "loss", "accuracy")) == 1 + 8


def test_variants_are_compared_with_their_recipe_by_seed():
    runs = [
        make_run("budget-24h", 1e-3, 1, 3.0),
        make_run("budget-24h", 1e-3, 2, 3.5),
        make_run("budget-24h with x", 2e-3, 2, 3.25),
        make_run("budget-24h with x", 2e-3, 1, 2.5),
        make_run("budget-24h with x", 1e-3, 1, 9.0),
        make_run("hf-guide", 1e-3, 1, 1.0),
    ]
    for run in runs:
        for point in run["points"]:
            point |= {"bits_per_character": point["loss"], "mlm_accuracy": 0.5}
    variants = {
        "hf-guide": ("hf-guide", {}),
        "budget-24h": ("budget-24h", {}),
        "budget-24h with x": ("budget-24h", {"pretrain": {}}),
    }
    rates = {"hf-guide": 1e-3, "budget-24h": 1e-3, "budget-24h with x": 2e-3}
    rows = recipes.compare(runs, variants, rates)
    assert [row["name"] for row in rows] == ["hf-guide", "budget-24h with x", "budget-24h"]
    # 2.5 - 3.0 and 3.25 - 3.5
    assert rows[1]["difference"] == "-0.3750" and rows[1]["difference_deviation"] == "0.1768"
    assert "difference" not in rows[0] and "difference" not in rows[2]


def test_name_with_a_comma_is_quoted_in_the_curves(tmp_path):
    curves = summary.curves_table([make_run("ours, BERT", 1e-3, 1, 5.0)], "loss", "accuracy")
    summary.save_csv(Namespace(out=tmp_path / "x.json"), curves)
    line = (tmp_path / "x.csv").read_text().splitlines()[1]
    assert line == '"ours, BERT",0.001,1,60.0,10,5.00000,0.25000'


def test_best_rate_of_the_first_seed_is_that_of_the_others(capsys):
    asked = []

    def train(runs: list[tuple[str, float, int]]) -> list[dict]:
        asked.append(runs)
        return [make_run(name, rate, seed, abs(rate - 2.0) + seed) for name, rate, seed in runs]

    rates = {"a": [1.0, 2.0, 3.0], "b": [2.5, 4.0], "c": [7.0]}
    runs, best = summary.search_rates(rates, [5, 1, 2], train, "loss")
    assert best == {"a": 2.0, "b": 2.5, "c": 7.0}
    first = [(name, rate, 5) for name, tried in rates.items() for rate in tried]
    others = [(name, rate, seed) for seed in (1, 2) for name, rate in best.items()]
    assert asked == [first, others]
    jobs_of_runs = [run["job"] for run in runs]
    assert [(job["name"], job["rate"], job["seed"]) for job in jobs_of_runs] == first + others
    assert "b: the best rate, 2.5, is at the end of those tried" in capsys.readouterr().err


def test_layers_of_both_architectures_have_equally_many_parameters():
    sizes = {}
    for name in NAMES:
        settings = Model(**model_settings(small_model(name))).model_dump()
        table = new_config(1000, settings).parameter_table()
        layer = [p for p in table if f"/{'layer_' if name == 'bert' else ''}1/" in p.name]
        sizes[name] = sum(math.prod(parameter.shape) for parameter in layer)
    assert len(sizes) == len(SMALL_INTERMEDIATE) == 2
    assert sizes["modernbert"] == pytest.approx(sizes["bert"], rel=0.002)


def test_unigram_loss_is_that_of_the_counts_of_training_text(tmp_path):
    letters = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c"]
    (tmp_path / "vocab").mkdir()
    write_tokenizer(tmp_path / "vocab", letters, True, True, 16)
    (tmp_path / "shards/train").mkdir(parents=True)
    (tmp_path / "shards/train/0.txt").write_text("a a b\n\na b\n")
    example = {name: np.zeros(4, np.int64) for name in ("input_ids", "input_mask", "segment_ids")}
    example["masked_lm_positions"] = np.array([1, 2, 0])
    example["masked_lm_ids"] = np.array([5, 7, 0])
    example["masked_lm_weights"] = np.array([1, 1, 0], np.float32)
    (tmp_path / "records/heldout/dev").mkdir(parents=True)
    record = encode({name: values[None] for name, values in example.items()})
    (tmp_path / "records/heldout/dev/0.tfrecord").write_bytes(record)
    # Each of the eight tokens is counted once more.
    expected = -(math.log(4 / 13) + math.log(1 / 13)) / 2
    folders = {"records": "records/main", "heldout_records": "records/heldout"}
    folders |= {"vocabulary": "vocab"}
    found = unigram_loss({key: str(tmp_path / folder) for key, folder in folders.items()})
    assert found == pytest.approx(expected)


def test_growth_of_time_and_memory_is_one_if_linear():
    rows = []
    for length in (512, 1024, 2048, 4096):
        row = {"length": length}
        for kind, power in (("local", 1), ("global", 2), ("mix", 1)):
            row |= {f"{kind}_seconds": length**power, f"{kind}_mib": 300 + length**power / 100}
        rows.append(row)
    local, far, _ = lengths.growth(rows)
    assert local["time"] == 1 and local["memory"] == pytest.approx(1) and local["passed"]
    assert far["time"] == 8 and far["memory"] == pytest.approx(2) and "passed" not in far


def test_a_continued_model_starts_from_the_run_with_its_seed(tmp_path):
    arguments = ["--wikitext", "x", "--tweets", "y", "--work", str(tmp_path)]
    options = continuing.make_argument_parser().parse_args(arguments)
    steps = {
        f"{text}, {name}": 7
        for text in (continuing.FIRST, continuing.SECOND)
        for name in continuing.OPTIMIZERS
    }
    paths = {text: {"records": text} for text in (continuing.FIRST, continuing.SECOND)}
    bench = continuing.Bench(options, paths, steps)
    first = bench.make_job("adamw", 4e-3, 2)
    second = bench.make_job("muon", 8e-3, 2, first)
    assert second["name"] == "AdamW, then Muon" and second["records"] == continuing.SECOND
    assert second["init"] == f"{first['folder']}/model" and first["keep_model"]
    assert second["folder"] != first["folder"] and "init" not in first


def test_saved_result_is_not_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "measure", None)
    job = {"name": "ours", "rate": 1e-3, "folder": str(tmp_path)}
    (tmp_path / "result.json").write_text(json.dumps({"job": job, "steps": 7}))
    assert learning.run(job)["steps"] == 7
    with pytest.raises(TypeError):  # A different job would run.
        learning.run({**job, "rate": 2e-3})


def learning_jobs(work: Path, *options: str) -> list[dict]:
    parser = learning.make_argument_parser()
    parsed = parser.parse_args(["--wikitext", "x", "--work", str(work), *options])
    rates = learning.rates(parsed)
    runs = [(name, rate, 1) for name, tried in rates.items() for rate in tried]
    return learning.make_jobs(parsed, {}, {name: {"steps": 500} for name in rates}, runs)


def test_settings_of_every_learning_job_are_valid_params(values, tmp_path):
    bert = learning_jobs(tmp_path)
    modern = learning_jobs(tmp_path, "--architecture", "modernbert")
    made = [*bert, *modern]
    assert len(made) == 4 * 3 and len({job["folder"] for job in made}) == len(made)
    for job in made:
        values["pretrain"] |= {"learning_rate": job["rate"], **job["pretrain"]}
        values["pretrain"]["model"] |= model_settings(job["model"])
        Pretrain.model_validate(values["pretrain"])
    labels = {learning.label(job) for job in made}
    assert len(labels) == 4 and {"ours, BERT", "Hugging Face, ModernBERT"} <= labels


def test_arms_of_the_long_run_have_valid_params_and_equal_layers():
    parameters = set()
    for name, arm in long_run.ARMS.items():
        values = Params(phases={"main": {"max_seq_length": 128, "init": "data/vocab"}}).model_dump()
        merge(values, arm)
        params = parse_params(values)
        table = new_config(16000, params.pretrain.model.model_dump()).parameter_table()
        layers = [p for p in table if re.search(r"(layer_|layers/)\d/", p.name)]
        assert layers, name
        parameters.add(round(sum(math.prod(each.shape) for each in layers), -5))
    assert len(parameters) == 1


def test_curves_of_the_long_run_are_those_of_a_running_or_finished_run(tmp_path):
    project = Project(tmp_path)
    assert long_run.dev_curve(project, "mlm_loss") == {}
    results = tmp_path / "results/pretrain/main"
    for folder, loss in (("live/plots/metrics", 5.5), ("curves", 4.25)):
        (results / folder / "dev").mkdir(parents=True)
        (results / folder / "dev/mlm_loss.tsv").write_text(f"step\tmlm_loss\n1000\t{loss}\n")
        assert long_run.dev_curve(project, "mlm_loss") == {1000: loss}


def test_fastest_mode_of_the_peer_counts(tmp_path, monkeypatch):
    steps = {"": 500, "eager": 100, "sdpa": 130, "compiled": None}

    def run(job: dict, module: str) -> dict:
        count = steps[job.get("mode", "")]
        if count is None:
            raise UserError("no compiler")
        return {"steps": count}

    monkeypatch.setattr(jobs, "train", run)
    parser = learning.make_argument_parser()
    options = parser.parse_args(["--wikitext", "x", "--work", str(tmp_path)])
    options.architecture = "modernbert"
    found = learning.find_steps(options, {})
    assert found == {"ours": {"steps": 500}, "Hugging Face": {"steps": 130, "mode": "sdpa"}}
    options.architecture = "bert"
    found = learning.find_steps(options, {})
    assert found == {"ours": {"steps": 500}, "Hugging Face": {"steps": 500}}


def test_each_variant_of_a_recipe_has_valid_params_of_its_own(tmp_path):
    texts, found = {}, []
    for recipe in recipes.OWN:
        path = tmp_path / f"{recipe}.yaml"
        shutil.copyfile(ROOT / "params.yaml", path)
        apply_recipe(ROOT / "recipes" / f"{recipe}.yaml", path)
        texts[recipe] = path.read_text()
    for recipe, changes in recipes.make_variants().values():
        values = yaml.safe_load(texts[recipe])
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
def test_losses_are_means_over_all_masked_tokens(tmp_path):
    from bench.training.heldout import losses
    from lib.checkpoints.huggingface import write_model
    from lib.model.losses import loss_sums
    from tests.helpers.tiny_bert import TINY, random_batch, random_weights

    first, second = [random_batch(1), random_batch(2)], [random_batch(3)]
    expected = []
    for seed in (1, 2):
        weights = random_weights(seed)
        write_model(tmp_path / str(seed), TINY, weights, {})
        expected.append([])
        for batches in (first, second):
            sums = [loss_sums(weights, TINY, batch, False) for batch in batches]
            loss, weight = (
                sum(float(each[f"masked_lm_{name}"]) for each in sums)
                for name in ("loss", "weight")
            )
            expected[-1].append(loss / weight)
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
        ("learning", ["--wikitext", "nowhere"], "--wikitext nowhere: no such file"),
        ("speed", ["--vocab", "nowhere"], "--vocab nowhere: no such file"),
        ("recipes", ["--only", "x"], "--only x: no such variant"),
        (
            "continuing",
            ["--wikitext", "nowhere", "--tweets", "nowhere"],
            "--wikitext nowhere: no such file",
        ),
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
    names = ("tweets", "packing", "modernbert-tweets", "packed-learning")
    command += ["--only", *names]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in names:
        assert f"skipped: {name} (give --tweets)" in run.stdout
