"""Trains twenty steps in each of several layouts.

python -m tests.helpers.layout DISTRIBUTION FOLDER RUNS

Each distribution needs a process (or two) of its own, because TensorFlow's devices cannot change
later. RUNS is JSON: a list of [name, microbatch size or null, dropout, optimizer, architecture].
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.run import tf

STEPS, SEQUENCES = 20, 32


def main(distribution: str, folder: str, runs: str) -> None:
    if distribution == "mirrored":
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    for run, results in train_runs(distribution, json.loads(runs), STEPS):
        np.savez(Path(folder) / run, **results)


def train_runs(
    distribution: str, runs: list, steps: int
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Name and final state of each run, with its losses and gradient norms."""
    from lib.model.initialization import initial_values
    from lib.params import parse_params
    from lib.train.step import Trainer
    from lib.train.strategy import distribute, make_strategy
    from tests.helpers.params import default_values
    from tests.helpers.tiny_bert import random_batch, tiny_model

    strategy = make_strategy(distribution)
    batches = [random_batch(seed, sequences=SEQUENCES) for seed in range(steps)]
    whole = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

    def part(worker: int, workers: int) -> tf.data.Dataset:
        count = SEQUENCES // workers
        mine = slice(worker * count, (worker + 1) * count)
        return tf.data.Dataset.from_tensor_slices(
            {name: values[:, mine] for name, values in whole.items()}
        )

    for run, microbatch, dropout, optimizer, architecture in runs:
        values = default_values()
        values["pretrain"] |= {
            "batch_size": SEQUENCES,
            "microbatch_size": microbatch,
            "clip_norm": 0.5,
            "optimizer": optimizer,
        }
        config = tiny_model(architecture, dropout)
        settings, pairs = parse_params(values).pretrain, config.has_next_sentence
        trainer = Trainer(config, settings, pairs, initial_values(config, 1), strategy)
        losses, norms = [], []
        for number, batch in enumerate(distribute(strategy, part), 1):
            results = trainer.step(batch, tf.constant(number), tf.constant(0.01))
            losses.append(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
            norms.append(float(results["gradient_norm"]))
        dev = next(iter(distribute(strategy, part)))
        held_out = {
            f"dev/{name}": value.numpy() for name, value in trainer.evaluation_step(dev).items()
        }
        own = {"losses": np.array(losses), "norms": np.array(norms)}
        yield run, {**own, **held_out, **trainer.state()}


if __name__ == "__main__":
    main(*sys.argv[1:])
