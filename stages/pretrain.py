"""pretrain: records and initial weights -> models/<phase>, a Hugging Face model directory."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lib.checkpoints.huggingface import write_model
from lib.checkpoints.weight_files import SAFETENSORS
from lib.model.config import config_record
from lib.model.encoder_config import EncoderConfig
from lib.params import SAVED, load_params
from lib.records.manifest import MANIFEST, read_manifest, record_settings
from lib.run import cost, fingerprint
from lib.run.atomic import new_directory, remove
from lib.run.contracts import check_metrics
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.names import write_name
from lib.run.paths import MODELS, RECORDS, RESULTS, STATES, VOCAB
from lib.run.phases import decay_length, run_length, training_settings
from lib.run.stage import forced_by_dvc, run_stage
from lib.train.base_models import check_base_models
from lib.train.damaged_records import naming_damaged_records
from lib.train.initial_weights import read_initial_model
from lib.train.preemption import quick_exit, stop_on_signal
from lib.train.prolonging import prolong
from lib.train.saving import checkpoint, digests, kept_state, run_record, runs
from lib.train.saving.checkpoint import exclusive
from lib.train.saving.identity import INTERVALS, Identity, identify
from lib.train.saving.tokenizer_files import special_ids, write_files
from lib.vocab.directory import refuse_disagreement
from lib.vocab.loading import load_tokenizer
from lib.vocab.names import CONFIG, TOKENIZER, VOCABULARY
from lib.vocab.tokenizer import Tokenizer

_DEMO_SIZE = 256


def main(
    phase: str = "",
    records: Path | None = None,
    init: Path | None = None,
    vocab: Path = VOCAB,
    model: Path | None = None,
    from_start: bool = False,
) -> None:
    """Trains a model for one phase.

    PHASE is its name in params.yaml, RECORDS its folder of records, INIT its initial weights (the
    folder of the vocabulary or a config file: from scratch; the folder of a model; or
    models/state/PHASE, the model and optimizer state in which another phase ended), VOCAB the
    folder of the vocabulary, MODEL the folder to write. A run that was interrupted is
    resumed, except with --from-start and under `dvc repro -f`.
    """
    # Here, because they import TensorFlow, which takes longer than the check of base models before.
    from lib.train.export_check import max_logit_difference
    from lib.train.initial_state import Earlier, earlier_training, read_initial_state
    from lib.train.loop import RunPaths, TrainingData, train
    from lib.train.machine import machine
    from lib.train.mixture import read_mixture, seen
    from lib.train.saving.remote_copies import remote_copies
    from lib.train.step import Trainer
    from lib.train.strategy import make_strategy
    from lib.train.workers import Workers

    params = load_params()
    params.check_phase(phase)
    records, model = records or RECORDS / phase, model or MODELS / phase
    init = init or Path(params.phases[phase].init)
    settings = training_settings(params.pretrain, params.phases[phase])
    manifest = read_manifest(records)
    check_metrics("preprocess", "sample5M", "vocab", "split", f"records/{phase}")
    manifest.check_vocabulary(records, vocab, (VOCABULARY, TOKENIZER, CONFIG))
    refuse_disagreement(vocab)
    tokenizer = load_tokenizer(vocab)
    sequences = manifest.splits["train"].sequences
    key = "warmup_steps"
    try:
        steps, warmup_steps = run_length(settings, sequences)
        key = "decay_steps"
        decay_length(settings, steps, warmup_steps)
    except ValueError as failure:
        raise UserError(f"phases.{phase}: {key} {failure}") from None
    mixture = read_mixture(settings.mixture, manifest.splits["train"], f"phases.{phase}.mixture")
    length = manifest.max_seq_length
    from_state = kept_state.is_state(init)
    if from_state:
        initial = read_initial_state(settings, phase, init, length, manifest.segments, tokenizer)
    else:
        initial = read_initial_model(
            settings,
            phase,
            init,
            vocab,
            tokenizer,
            length,
            manifest.next_sentence,
            manifest.segments,
        )
    config = initial.config
    for note in initial.notes:
        print(f"pretrain: {note}")
    own_text, own_size = params.preprocess.input != "data/demo", init.resolve() == vocab.resolve()
    if own_text and own_size and config.hidden_size < _DEMO_SIZE:
        print(
            f"pretrain: note: hidden_size {config.hidden_size} is for trials; for a real model of "
            "your own text raise pretrain.model (BERT-base: num_hidden_layers 12, hidden_size 768, "
            "num_attention_heads 12, intermediate_size 3072), phases.*.max_seq_length and "
            "pretrain.steps",
            file=sys.stderr,
        )
    identity = identify(settings, fingerprint.of_file(records / MANIFEST), init, vocab)
    run = runs.phase_folder(phase) / identity.name
    tpu = settings.tpu
    strategy = make_strategy(settings.distribution, tpu.name, tpu.zone, tpu.project)
    workers = Workers(strategy)
    worker = workers.index
    results = RESULTS / "pretrain" / phase
    # Of several workers, the chief writes the results.
    paths = RunPaths(
        logs=run / f"worker-{worker}" if worker else results / "live",
        throughput=run / f"worker-{worker}.csv"
        if worker
        else RESULTS / f"cost/training-{phase}.csv",
        event_files=(
            RESULTS / "tensorboard" / phase if settings.tensorboard and not worker else None
        ),
        scratch=run,
    )
    location = None if worker else settings.checkpoint_dir
    from_start = from_start or forced_by_dvc()
    intervals = {name: json.dumps(getattr(settings, name)) for name in INTERVALS}
    state = model.parent / STATES.name / model.name
    if not worker:
        by_dvc = "DVC_STAGE" in os.environ
        runs.prepare(run, identity, from_start, intervals if by_dvc else None)
        if not from_start:
            prolong(run, identity, settings, sequences, workers.count, state)
    with (
        # Several workers take leave of each other.
        quick_exit(workers.count == 1),
        workers.reporting_lost_workers(),
        naming_damaged_records(records, manifest, config),
        stop_on_signal() as stop,
        exclusive(run, worker),
    ):
        copies = remote_copies(run, location, settings.keep_checkpoints, from_start)
        workers.check_same_run(identity.digest + identity.code)
        earlier = earlier_training(init, identity, workers.count) if from_state else Earlier()
        if not worker:
            cost.THIS_STAGE.resume(run / cost.FILE)
            if checkpoint.steps(run):
                earlier = Earlier.recorded(run_record.read(run), earlier)
            facts = {
                "total_steps": steps,
                "from_scratch": initial.from_scratch,
                "training_sequences": sequences,
                "record_settings": record_settings(records),
                **earlier.record(),
            }
            _begin(run, phase, identity, config, tokenizer, facts)
        earlier = earlier.of_chief(workers)
        trainer = Trainer(config, settings, manifest.next_sentence, initial.weights, strategy)
        if from_state:
            trainer.restore(kept_state.arrays(init))

        def write(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
            write_files(folder, config, tokenizer)
            write_model(folder, config, weights, special_ids(config, tokenizer))

        final, saved = train(
            trainer,
            settings,
            TrainingData(records, manifest, tokenizer, mixture),
            paths,
            copies,
            lambda folder: write(folder, trainer.weights()),
            initial.from_scratch,
            workers,
            stop,
            {**machine(strategy), "training code": identity.code, **intervals},
            earlier,
        )
        if worker:
            return
        write(model, trainer.weights())
        difference = max_logit_difference(model, config, trainer.weights(), records, manifest)
        parameters = sum(math.prod(parameter.shape) for parameter in config.parameter_table())
        if not initial.from_scratch:
            saved.save_initial(lambda folder: write(folder, initial.weights))
        saved.publish(model.parent / SAVED / model.name)
        kept_state.publish(saved, state)
        record = run_record.read(run)
        # For most runs there are none of these.
        unusual = {
            "steps_before": earlier.steps,
            "changed": run_record.changes(record.get("history", [])),
            "continued": record.get("continued", {}),
        }
        total = steps * settings.batch_size
        by_input = seen(manifest.splits["train"], mixture, earlier.sequences, total)
        examples = sum(each["examples"] for each in by_input.values())
        named = {name: own for name, own in sorted(by_input.items()) if name}
        # Outputs appear when they are complete: what an interrupted run has logged would keep
        # `dvc checkout` from restoring those of the run before.
        with new_directory(results / "curves") as curves:
            shutil.copytree(paths.logs / "plots/metrics", curves, dirs_exist_ok=True)
        remove(paths.logs)
        write_name("pretrain", phase)
        write_metrics(
            results / "metrics.json",
            {
                "parameters": parameters,
                "steps": steps,
                # Packed sequences contain several examples, some more than others.
                "examples_seen": examples,
                "epochs": total / sequences,
                **final,
                "best_step": saved.best_step,
                "best_dev_mlm_loss": saved.best_loss,
                "export_check": {"max_logit_difference": difference},
                **({"inputs": named} if named else {}),
                **{name: found for name, found in unusual.items() if found},
            },
        )
        if copies:
            copies.discard()
        stop.ignore()
        runs.finish(run, model / SAFETENSORS)
    skipped = f", skipped steps: {final['skipped_steps']:,}" if final["skipped_steps"] else ""
    print(
        f"pretrain: {phase}: {parameters:,} parameters, dev MLM loss "
        f"{final['dev_mlm_loss']:.3f}, accuracy {final['dev_mlm_accuracy']:.1%}{skipped} -> {model}"
    )


def _begin(
    run: Path,
    phase: str,
    identity: Identity,
    config: EncoderConfig,
    tokenizer: Tokenizer,
    facts: Mapping[str, Any],
) -> None:
    """Writes what identifies the run, and what its models need besides weights, into its folder."""
    with new_directory(run / runs.TOKENIZER) as temporary:
        write_files(temporary, config, tokenizer)
        files = digests.of_folder(temporary)
    model = {
        "config": config_record(config),
        "special_ids": special_ids(config, tokenizer),
        "tokenizer": files,
    }
    run_record.begin(run, phase, identity, {**model, **facts})


if __name__ == "__main__":
    run_stage(main, before=check_base_models)
