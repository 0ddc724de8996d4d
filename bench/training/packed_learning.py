"""Trains on packed or unpacked sequences for a given number of examples.

python -m bench.training.packed_learning JOB_JSON

Started by `bench.training.speed`. Both models are scored on the same unpacked sequences.
"""

import sys
from pathlib import Path

from bench.common.report import read_json, write_json
from bench.training.our_steps import make_trainer, record_batches
from lib.model.schedules import schedule
from lib.records.manifest import read_manifest
from lib.run import tf
from lib.train.input import evaluation_batches
from lib.train.loop import evaluate

_BATCH_SIZE = 64


def main(path: Path) -> None:
    job = read_json(path)
    settings, records, vocabulary = job["settings"], Path(job["records"]), Path(job["vocabulary"])
    steps = settings["steps"]
    trainer = make_trainer(job)
    rate = schedule("polynomial", settings["learning_rate"], 0.0, settings["warmup_steps"], steps)
    batches = record_batches(records, vocabulary, settings["batch_size"], steps, settings["seed"])
    examples = tf.constant(0.0)
    for number, batch in enumerate(batches.take(steps), 1):
        trainer.step(batch, tf.constant(number), tf.constant(rate(number)))
        examples += tf.reduce_sum(batch.get("next_sentence_weights", batch["example_weights"]))
    heldout = Path(job["heldout_records"])
    batches = evaluation_batches(heldout, read_manifest(heldout), "dev", _BATCH_SIZE)
    means = evaluate(trainer, batches) or {}
    result = {**means, "examples": float(examples), "steps": steps}
    write_json(path.with_name("result.json"), result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
