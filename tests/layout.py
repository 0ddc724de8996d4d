"""A process that trains twenty steps in one layout: python -m tests.layout LAYOUT OUTPUT ...

Each layout is a process (or two) of its own, because the devices of TensorFlow are fixed once.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
import yaml

STEPS, ROWS = 20, 32
# distribution, microbatch size
LAYOUTS = {
    "one": ("one", None),
    "accumulated": ("one", 8),
    "mirrored": ("mirrored", None),
    "mirrored-accumulated": ("mirrored", 8),
    "multiworker": ("multiworker", None),
    "multiworker-accumulated": ("multiworker", 8),
}


def main(layout: str, output: str, changes: str) -> None:
    distribution, microbatch = LAYOUTS[layout]
    if distribution == "mirrored":
        processor = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            processor, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    from lib.model.parameters import initial_values
    from lib.params import parse_params
    from lib.train.step import Trainer
    from lib.train.strategy import distributed, make_strategy
    from tests.test_model import TINY, random_batch

    values = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    change = json.loads(changes)
    dropout = change.pop("dropout", 0.0)
    values["pretrain"] |= {
        "distribution": distribution,
        "batch_size": ROWS,
        "microbatch_size": microbatch,
        "clip_norm": 0.5,
        **change,
    }
    settings = parse_params(values).pretrain
    config = replace(TINY, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    strategy = make_strategy(settings.distribution)
    trainer = Trainer(config, settings, True, initial_values(config, 1), strategy)
    batches = [random_batch(seed, rows=ROWS) for seed in range(STEPS)]
    whole = {name: np.stack([batch[name] for batch in batches]) for name in batches[0]}

    def part(worker: int, workers: int) -> tf.data.Dataset:
        rows = ROWS // workers
        mine = slice(worker * rows, (worker + 1) * rows)
        return tf.data.Dataset.from_tensor_slices(
            {name: values[:, mine] for name, values in whole.items()}
        )

    losses, norms, skipped = [], [], 0.0
    for number, batch in enumerate(distributed(strategy, part), 1):
        results = trainer.step(batch, tf.constant(number), tf.constant(0.01))
        losses.append(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
        norms.append(float(results["gradient_norm"]))
        skipped += float(results["skipped"])
    np.savez(output, losses=losses, norms=norms, skipped=skipped, **trainer.state())


if __name__ == "__main__":
    main(*sys.argv[1:])
