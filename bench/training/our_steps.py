"""Times training steps of our trainer: python -m bench.training.our_steps JOB_JSON

Started by `bench.training.speed`; the keys of the job are described in `bench.common.rounds`.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.common.batches import example_lengths, random_sequences
from bench.common.report import read_json, write_json
from bench.common.step_timing import MATMUL_SIZE, BatchSize, matmul_peak, time_steps
from bench.training.architectures import model_settings, pretrain_settings
from lib.model.config import new_config
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.model.layers import Batch
from lib.model.modernbert_config import ModernBertConfig
from lib.params import Model, Pretrain
from lib.records.manifest import read_manifest
from lib.run import tf
from lib.train.input import training_batches
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from lib.vocab.loading import load_tokenizer


class LocalModernBert(ModernBertConfig):
    """A ModernBERT without global layers; a real one has at least the first."""

    def is_global(self, layer: int) -> bool:
        return False


def model_config(job: dict[str, Any]) -> EncoderConfig:
    settings = Model(**model_settings(job["model"]))
    config = new_config(job["vocab_size"], settings.model_dump())
    return LocalModernBert(**asdict(config)) if job.get("local") else config


def make_trainer(job: dict[str, Any]) -> Trainer:
    """A trainer with initial weights, and with the job's settings on top of the defaults."""
    settings = pretrain_settings(job["model"], **{"optimizer": "adamw", **job["settings"]})
    config = model_config(job)
    weights = initial_values(config, settings.seed)
    return Trainer(config, settings, job["next_sentence"], weights, make_strategy("one"))


def random_batch(
    count: int, length: int, predictions: int, vocab_size: int, seed: int = 1
) -> Batch:
    """A batch of random sequences without padding."""
    arrays = random_sequences(count, length, predictions, vocab_size, seed)
    batch = {
        name: tf.constant(values, tf.float32 if values.dtype.kind == "f" else tf.int32)
        for name, values in arrays.items()
    }
    return batch | {"example_weights": tf.ones(count)}


def record_batches(
    records: Path, vocabulary: Path, batch_size: int, steps: int, seed: int = 1
) -> tf.data.Dataset:
    """The batches that pretraining would read."""
    return training_batches(
        records,
        read_manifest(records),
        load_tokenizer(vocabulary),
        batch_size=batch_size,
        steps=steps,
        buffer=Pretrain().shuffle_buffer,
        seed=seed,
    )


def batches(job: dict[str, Any]) -> Iterator[Batch]:
    """Batches of records, or the same random batch again and again."""
    count = job["settings"]["batch_size"]
    if job["records"]:
        return iter(record_batches(Path(job["records"]), Path(job["vocabulary"]), count, 10_000))
    sizes = job["length"], job["predictions"], job["vocab_size"]
    return itertools.repeat(random_batch(count, *sizes))


def size(batch: Batch) -> BatchSize:
    example_ids = batch["example_ids" if "example_ids" in batch else "input_mask"].numpy()
    return BatchSize(example_lengths(example_ids), int(batch["masked_lm_weights"].numpy().sum()))


def peak(precision: str) -> float:
    """FLOPs per second of TensorFlow's product of large matrices."""
    matrix = tf.cast(tf.random.normal([MATMUL_SIZE, MATMUL_SIZE]), precision)
    product = tf.function(lambda values: tf.matmul(values, values)[0, 0])
    return matmul_peak(lambda: product(matrix).numpy())


def main(path: Path) -> None:
    job = read_json(path)
    trainer = make_trainer(job)
    numbers = itertools.count(1)

    def step(batch: Batch) -> None:
        results = trainer.step(batch, tf.constant(next(numbers)), tf.constant(1e-5))
        float(results["gradient_norm"])  # waits until everything is computed

    times = time_steps(batches(job), step, size, job["steps"])
    result = times.result(job, peak(job["settings"]["precision"]))
    write_json(path.with_name("result.json"), result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
