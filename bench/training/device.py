"""Training steps on this machine's first accelerator: speed, share of the peak, memory, bfloat16.

For every model: steps and FLOPs per second, the fraction of the measured matmul peak, the peak of
the device's memory beside the one that `lib.commands.plan` counts, and the loss after some steps,
in float32 and in bfloat16, with and without XLA. Sequences are random, so it needs no files. A case
that does not fit into the device's memory is reported as such.
"""

import argparse
import gc
import itertools
import time
from collections.abc import Sequence
from typing import Any

from bench.common import cli
from bench.common.report import Row, table
from bench.training.architectures import pretrain_settings
from bench.training.cases import sizes
from bench.training.our_steps import random_batch
from lib.model.bert_config import BertConfig
from lib.model.flops import matmul_peak, training_flops
from lib.model.initialization import initial_values
from lib.model.layers import Batch
from lib.model.memory import Microbatch, peak_memory
from lib.model.optimizers import AdamW
from lib.run import tf
from lib.train.step import Trainer
from lib.train.strategy import make_strategy

# Sizes, and sequences of 128 tokens per step; of longer ones as many as have as many tokens.
MODELS = {
    "tiny": (sizes(2, 64), 16),
    "mini": (sizes(4, 256), 256),
    "base": (sizes(12, 768), 64),
    "large": (sizes(24, 1024), 32),
}
PRECISIONS = ("float32", "bfloat16")
_VOCAB_SIZE, _MASKED = 30_522, 0.15
# Different batches, which the loss is measured on; steps before the clock starts.
_BATCHES, _WARMUP_STEPS = 4, 3


def measure(name: str, length: int, precision: str, xla: bool, options: argparse.Namespace) -> Row:
    """One case: the first step, steps for some seconds, and the loss after `--loss-steps`."""
    model, sequences = MODELS[name]
    sequences = options.sequences or max(1, sequences * 128 // length)
    config = BertConfig(vocab_size=_VOCAB_SIZE, **model)
    predictions = round(_MASKED * length)
    row: Row = {
        "name": f"{name}, {length} tokens",
        "precision": precision,
        "xla": xla,
        "sequences": sequences,
    }
    settings = pretrain_settings(
        model, batch_size=sequences, precision=precision, xla=xla, optimizer="adamw"
    )
    batch = Microbatch(
        sequences, length, predictions, 1, False, 4 if precision == "float32" else 2, False
    )
    row["counted_mib"] = peak_memory(config, AdamW, batch) / 2**20
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        tf.config.experimental.reset_memory_stats(gpus[0].name)
    try:
        weights = initial_values(config, 1)
        trainer = Trainer(config, settings, True, weights, make_strategy("one"))
        batches = [
            random_batch(sequences, length, predictions, _VOCAB_SIZE, seed)
            for seed in range(_BATCHES)
        ]
        row |= _time_steps(trainer, batches, options.seconds, options.loss_steps)
    except tf.errors.ResourceExhaustedError:
        return row | {"failure": "out of memory"}
    flops = training_flops(config, sequences, length, predictions, 1, True)
    row["tokens_per_second"] = row["steps_per_second"] * sequences * length
    row["tflops_per_second"] = row["steps_per_second"] * flops / 1e12
    row["peak_tflops_per_second"] = matmul_peak(precision) / 1e12
    row["peak_fraction"] = row["tflops_per_second"] / row["peak_tflops_per_second"]
    if gpus:
        row["device_mib"] = row.pop("peak_bytes") / 2**20
    return row


def _time_steps(
    trainer: Trainer, batches: Sequence[Batch], seconds: float, loss_steps: int
) -> dict[str, Any]:
    numbers, queue = itertools.count(1), itertools.cycle(batches)
    result: dict[str, Any] = {}

    def step() -> dict[str, tf.Tensor]:
        return trainer.step(next(queue), tf.constant(next(numbers)), tf.constant(1e-4))

    started = time.perf_counter()
    float(step()["masked_lm_loss"])  # waits for the device
    result["first_step_seconds"] = time.perf_counter() - started
    for _ in range(_WARMUP_STEPS):
        float(step()["masked_lm_loss"])
    steps, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not steps:
        # The host waits every tenth step only, as in training.
        for _ in range(10):
            sums = step()
        float(sums["masked_lm_loss"])
        steps += 10
    result["steps_per_second"] = steps / elapsed
    if gpus := tf.config.list_logical_devices("GPU"):
        result["peak_bytes"] = tf.config.experimental.get_memory_info(gpus[0].name)["peak"]
    done = next(numbers) - 1
    # A multiple of the batches, so that the last of them are all of them.
    for _ in range(done, max(loss_steps, done + len(batches))):
        sums = step()
    last = [step() for _ in batches]
    result["steps"] = max(loss_steps, done + len(batches)) + len(batches)
    total = sum(float(each["masked_lm_loss"]) for each in last)
    result["loss"] = total / sum(float(each["masked_lm_weight"]) for each in last)
    return result


def ratios(rows: Sequence[Row]) -> list[Row]:
    """bfloat16 against float32, each with or without XLA, whichever is faster."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name and "steps_per_second" in row]
        own.sort(key=lambda row: row["steps_per_second"])
        best = {row["precision"]: row for row in own}
        if len(best) < len(PRECISIONS):
            continue
        single, half = (best[precision] for precision in PRECISIONS)
        row = {
            "name": name,
            "speed": half["steps_per_second"] / single["steps_per_second"],
            "loss_difference": half["loss"] - single["loss"],
        }
        if "device_mib" in single and "device_mib" in half:
            row["memory"] = half["device_mib"] / single["device_mib"]
        found.append(row)
    return found


def main() -> None:
    parser = cli.make_parser("training.device", __doc__, scratch=False)
    cli.add(parser, "--models", ["mini", "base", "large"], "to measure", MODELS)
    cli.add(parser, "--lengths", [128], "tokens per sequence")
    cli.add(parser, "--xla", ["off", "on"], "without or with XLA", ("off", "on"))
    parser.add_argument("--sequences", type=int, help="per step (default: by model)")
    cli.add(parser, "--seconds", 5.0, "seconds to time each case")
    cli.add(parser, "--loss-steps", 200, "steps before the loss")
    options = cli.parse(parser)
    names = [device.name for device in tf.config.list_logical_devices()]
    details = [
        tf.config.experimental.get_device_details(device)
        for device in tf.config.list_physical_devices("GPU")
    ]
    options.machine |= {"devices": names, "details": details}
    rows: list[Row] = []
    for name, length, precision, xla in itertools.product(
        options.models, options.lengths, PRECISIONS, options.xla
    ):
        rows.append(measure(name, length, precision, xla == "on", options))
        gc.collect()  # The trainer before is part of a cycle, and holds the device's memory.
        # After each case, because a lease may end.
        print(table(rows[-1:]), flush=True)
        cli.save(options, cases=rows, ratios=ratios(rows))
    print(f"devices: {', '.join(names)} {details or ''}")
    cli.finish(options, cases=rows, ratios=ratios(rows))


if __name__ == "__main__":
    cli.run_main(main)
