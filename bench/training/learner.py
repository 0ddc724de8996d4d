"""Trains our model for a budget of processor time: python -m bench.training.learner JOB_JSON

The keys of the job are described in `bench.training.learning` and `bench.training.continuing`.
"""

import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench.common.budget import Meter, run
from bench.training.architectures import pretrain_settings
from lib.checkpoints.huggingface import write_model
from lib.model.encoder_config import EncoderConfig
from lib.params import Pretrain
from lib.records.manifest import read_manifest
from lib.run import tf
from lib.run.phases import run_length
from lib.train.initial_weights import read_initial_model
from lib.train.input import training_batches
from lib.train.learning_rates import learning_rates
from lib.train.saving.tokenizer_files import special_ids
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from lib.vocab.loading import load_tokenizer
from lib.vocab.tokenizer import Tokenizer


def train(job: dict[str, Any], steps: int, meter: Meter) -> None:
    """Trains from scratch, or from the model at `init`, until the meter ends the run."""
    settings = pretrain_settings(
        job["model"],
        steps=steps,
        batch_size=job["batch_size"],
        learning_rate=job["rate"],
        warmup_steps=round(steps * job["warmup"]),
        weight_decay=job["weight_decay"],
        adam_epsilon=job["adam_epsilon"],
        seed=job["seed"],
        **job["pretrain"],
    )
    vocabulary = Path(job["vocabulary"])
    tokenizer = load_tokenizer(vocabulary)
    init = Path(job.get("init", vocabulary))
    start = read_initial_model(
        settings, "main", init, vocabulary, tokenizer, job["length"], False, segments=1
    )
    train_phase(start.config, settings, Path(job["records"]), tokenizer, start.weights, meter)


def train_phase(
    config: EncoderConfig,
    settings: Pretrain,
    records: Path,
    tokenizer: Tokenizer,
    weights: Mapping[str, np.ndarray],
    meter: Meter,
) -> dict[str, np.ndarray]:
    """Trains for the steps of the settings or until the meter ends the run; returns the weights."""
    manifest = read_manifest(records)
    trainer = Trainer(config, settings, manifest.next_sentence, weights, make_strategy("one"))
    steps, warmup = run_length(settings, manifest.splits["train"].sequences)
    rate = learning_rates(settings, steps, warmup)

    def save(target: Path) -> None:
        write_model(target, config, trainer.weights(), special_ids(config, tokenizer))

    batches = training_batches(
        records,
        manifest,
        tokenizer,
        batch_size=settings.batch_size,
        steps=steps,
        buffer=settings.shuffle_buffer,
        seed=settings.seed,
    )
    for number, batch in enumerate(islice(batches, steps), 1):
        results = trainer.step(batch, tf.constant(number), tf.constant(rate(number)))
        float(results["gradient_norm"])  # waits until the step is done
        if meter.step(save):
            break
    return trainer.weights()


if __name__ == "__main__":
    run(Path(sys.argv[1]), train)
