"""Trains a small model with the parameters of a recipe for a given number of steps.

python -m bench.training.recipe_learner JOB_JSON

Started by `bench.training.recipes`, where the keys of the job are described.
"""

import sys
from pathlib import Path
from typing import Any

from bench.common.budget import Meter, run
from bench.training import learner
from lib.checkpoints.huggingface import read_model
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.held_out import HeldOut
from lib.evaluation.metrics import TokenCountCode
from lib.params import load_params
from lib.run.phases import training_settings
from lib.train.initial_weights import read_initial_model
from lib.vocab.counts import read_tokens_per_word
from lib.vocab.loading import load_tokenizer


def train(job: dict[str, Any], steps: int, meter: Meter) -> None:
    """Trains the phases of the job one after the other; a calibration has a single phase."""
    project = Path(job["project"])
    params = load_params(project / "params.yaml")
    vocabulary = project / "data/vocab"
    tokenizer = load_tokenizer(vocabulary)
    weights, done = None, 0
    for name, fraction in job["phases"].items():
        settings = training_settings(params.pretrain, params.phases[name])
        end = min(steps, round(steps * fraction) + done)
        changes = {
            "steps": end - done,
            "learning_rate": job["rate"],
            # A warm-up in steps is meant for the full-size run.
            "warmup_steps": settings.warmup_steps if settings.warmup_steps < 1 else 0,
            "seed": job["seed"],
        }
        done = end
        settings = settings.model_copy(update=changes)
        length = params.phases[name].max_seq_length
        pairs = params.records.next_sentence
        start = read_initial_model(
            settings, name, vocabulary, vocabulary, tokenizer, length, pairs, 2 if pairs else 1
        )
        weights = learner.train_phase(
            start.config,
            settings,
            project / "data/records" / name,
            tokenizer,
            weights or start.weights,
            meter,
        )


def score(job: dict[str, Any], result: dict[str, Any]) -> None:
    """Adds the metrics of each saved model, on the same masked words of the test split."""
    project = Path(job["project"])
    params = load_params(project / "params.yaml")
    tokenizer = load_tokenizer(project / "data/vocab")
    shards = sorted((project / "data/shards/test").glob("*.txt"))
    words = read_tokens_per_word(project / "results/vocab/tokens_per_word.csv")
    held_out = HeldOut(shards, tokenizer, params.evaluate, params.records, TokenCountCode(words))
    for point in result["points"]:
        evaluator = Evaluator(*read_model(Path(point["model"])))
        point |= held_out.sums(evaluator, job["length"]).metrics()


if __name__ == "__main__":
    run(Path(sys.argv[1]), train, score)
