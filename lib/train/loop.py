"""Training loop: steps, log, evaluation, saved models, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lib.model.flops import matmul_peak, training_flops
from lib.model.layers import Batch
from lib.model.losses import mean_metrics
from lib.params import Pretrain
from lib.records.manifest import Manifest
from lib.run import tf
from lib.run.errors import about
from lib.run.phases import run_length
from lib.run.progress import Progress
from lib.train.dynamic_masking import Vocabulary
from lib.train.initial_state import Earlier
from lib.train.input import evaluation_batches, training_batches
from lib.train.learning_rates import learning_rates
from lib.train.logging.metrics_logger import MetricsLogger
from lib.train.logging.throughput import Throughput
from lib.train.loss_checks import LossChecks
from lib.train.mixture import Mixture
from lib.train.preemption import StopRequest
from lib.train.run_state import RunState
from lib.train.saving import kept_state, run_record
from lib.train.saving.remote_copies import RemoteCopies
from lib.train.saving.saved_models import SavedModels
from lib.train.step import Trainer
from lib.train.strategy import distribute
from lib.train.workers import Workers


@dataclass(frozen=True)
class TrainingData:
    """Records of one phase, the vocabulary that they were made with, and how to mix inputs."""

    records: Path
    manifest: Manifest
    vocabulary: Vocabulary
    mixture: Mixture | None = None


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
    stop: StopRequest,
    facts: Mapping[str, str],
    earlier: Earlier,
) -> tuple[dict[str, float], SavedModels]:
    """Runs all steps of a phase; resumes from the newest checkpoint in scratch if there is one.

    A signal ends it (SystemExit) with a checkpoint of the last finished step. What was still to be
    done at that step (its line of the log, evaluation, saved models) the resumed run does first.

    Args:
        copies: copies of the checkpoints in remote storage, if there should be any.
        write_model: writes the current model into an empty folder.
        from_scratch: whether the weights are random, and the loss is checked accordingly.
        workers: this worker among all; the chief reads and writes checkpoints and models.
        stop: the signal to stop, if there was one.
        facts: what this process trains with, for the record of the run.
        earlier: training before the first step, if the phase starts from a state.

    Returns:
        The last dev metrics and training loss, and the initial dev metrics unless training began
        from scratch; the saved models.

    Raises:
        UserError: the loss has a wrong initial value or does not fall, or too many steps were
            skipped because something in them was not finite.
    """
    steps, warmup_steps = run_length(settings, data.manifest.splits["train"].sequences)
    saved = SavedModels(paths.scratch, settings.save_model_every, write_model)
    chief, alone = workers.index == 0, workers.count == 1
    state = RunState(trainer, settings, saved, workers, paths.scratch, paths.logs, copies)
    batches, dev = _datasets(trainer, settings, data, steps, state.first_step, earlier)
    checks = LossChecks(trainer.config.vocab_size, warmup_steps) if from_scratch else None
    learning_rate = learning_rates(settings, steps, warmup_steps)
    manifest = data.manifest
    throughput = Throughput(
        paths.throughput,
        state.first_step,
        settings.batch_size,
        training_flops(
            trainer.config,
            settings.batch_size,
            manifest.max_seq_length,
            manifest.predictions_per_sequence,
            manifest.examples_per_sequence,
            manifest.next_sentence,
        ),
        lambda: matmul_peak(settings.precision) * workers.devices,
    )
    speed = ""

    def evaluate_dev(step: int) -> dict[str, float] | None:
        """Dev metrics; None if training is to stop before all batches are evaluated."""
        # Several workers stop after the same batch. Without new steps nothing would be lost.
        with stop.deferred(step > state.first_step or not alone):
            return evaluate(trainer, dev, lambda: workers.any(bool(stop)))

    def end(step: int) -> NoReturn:
        workers.barrier()  # Until the chief has written the checkpoint.
        stop.last_step = step
        stop.exit()

    def complete(step: int, logger: MetricsLogger) -> bool:
        """The log, the evaluation and the saved models of a step; whether there was a log."""
        nonlocal speed
        evaluating = step % settings.evaluate_every == 0 or step == steps
        logging = step % settings.log_every == 0 or evaluating
        metrics: dict[str, float] = {}
        # Only the chief has the sums from before a checkpoint, and only its log counts.
        if logging and state.sums:
            sums = state.sums_since_log()
            skipped = trainer.skipped_steps - earlier.skipped
            metrics = _training_metrics(sums, learning_rate(step), settings, skipped)
            if checks and "train/mlm_loss" in metrics:
                checks.check_falling(step, metrics["train/mlm_loss"])
            if step > state.first_step:
                speed = throughput.log(step, sums["tokens"] / sums["steps"])
        if evaluating:
            dev_metrics = evaluate_dev(step)
            if dev_metrics is None:
                state.save(step, pending=True)
                end(step)
            metrics |= _prefixed("dev/", dev_metrics)
        if logging:
            state.skipped.check_finite(step, metrics)
            logger.log(step, metrics)
            state.logged(
                {name.replace("/", "_"): value for name, value in metrics.items() if "/" in name}
            )
            state.save_cost()
        if chief:
            saved.after_step(step, metrics["dev/mlm_loss"] if evaluating else None)
        return logging

    with stop.deferred():
        initial: dict[str, float] | None = None
        if not from_scratch and (state.first_step == 0 or state.other_dev):
            # Metrics of the initial model, which training should improve on.
            initial = evaluate_dev(state.first_step)
            if initial is None:
                end(state.first_step)
        state.restore()
        if initial is not None:
            state.initial_metrics = initial
        if state.first_step < steps:
            saved.digests.pop(kept_state.STATE, None)
        if chief:
            run_record.start(paths.scratch, state.first_step, facts)
        stop.last_step = step = state.first_step
        with (
            about(paths.logs),
            closing(MetricsLogger(paths.logs, state.resumed, paths.event_files)) as logger,
            Progress("pretrain", steps, "steps") as progress,
        ):
            progress.skip(step)
            if step == 0 and initial is not None:
                logger.log(0, _prefixed("dev/", initial))
            last_checkpoint = time.monotonic()
            throughput.resume()
            to_complete = state.pending
            while True:
                if to_complete:
                    if step == steps and kept_state.is_kept(settings):
                        state.keep(step)
                    logged = complete(step, logger)
                    minutes = (time.monotonic() - last_checkpoint) / 60
                    if (
                        step == steps
                        or step % settings.checkpoint_every == 0
                        or minutes >= (settings.checkpoint_minutes or math.inf)
                        or (alone and stop)
                    ):
                        state.save(step)
                        stop.last_step, last_checkpoint = step, time.monotonic()
                        if alone and stop:
                            end(step)
                    if logged:
                        throughput.resume()
                if step == steps:
                    break

                before, step = step, _last_step_of_call(settings, step, steps)
                # Until the first call is compiled, which takes a while, nothing new is trained.
                with stop.deferred(before > state.first_step or not alone):
                    results = _run_steps(
                        trainer, settings, batches, learning_rate, before, step, stop, earlier
                    )
                # All workers stop after the same step, whichever of them got the signal.
                any_stop = results.pop("stop")
                progress.advance(step - before, note=_progress_note(state.final, speed))
                state.add(step, results)
                if step == 1 and checks and not float(results["skipped"]):
                    loss = results["masked_lm_loss"] / results["masked_lm_weight"]
                    checks.check_first_loss(float(loss))
                if bool(stop) if alone else bool(any_stop):
                    state.save(step, pending=True)
                    end(step)
                to_complete = True
        workers.barrier()  # The chief removes the folder that the others log into.
    initial_metrics = {f"dev_{name}_initial": x for name, x in state.initial_metrics.items()}
    skipped = trainer.skipped_steps - earlier.skipped
    return state.final | initial_metrics | {"skipped_steps": skipped}, saved


def evaluate(
    trainer: Trainer,
    batches: tf.distribute.DistributedDataset,
    is_stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Metrics over all batches; None if `is_stopping`, asked after each batch, says so.

    Sums are in float64, so that the order hardly matters.
    """
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in trainer.evaluate(batch).items():
            totals[name] = totals.get(name, 0.0) + value
        if is_stopping():
            return None
    return mean_metrics(totals)


def _datasets(
    trainer: Trainer,
    settings: Pretrain,
    data: TrainingData,
    steps: int,
    first_step: int,
    earlier: Earlier,
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
            offset=earlier.sequences,
            worker=worker,
            workers=workers,
            mixture=data.mixture,
        )
        # The data lasts until the end of training. Without this several workers would ask each
        # other at every step whether there is more, and lose static shapes on the way.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def dev_part(worker: int, workers: int) -> tf.data.Dataset:
        batch_size = settings.batch_size // trainer.microbatches
        return evaluation_batches(
            data.records,
            data.manifest,
            "dev",
            batch_size,
            worker,
            workers,
            settings.max_dev_sequences,
        )

    batches = iter(distribute(trainer.strategy, training_part))
    return batches, distribute(trainer.strategy, dev_part)


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
    earlier: Earlier,
) -> dict[str, tf.Tensor]:
    """Runs the steps after `before` up to `last` in one call of the device."""
    steps_per_call = settings.tpu.steps_per_execution
    # Always the same number of rates, so that there is one shape.
    rates = [learning_rate(step) for step in range(before + 1, before + steps_per_call + 1)]
    results = trainer.steps(
        batches,
        tf.constant(earlier.steps + before + 1),
        tf.constant(rates),
        tf.constant(float(bool(stop))),
        tf.constant(last - before) if steps_per_call > 1 else None,
    )
    results["steps"] = tf.constant(float(last - before))
    return results


def _training_metrics(
    sums: Mapping[str, float], rate: float, settings: Pretrain, skipped: int
) -> dict[str, float]:
    """Metrics of the steps since the last line of the log, without those that were skipped.

    Args:
        skipped: number of skipped steps of the whole run.
    """
    made = sums["steps"] - sums["skipped"]
    metrics = _prefixed("train/", mean_metrics(sums)) if made else {}
    if settings.label_smoothing and made:
        metrics["train/mlm_objective"] = sums["masked_lm_objective"] / sums["masked_lm_weight"]
    metrics["learning_rate"] = rate
    if made:
        metrics["gradient_norm"] = sums["gradient_norm"] / made
    if settings.precision == "float16" or skipped:
        metrics["skipped_steps"] = sums["skipped"]
    return metrics


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
