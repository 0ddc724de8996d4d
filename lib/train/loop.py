"""Training loop: steps, log, evaluation, saved models, checkpoints."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lib.model.flops import matmul_peak, training_flops
from lib.model.losses import Batch, mean_metrics
from lib.model.schedules import schedule
from lib.params import Pretrain
from lib.records.manifest import Manifest
from lib.run import tf
from lib.run.errors import UserError, about
from lib.run.phases import run_length
from lib.run.progress import Progress
from lib.train.dynamic_masking import Vocabulary
from lib.train.input import evaluation_batches, training_batches
from lib.train.logging.metrics_logger import MetricsLogger
from lib.train.logging.throughput import Throughput
from lib.train.loss_checks import LossChecks
from lib.train.preemption import StopRequest, stop_on_signal
from lib.train.run_state import RunState
from lib.train.saving.remote_copies import RemoteCopies
from lib.train.saving.saved_models import SavedModels
from lib.train.step import Trainer
from lib.train.strategy import distribute
from lib.train.workers import Workers


@dataclass(frozen=True)
class TrainingData:
    """Records of one phase, and the vocabulary that they were made with."""

    records: Path
    manifest: Manifest
    vocabulary: Vocabulary


@dataclass(frozen=True)
class RunPaths:
    """Where a training run writes.

    Attributes:
        logs: DVCLive's folder; resuming a checkpoint restores its content at that step.
        throughput: CSV file for speed and memory.
        event_files: TensorBoard's folder, if there should be one.
        scratch: the folder of this run's checkpoints, already locked.
    """

    logs: Path
    throughput: Path
    event_files: Path | None
    scratch: Path


def train(
    trainer: Trainer,
    settings: Pretrain,
    data: TrainingData,
    paths: RunPaths,
    copies: RemoteCopies | None,
    write_model: Callable[[Path], None],
    from_scratch: bool,
    workers: Workers,
) -> tuple[dict[str, float], SavedModels]:
    """Runs all steps of a phase; resumes from the newest checkpoint in scratch if there is one.

    SIGTERM and Ctrl-C end it (SystemExit) with a checkpoint of the last finished step.

    Args:
        copies: copies of the checkpoints in remote storage, if there should be any.
        write_model: writes the current model into an empty folder.
        from_scratch: whether the weights are random, and the loss is checked accordingly.
        workers: this worker among all; the chief reads and writes checkpoints and models.

    Returns:
        The last dev metrics and training loss, and the initial dev metrics unless training began
        from scratch; the saved models.

    Raises:
        UserError: the loss is not a number, has a wrong initial value, or does not fall.
    """
    steps, warmup_steps = run_length(settings, data.manifest.splits["train"].sequences)
    saved = SavedModels(paths.scratch, settings.save_model_every, write_model)
    chief = workers.index == 0
    state = RunState(
        trainer, saved, workers, paths.scratch, paths.logs, settings.keep_checkpoints, copies
    )
    batches, dev = _datasets(trainer, settings, data, steps, state.first_step)
    checks = LossChecks(trainer.config.vocab_size, warmup_steps) if from_scratch else None
    learning_rate = schedule(
        settings.schedule,
        settings.learning_rate,
        settings.end_learning_rate,
        warmup_steps,
        steps,
        settings.power,
    )
    throughput = _throughput(trainer, settings, data.manifest, paths, state.first_step, workers)
    final: dict[str, float] = {}
    speed = ""

    with (
        stop_on_signal() as stop,
        about(paths.logs),
        closing(MetricsLogger(paths.logs, state.resumed, paths.event_files)) as logger,
        Progress("pretrain", steps, "steps") as progress,
    ):
        progress.skip(state.first_step)
        if state.first_step == 0 and not from_scratch:
            # Metrics of the initial model, which training should improve on.
            state.initial_metrics = evaluate(trainer, dev)
            logger.log(0, _prefixed("dev/", state.initial_metrics))
        step, last_checkpoint = state.first_step, time.monotonic()
        throughput.resume()
        while step < steps:
            before, step = step, _last_step_of_call(settings, step, steps)
            results = _run_steps(trainer, settings, batches, learning_rate, before, step, stop)
            # All workers stop after the same step, whichever of them got the signal.
            any_stop = results.pop("stop")
            stopping = bool(stop.signal) if workers.count == 1 else bool(any_stop)
            progress.advance(step - before, note=_progress_note(final, speed))
            state.add(results)
            if step == 1 and checks:
                loss = results["masked_lm_loss"] / results["masked_lm_weight"]
                checks.check_first_loss(float(loss))

            last = step == steps
            evaluating = step % settings.evaluate_every == 0 or last
            logging = step % settings.log_every == 0 or evaluating
            if logging:
                sums = state.take_sums()
                metrics = _training_metrics(sums, learning_rate(step), settings)
                _check_loss(step, sums["masked_lm_loss"], metrics["train/mlm_loss"], checks)
                speed = throughput.log(step, sums["tokens"] / sums["steps"])
                if evaluating:
                    metrics |= _prefixed("dev/", evaluate(trainer, dev))
                logger.log(step, metrics)
                final |= {
                    name.replace("/", "_"): value for name, value in metrics.items() if "/" in name
                }
                state.save_cost()
            if chief:
                saved.after_step(step, metrics["dev/mlm_loss"] if evaluating else None)

            due = step % settings.checkpoint_every == 0 or (
                settings.checkpoint_minutes is not None
                and time.monotonic() - last_checkpoint >= 60 * settings.checkpoint_minutes
            )
            if (due or stopping) and not last:
                state.save(step)
                last_checkpoint = time.monotonic()
            if stopping and not last:
                workers.barrier()  # Until the chief has written the checkpoint.
                _exit(step, stop)
            if logging:
                throughput.resume()
    workers.barrier()  # The chief removes the folder that the others log into.
    final |= {f"dev_{name}_initial": value for name, value in state.initial_metrics.items()}
    return final, saved


def evaluate(trainer: Trainer, batches: tf.distribute.DistributedDataset) -> dict[str, float]:
    """Metrics over all batches; sums are in float64, so that the order hardly matters."""
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in trainer.evaluation_step(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return mean_metrics(totals)


def _datasets(
    trainer: Trainer, settings: Pretrain, data: TrainingData, steps: int, first_step: int
) -> tuple[Iterator[Batch], tf.distribute.DistributedDataset]:
    """Training batches from a step on, without end; dev batches."""

    def training_part(worker: int, workers: int) -> tf.data.Dataset:
        dataset = training_batches(
            data.records,
            data.manifest,
            data.vocabulary,
            batch_size=settings.batch_size,
            steps=steps,
            buffer=settings.shuffle_buffer,
            seed=settings.seed,
            first_step=first_step,
            worker=worker,
            workers=workers,
        )
        # The data lasts until the end of training. Without this several workers would ask each
        # other at every step whether there is more, and lose static shapes on the way.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def dev_part(worker: int, workers: int) -> tf.data.Dataset:
        batch_size = settings.batch_size // trainer.microbatches
        return evaluation_batches(data.records, data.manifest, "dev", batch_size, worker, workers)

    batches = iter(distribute(trainer.strategy, training_part))
    return batches, distribute(trainer.strategy, dev_part)


def _throughput(
    trainer: Trainer,
    settings: Pretrain,
    manifest: Manifest,
    paths: RunPaths,
    first_step: int,
    workers: Workers,
) -> Throughput:
    flops = training_flops(
        trainer.config,
        settings.batch_size,
        manifest.max_seq_length,
        manifest.predictions_per_sequence,
        manifest.examples_per_sequence,
        manifest.next_sentence,
    )
    return Throughput(
        paths.throughput,
        first_step,
        settings.batch_size,
        flops,
        lambda: matmul_peak(settings.precision) * workers.devices,
    )


def _last_step_of_call(settings: Pretrain, step: int, steps: int) -> int:
    """The step at which the next call of the device ends: where something is due, at the latest."""
    if step == 0:
        return 1
    intervals = (
        settings.log_every,
        settings.evaluate_every,
        settings.checkpoint_every,
        settings.save_model_every or steps,
    )
    due = min(steps, *(step + interval - step % interval for interval in intervals))
    return min(due, step + settings.tpu.steps_per_execution)


def _run_steps(
    trainer: Trainer,
    settings: Pretrain,
    batches: Iterator[Batch],
    learning_rate: Callable[[int], float],
    before: int,
    last: int,
    stop: StopRequest,
) -> dict[str, tf.Tensor]:
    """Runs the steps after `before` up to `last` in one call of the device."""
    steps_per_call = settings.tpu.steps_per_execution
    # Always the same number of rates, so that there is one shape.
    rates = [learning_rate(step) for step in range(before + 1, before + steps_per_call + 1)]
    results = trainer.steps(
        batches,
        tf.constant(before + 1),
        tf.constant(rates),
        tf.constant(float(stop.signal is not None)),
        tf.constant(last - before) if steps_per_call > 1 else None,
    )
    results["steps"] = tf.constant(float(last - before))
    return results


def _training_metrics(
    sums: Mapping[str, float], rate: float, settings: Pretrain
) -> dict[str, float]:
    """Metrics of the steps since the last line of the log."""
    metrics = _prefixed("train/", mean_metrics(sums))
    if settings.label_smoothing:
        metrics["train/mlm_objective"] = sums["masked_lm_objective"] / sums["masked_lm_weight"]
    metrics["learning_rate"] = rate
    metrics["gradient_norm"] = sums["gradient_norm"] / sums["steps"]
    if settings.precision == "float16":
        metrics["skipped_steps"] = sums["skipped"]
    return metrics


def _check_loss(step: int, loss_sum: float, loss: float, checks: LossChecks | None) -> None:
    if not math.isfinite(loss_sum):
        raise UserError(
            f"the loss is not a number at step {step:,}: lower pretrain.learning_rate or raise "
            "pretrain.warmup_steps"
        )
    if checks:
        checks.check_falling(step, loss)


def _exit(step: int, stop: StopRequest) -> None:
    by = stop.signal.name if stop.signal else "another worker"
    print(
        f"pretrain: stopped by {by} after step {step:,}; run the same command again to resume",
        file=sys.stderr,
    )
    sys.exit(128 + (stop.signal or signal.SIGTERM))


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}


def _progress_note(values: Mapping[str, float], speed: str) -> str:
    parts = [speed] if speed else []
    parts += [
        f"{name.replace('_', ' ')} {values[name]:.3f}"
        for name in ("train_mlm_loss", "dev_mlm_loss")
        if name in values
    ]
    return ", ".join(parts)
