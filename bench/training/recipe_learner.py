"""Trains a small model by a recipe for a given number of steps.

python -m bench.training.recipe_learner JOB_JSON

What `bench.training.recipes` starts; the job's keys are described there.
"""

import sys
from pathlib import Path
from typing import Any

from bench.training import learner  # First: it quiets TensorFlow.

# isort: split
import tensorflow as tf

from bench.common.budget import Meter, run
from lib.checkpoints.huggingface import read_model
from lib.evaluation.evaluator import Evaluator
from lib.evaluation.held_out import HeldOut
from lib.params import load_params
from lib.train.initial_weights import read_start
from lib.vocab.tokenizer import WordPieceTokenizer


def train(job: dict[str, Any], steps: int, meter: Meter) -> None:
    """Trains the job's phases one after the other; a calibration has one and no end."""
    project = Path(job["project"])
    params = load_params(project / "params.yaml")
    vocabulary = project / "data/vocab"
    tokenizer = WordPieceTokenizer.load(vocabulary)
    weights, made = None, 0
    for name, share in job["phases"].items():
        settings = params.training(name)
        end = min(steps, round(steps * share) + made)
        changes = {
            "steps": end - made,
            "learning_rate": job["rate"],
            # In steps it is that of a full-size run.
            "warmup_steps": settings.warmup_steps if settings.warmup_steps < 1 else 0,
            "seed": job["seed"],
        }
        made = end
        settings = settings.model_copy(update=changes)
        length = params.phases[name].max_seq_length
        start = read_start(settings, name, vocabulary, vocabulary, tokenizer, length)
        weights = learner.train_phase(
            start.config,
            settings,
            project / "data/records" / name,
            tokenizer,
            weights or start.weights,
            meter,
        )


def score(job: dict[str, Any], made: dict[str, Any]) -> None:
    """Adds to each model that was kept what it gets for the same hidden words of test text."""
    project = Path(job["project"])
    params = load_params(project / "params.yaml")
    tokenizer = WordPieceTokenizer.load(project / "data/vocab")
    shards = sorted((project / "data/shards/test").glob("*.txt"))
    without_pairs = params.records.model_copy(update={"next_sentence": False})
    held_out = HeldOut(shards, tokenizer, params.evaluate, without_pairs)
    for point in made["points"]:
        config, weights = read_model(Path(point["model"]))
        point |= held_out.metrics(job["length"], Evaluator(config, weights, False))


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    run(Path(sys.argv[1]), train, score)
