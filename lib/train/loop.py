"""The training loop, read top to bottom: steps, log, evaluation, models, checkpoint."""

import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lib.model.flops import matmul_peak, training_flops
from lib.model.losses import mean_metrics
from lib.model.schedules import schedule
from lib.params import Pretrain
from lib.records.manifest import Manifest
from lib.run import tf
from lib.run.errors import UserError, about
from lib.run.phases import run_length
from lib.run.progress import Progress
from lib.train.dynamic_masking import Vocabulary
from lib.train.input import evaluation_batches, training_batches
from lib.train.logging.metrics_logger import Telemetry
from lib.train.logging.throughput import Throughput
from lib.train.loss_checks import Sanity
from lib.train.preemption import stop_on_signal
from lib.train.run_state import RunState
from lib.train.saving.remote_copies import Copies
from lib.train.saving.saved_models import KeptModels
from lib.train.step import Trainer
from lib.train.strategy import distributed
from lib.train.workers import Workers


@dataclass(frozen=True)
class Data:
    """Records of one phase, and the vocabulary that they were made with."""

    records: Path
    manifest: Manifest
    vocabulary: Vocabulary


@dataclass(frozen=True)
class Places:
    """Where a run writes.

    Attributes:
        logs: DVCLive's folder; a checkpoint brings back what it held at that step.
        costs: the CSV file for speed and memory.
        event_files: TensorBoard's folder, if there is to be one.
        scratch: the folder of this very run's checkpoints, already locked.
        copies: of them in storage, if there are to be any.
    """

    logs: Path
    costs: Path
    event_files: Path | None
    scratch: Path
    copies: Copies | None = None


def train(
    trainer: Trainer,
    settings: Pretrain,
    data: Data,
    places: Places,
    write_model: Callable[[Path], None],
    from_scratch: bool,
    workers: Workers,
) -> tuple[dict[str, float], KeptModels]:
    """Runs all steps, going on from the newest checkpoint in scratch if there is one.

    SIGTERM and Ctrl-C end it (SystemExit) with a checkpoint of the last finished step.

    Args:
        write_model: writes the model as it is at that moment into an empty folder.
        from_scratch: the loss has to begin at that of guessing, and to fall.
        workers: which of them this is; the chief reads and writes checkpoints and models.

    Returns:
        The last dev metrics and the last training loss, and the dev metrics before the first step
        where there was a model to start from; models of chosen steps.

    Raises:
        UserError: the loss is not a number, does not begin where it should, or does not fall.
    """
    manifest, strategy = data.manifest, trainer.strategy
    steps, warmup_steps = run_length(settings, manifest.splits["train"].sequences)
    kept = KeptModels(places.scratch, settings.save_model_every, write_model)
    chief = workers.number == 0
    state = RunState(
        trainer,
        kept,
        workers,
        places.scratch,
        places.logs,
        settings.keep_checkpoints,
        places.copies,
    )
    first = state.first

    def training_part(worker: int, workers: int) -> tf.data.Dataset:
        dataset = training_batches(
            data.records,
            manifest,
            data.vocabulary,
            batch_size=settings.batch_size,
            steps=steps,
            buffer=settings.shuffle_buffer,
            seed=settings.seed,
            first_step=first,
            worker=worker,
            workers=workers,
        )
        # It does not end before training does. Several workers would else ask each other at every
        # step whether there is more, and lose the static shapes on the way.
        return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

    def dev_part(worker: int, workers: int) -> tf.data.Dataset:
        rows = settings.batch_size // trainer.microbatches
        return evaluation_batches(data.records, manifest, "dev", rows, worker, workers)

    batches = iter(distributed(strategy, training_part))
    dev = distributed(strategy, dev_part)
    sanity = Sanity(trainer.config.vocab_size, warmup_steps) if from_scratch else None
    rate = schedule(
        settings.schedule,
        settings.learning_rate,
        settings.end_learning_rate,
        warmup_steps,
        steps,
        settings.power,
    )
    flops = training_flops(
        trainer.config,
        settings.batch_size,
        manifest.max_seq_length,
        manifest.predictions_per_sequence,
        manifest.examples_per_sequence,
        manifest.next_sentence,
    )
    throughput = Throughput(
        places.costs,
        first,
        settings.batch_size,
        flops,
        lambda: matmul_peak(settings.precision) * workers.processors,
    )
    final: dict[str, float] = {}
    speed = ""

    with (
        stop_on_signal() as stop,
        about(places.logs),
        closing(Telemetry(places.logs, state.resumed, places.event_files)) as telemetry,
        Progress("pretrain", steps, "steps") as progress,
    ):
        progress.skip(first)
        if first == 0 and not from_scratch:
            # Of the model that training starts from: what comes out has to be better.
            state.at_start = evaluate(trainer, dev)
            telemetry.log(0, {f"dev/{name}": value for name, value in state.at_start.items()})
        saved, number, at_once = time.monotonic(), first, settings.tpu.steps_per_execution
        throughput.start()
        while number < steps:
            after = min(_next_stop(settings, number, steps), number + at_once)
            # Always as many, so that there is one shape.
            rates = [rate(step) for step in range(number + 1, number + at_once + 1)]
            results = trainer.steps(
                batches,
                tf.constant(number + 1),
                tf.constant(rates),
                tf.constant(float(stop.signal is not None)),
                tf.constant(after - number) if at_once > 1 else None,
            )
            # Several workers stop after the same step, whichever of them was asked to.
            asked = results.pop("stop")
            stopping = bool(stop.signal) if workers.count == 1 else bool(asked)
            results["steps"] = tf.constant(float(after - number))
            progress.advance(after - number, note=_note(final, speed))
            number = after
            state.add(results)
            if number == 1 and sanity:
                sanity.check_first(float(results["masked_lm_loss"] / results["masked_lm_weight"]))
            last = number == steps
            evaluated = number % settings.evaluate_every == 0 or last
            logged = number % settings.log_every == 0 or evaluated
            if logged:
                values = state.take()
                line = _line(values, rate(number), settings)
                if not math.isfinite(values["masked_lm_loss"]):
                    raise UserError(
                        f"the loss is not a number at step {number:,}: lower "
                        "pretrain.learning_rate or raise pretrain.warmup_steps"
                    )
                if sanity:
                    sanity.check_falls(number, line["train/mlm_loss"])
                speed = throughput.log(number, values["tokens"] / values["steps"])
                if evaluated:
                    line |= {f"dev/{name}": value for name, value in evaluate(trainer, dev).items()}
                telemetry.log(number, line)
                final |= {
                    name.replace("/", "_"): value for name, value in line.items() if "/" in name
                }
            if chief:
                kept.after_step(number, line["dev/mlm_loss"] if evaluated else None)
            due = number % settings.checkpoint_every == 0 or (
                settings.checkpoint_minutes is not None
                and time.monotonic() - saved >= 60 * settings.checkpoint_minutes
            )
            if (due or stopping) and not last:
                state.save(number)
                saved = time.monotonic()
            if stopping and not last:
                workers.wait()  # Until the checkpoint is there.
                by = stop.signal.name if stop.signal else "another worker"
                print(
                    f"pretrain: stopped by {by} after step {number:,}; the same "
                    "command goes on from there",
                    file=sys.stderr,
                )
                sys.exit(128 + (stop.signal or signal.SIGTERM))
            if logged:
                throughput.start()
    workers.wait()  # The chief removes the folder that others log into.
    final |= {f"dev_{name}_initial": value for name, value in state.at_start.items()}
    return final, kept


def evaluate(trainer: Trainer, batches: tf.distribute.DistributedDataset) -> dict[str, float]:
    """Means over all batches; accumulated in float64, so their order hardly matters."""
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in trainer.evaluation_step(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    return mean_metrics(totals)


def _next_stop(settings: Pretrain, number: int, steps: int) -> int:
    """The next step after which something is due, so that a call of the device must end there."""
    if number == 0:
        return 1
    every = (
        settings.log_every,
        settings.evaluate_every,
        settings.checkpoint_every,
        settings.save_model_every or steps,
    )
    return min(steps, *(number + each - number % each for each in every))


def _line(sums: Mapping[str, float], rate: float, settings: Pretrain) -> dict[str, float]:
    """What is logged of the steps since the last time."""
    line = {f"train/{name}": value for name, value in mean_metrics(sums).items()}
    if settings.label_smoothing:
        line["train/mlm_objective"] = sums["masked_lm_objective"] / sums["masked_lm_weight"]
    line["learning_rate"] = rate
    line["gradient_norm"] = sums["gradient_norm"] / sums["steps"]
    if settings.precision == "float16":
        line["skipped_steps"] = sums["skipped"]
    return line


def _note(values: Mapping[str, float], speed: str) -> str:
    shown = [speed] if speed else []
    shown += [
        f"{name.replace('_', ' ')} {values[name]:.3f}"
        for name in ("train_mlm_loss", "dev_mlm_loss")
        if name in values
    ]
    return ", ".join(shown)
