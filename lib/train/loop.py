"""The training loop, read top to bottom: batch, step, log, evaluate, checkpoint."""

import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from dvclive import Live

from lib.model.schedules import schedule
from lib.params import Pretrain
from lib.run.atomic import remove
from lib.run.errors import UserError
from lib.run.progress import Progress
from lib.train import checkpoint
from lib.train.dynamic_masking import Vocabulary
from lib.train.input import evaluation_batches, training_batches
from lib.train.manifest import Manifest
from lib.train.step import Trainer
from lib.train.strategy import distributed


def summarise(sums: Mapping[str, float]) -> dict[str, float]:
    """Sums of `lib.model.losses` -> means, by the names that metrics use."""
    means = {
        "mlm_loss": sums["masked_lm_loss"] / max(sums["masked_lm_weight"], 1.0),
        "mlm_accuracy": sums["masked_lm_hits"] / max(sums["masked_lm_weight"], 1.0),
    }
    if "next_sentence_loss" in sums:
        weight = max(sums["next_sentence_weight"], 1.0)
        means["nsp_loss"] = sums["next_sentence_loss"] / weight
        means["nsp_accuracy"] = sums["next_sentence_hits"] / weight
    return means


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
    scratch: Path,
) -> dict[str, float]:
    """Runs all steps, going on from the newest checkpoint in `scratch` if there is one.

    Args:
        records: the folder of one phase's records.
        vocabulary: that of the records.
        logs: DVCLive's folder; a checkpoint brings back what it held at that step.
        scratch: the folder of this very run's checkpoints, already locked.

    Returns:
        The last dev metrics and the last training loss.

    Raises:
        UserError: the loss is not a number any more.
    """
    resumed = checkpoint.latest(scratch)
    remove(logs)
    first = 0
    if resumed:
        first = resumed.step
        trainer.restore(resumed.arrays)
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
    sums: dict[str, float] = {}
    with (
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
        started = time.monotonic()
        for number, batch in enumerate(batches, first + 1):
            if number > settings.steps:
                break
            results = trainer.step(batch, tf.constant(number), tf.constant(rate(number)))
            # Reading a value waits for the device, so sums are kept as tensors until logged.
            for name, value in results.items():
                sums[name] = sums[name] + value if name in sums else value
            last = number == settings.steps
            if number % settings.log_every == 0 or last:
                count = (number - 1) % settings.log_every + 1
                values = {name: float(value) for name, value in sums.items()}
                sums = {}
                final |= {f"train_{name}": value for name, value in summarise(values).items()}
                if not math.isfinite(values["masked_lm_loss"]):
                    raise UserError(
                        f"the loss is not a number at step {number:,}: lower "
                        "pretrain.learning_rate or raise pretrain.warmup_steps"
                    )
                live.step = number
                for name, value in summarise(values).items():
                    live.log_metric(f"train/{name}", value)
                live.log_metric("learning_rate", rate(number))
                live.log_metric("gradient_norm", values["gradient_norm"] / count)
                if number % settings.evaluate_every == 0 or last:
                    for name, value in evaluate(trainer, dev).items():
                        final[f"dev_{name}"] = value
                        live.log_metric(f"dev/{name}", value)
                live.make_summary()
            progress.advance(note=_note(final))
            if number % settings.checkpoint_every == 0 and not last:
                checkpoint.save(scratch, number, trainer.state(), logs)
        speed = (settings.steps - first) * settings.batch_size / (time.monotonic() - started)
        print(
            f"pretrain: {speed:,.0f} sequences/s over {settings.steps - first:,} steps",
            file=sys.stderr,
        )
    return final


def _note(values: Mapping[str, float]) -> str:
    shown = [
        f"{name.replace('_', ' ')} {values[name]:.3f}"
        for name in ("train_mlm_loss", "dev_mlm_loss")
        if name in values
    ]
    return ", ".join(shown)
