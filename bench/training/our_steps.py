"""Times training steps of our trainer: python -m bench.training.our_steps JOB_JSON

Started by `bench.training.speed`; the keys of the job are described in `bench.common.rounds`.
"""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from bench import ROOT
from bench.common.batches import example_lengths, random_sequences
from bench.common.step_timing import (
    MATMUL_SIZE,
    BatchSize,
    matmul_peak,
    read_job,
    time_steps,
    write_result,
)
from bench.training.architectures import model_settings
from lib.model.config import new_config
from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.model.losses import Batch
from lib.model.modernbert_config import ModernBertConfig
from lib.params import Model, Pretrain
from lib.records.manifest import read_manifest
from lib.run import tf
from lib.train.input import training_batches
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from lib.vocab.tokenizer import WordPieceTokenizer


class LocalModernBert(ModernBertConfig):
    """A ModernBERT without global layers; a real one has at least the first."""

    def is_global(self, layer: int) -> bool:
        return False


def model_config(job: dict[str, Any]) -> EncoderConfig:
    settings = Model(**model_settings(job["model"]))
    config = new_config(job["vocab_size"], settings.model_dump())
    return LocalModernBert(**asdict(config)) if job.get("local") else config


def make_trainer(job: dict[str, Any]) -> Trainer:
    """A trainer with initial weights, and with the job's settings on top of params.yaml."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["pretrain"] |= {"optimizer": "adamw", **job["settings"]}
    values["pretrain"]["model"] |= model_settings(job["model"])
    config = model_config(job)
    return Trainer(
        config,
        Pretrain.model_validate(values["pretrain"]),
        job["next_sentence"],
        initial_values(config, values["pretrain"]["seed"]),
        make_strategy("one"),
    )


def full_batches(job: dict[str, Any]) -> Iterator[Batch]:
    """Repeats one batch of random sequences without padding."""
    sequences = random_sequences(
        job["settings"]["batch_size"], job["length"], job["predictions"], job["vocab_size"]
    )
    batch = {
        name: tf.constant(values, tf.float32 if values.dtype.kind == "f" else tf.int32)
        for name, values in sequences.items()
    }
    batch["example_weights"] = tf.ones(job["settings"]["batch_size"])
    return itertools.repeat(batch)


def record_batches(job: dict[str, Any]) -> Iterator[Batch]:
    """The batches that pretraining would read."""
    records = Path(job["records"])
    return iter(
        training_batches(
            records,
            read_manifest(records),
            WordPieceTokenizer.load(Path(job["vocabulary"])),
            batch_size=job["settings"]["batch_size"],
            steps=10_000,
            buffer=20_000,
            seed=1,
        )
    )


def size(batch: Batch) -> BatchSize:
    example_ids = batch["example_ids" if "example_ids" in batch else "input_mask"].numpy()
    return BatchSize(example_lengths(example_ids), int(batch["masked_lm_weights"].numpy().sum()))


def peak(precision: str) -> float:
    """FLOPs per second of TensorFlow's product of large matrices."""
    matrix = tf.cast(tf.random.normal([MATMUL_SIZE, MATMUL_SIZE]), precision)
    product = tf.function(lambda values: tf.matmul(values, values)[0, 0])
    return matmul_peak(lambda: product(matrix).numpy())


def main(path: Path) -> None:
    job = read_job(path)
    trainer = make_trainer(job)
    batches = record_batches(job) if job["records"] else full_batches(job)
    numbers = itertools.count(1)

    def step(batch: Batch) -> None:
        results = trainer.step(batch, tf.constant(next(numbers)), tf.constant(1e-5))
        float(results["gradient_norm"])  # waits until everything is computed

    times = time_steps(batches, step, size, job["steps"])
    write_result(path, times.result(job, peak(job["settings"]["precision"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
