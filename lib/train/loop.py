"""The training loop, read top to bottom: batch, step, log, evaluate, checkpoint."""

import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from dvclive import Live

from lib.model.losses import summarise
from lib.model.schedules import schedule
from lib.params import Pretrain
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.run.progress import Progress
from lib.train import checkpoint
from lib.train.dynamic_masking import Vocabulary
from lib.train.input import evaluation_batches, training_batches
from lib.train.manifest import Manifest
from lib.train.preemption import stop_on_signal
from lib.train.sanity import Sanity
from lib.train.step import Trainer
from lib.train.strategy import distributed
from lib.train.throughput import Throughput

# Before the names of sums since the last log, in a checkpoint.
_SUMS = "sums/"


def evaluate(trainer: Trainer, batches: tf.data.Dataset) -> dict[str, float]:
    """Means over all batches; accumulated in float64, so their order hardly matters."""
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in trainer.evaluation_step(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return summarise(totals)


def train(
    trainer: Trainer,
    settings: Pretrain,
    records: Path,
    manifest: Manifest,
    vocabulary: Vocabulary,
    logs: Path,
    costs: Path,
    scratch: Path,
    sanity: Sanity | None,
    chief: bool,
) -> dict[str, float]:
    """Runs all steps, going on from the newest checkpoint in `scratch` if there is one.

    SIGTERM and Ctrl-C end it (SystemExit) with a checkpoint of the last finished step.

    Args:
        records: the folder of one phase's records.
        vocabulary: that of the records.
        logs: DVCLive's folder; a checkpoint brings back what it held at that step.
        costs: the CSV file for speed and memory.
        scratch: the folder of this very run's checkpoints, already locked.
        sanity: checks of the loss, if training is from scratch.
        chief: this process writes the checkpoints; of several workers one does.

    Returns:
        The last dev metrics and the last training loss.

    Raises:
        UserError: the loss is not a number, does not begin where it should, or does not fall.
    """
    resumed = checkpoint.latest(scratch)
    remove(logs)
    first, sums = 0, {}
    if resumed:
        first = resumed.step
        trainer.restore(resumed.arrays)
        sums = {
            name.removeprefix(_SUMS): tf.constant(value)
            for name, value in resumed.arrays.items()
            if name.startswith(_SUMS)
        }
        if resumed.logs.is_dir():
            shutil.copytree(resumed.logs, logs)
        print(f"pretrain: going on from step {first:,}", file=sys.stderr)

    dev = evaluation_batches(records, manifest, "dev", settings.batch_size)
    batches = distributed(
        trainer.strategy,
        lambda worker, workers: training_batches(
            records,
            manifest,
            vocabulary,
            batch_size=settings.batch_size,
            steps=settings.steps,
            buffer=settings.shuffle_buffer,
            seed=settings.seed,
            first_step=first,
            worker=worker,
            workers=workers,
        ),
    )
    rate = schedule(
        settings.schedule,
        settings.learning_rate,
        settings.end_learning_rate,
        settings.warmup_steps,
        settings.steps,
        settings.power,
    )
    final: dict[str, float] = {}
    speed = ""

    def save(number: int) -> None:
        if not chief:
            return
        pending = {_SUMS + name: value.numpy() for name, value in sums.items()}
        checkpoint.save(scratch, number, trainer.state() | pending, logs, settings.keep_checkpoints)

    with (
        stop_on_signal() as stop,
        Live(
            str(logs),
            resume=bool(resumed),
            dvcyaml=None,
            save_dvc_exp=False,
            report=None,
            monitor_system=False,
        ) as live,
        Progress("pretrain", settings.steps, "steps") as progress,
    ):
        progress.skip(first)
        saved = time.monotonic()
        throughput = Throughput(costs, first, settings.batch_size)
        for number, batch in enumerate(batches, first + 1):
            if number > settings.steps:
                break
            results = trainer.step(batch, tf.constant(number), tf.constant(rate(number)))
            # Reading a value waits for the device, so sums are kept as tensors until logged.
            for name, value in results.items():
                sums[name] = sums[name] + value if name in sums else value
            if number == 1 and sanity:
                sanity.check_first(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
            last = number == settings.steps
            if number % settings.log_every == 0 or last:
                count = (number - 1) % settings.log_every + 1
                values = {name: float(value) for name, value in sums.items()}
                sums.clear()
                means = summarise(values)
                final |= {f"train_{name}": value for name, value in means.items()}
                if not math.isfinite(values["masked_lm_loss"]):
                    raise UserError(
                        f"the loss is not a number at step {number:,}: lower "
                        "pretrain.learning_rate or raise pretrain.warmup_steps"
                    )
                if sanity:
                    sanity.check_falls(number, means["mlm_loss"])
                live.step = number
                for name, value in means.items():
                    live.log_metric(f"train/{name}", value)
                live.log_metric("learning_rate", rate(number))
                live.log_metric("gradient_norm", values["gradient_norm"] / count)
                if settings.precision == "float16":
                    live.log_metric("skipped_steps", values["skipped"])
                speed = throughput.log(number, values["tokens"] / count)
                if number % settings.evaluate_every == 0 or last:
                    for name, value in evaluate(trainer, dev).items():
                        final[f"dev_{name}"] = value
                        live.log_metric(f"dev/{name}", value)
                live.make_summary()
            progress.advance(note=_note(final, speed))
            due = number % settings.checkpoint_every == 0 or (
                settings.checkpoint_minutes is not None
                and time.monotonic() - saved >= 60 * settings.checkpoint_minutes
            )
            if (due or stop.signal) and not last:
                save(number)
                saved = time.monotonic()
            if stop.signal and not last:
                print(
                    f"pretrain: stopped by {stop.signal.name} after step {number:,}; the same "
                    "command goes on from there",
                    file=sys.stderr,
                )
                sys.exit(128 + stop.signal)
    return final


def _note(values: Mapping[str, float], speed: str) -> str:
    shown = [speed] if speed else []
    shown += [
        f"{name.replace('_', ' ')} {values[name]:.3f}"
        for name in ("train_mlm_loss", "dev_mlm_loss")
        if name in values
    ]
    return ", ".join(shown)
