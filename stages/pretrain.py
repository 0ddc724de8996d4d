"""pretrain: records and a start -> models/<phase>, a Hugging Face directory."""

import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lib.checkpoints.huggingface import write_model
from lib.model.parameters import parameter_table
from lib.params import SAVED, load_params
from lib.records.manifest import read_manifest
from lib.run import fingerprint
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.paths import MODELS, RECORDS, VOCAB
from lib.run.phases import run_length, training_settings
from lib.run.stage import run_stage, scratch
from lib.train.export_check import largest_difference
from lib.train.initial_weights import read_start
from lib.train.loop import Data, Places, train
from lib.train.saving.checkpoint import discard, exclusive
from lib.train.saving.remote_copies import copies
from lib.train.step import Trainer
from lib.train.strategy import make_strategy
from lib.train.workers import Workers
from lib.vocab.export import write_tokenizer
from lib.vocab.tokenizer import WordPieceTokenizer

# Raised by hand when a checkpoint of an older version must not be gone on from.
_FORMAT = 3
# What a killed run may be given otherwise and still go on.
_FREE = {
    "checkpoint_every",
    "checkpoint_minutes",
    "checkpoint_dir",
    "keep_checkpoints",
    "tensorboard",
    "tpu",
}
_DEMO_SIZE = 256


def main(
    phase: str = "",
    records: Path | None = None,
    init: Path | None = None,
    vocab: Path = VOCAB,
    model: Path | None = None,
) -> None:
    """Trains one phase.

    PHASE is its name in params.yaml, RECORDS its folder of records, INIT what it starts from (the
    vocabulary's folder or the config file of a BERT: from scratch; or a model's folder), VOCAB the
    vocabulary, MODEL the folder to write.
    """
    params = load_params()
    params.check_phase(phase)
    records, model = records or RECORDS / phase, model or MODELS / phase
    init = init or Path(params.phases[phase].init)
    settings = training_settings(params.pretrain, params.phases[phase])
    manifest = read_manifest(records)
    tokenizer = WordPieceTokenizer.load(vocab)
    try:
        steps, _ = run_length(settings, manifest.splits["train"].sequences)
    except ValueError as failure:
        raise UserError(f"phases.{phase}: warmup_steps {failure}") from None
    start = read_start(settings, phase, init, vocab, tokenizer, manifest.max_seq_length)
    config = start.config
    for note in start.notes:
        print(f"pretrain: {note}")
    own_text, own_size = params.preprocess.input != "data/demo", init.resolve() == vocab.resolve()
    if own_text and own_size and config.hidden_size < _DEMO_SIZE:
        print(
            f"pretrain: note: {config.hidden_size} units are a size for trying out; for a model "
            "of your own text raise pretrain.model (BERT-base: 12 layers, hidden_size 768, heads "
            "12, intermediate_size 3072), phases.*.max_seq_length and pretrain.steps",
            file=sys.stderr,
        )
    identity = fingerprint.of_values(
        {
            "format": _FORMAT,
            "records": fingerprint.of_path(records),
            "init": fingerprint.of_path(init),
            "vocab": fingerprint.of_path(vocab),
            "settings": settings.model_dump(exclude=_FREE),
        }
    )
    run = scratch() / "pretrain" / identity
    tpu = settings.tpu
    strategy = make_strategy(settings.distribution, tpu.name, tpu.zone, tpu.project)
    workers = Workers(strategy)
    worker = workers.number
    results = Path("results/pretrain") / phase
    # Of several workers the first one writes what is kept.
    places = Places(
        logs=run / f"worker-{worker}" if worker else results / "live",
        costs=run / f"worker-{worker}.csv"
        if worker
        else Path(f"results/cost/training-{phase}.csv"),
        event_files=(
            Path("results/tensorboard") / phase if settings.tensorboard and not worker else None
        ),
        scratch=run,
    )
    place = None if worker else settings.checkpoint_dir
    with (
        workers.answering(),
        exclusive(run, worker),
        copies(run, place, settings.keep_checkpoints) as copied,
    ):
        workers.agree_on(identity)
        places = replace(places, copies=copied)
        trainer = Trainer(config, settings, manifest.next_sentence, start.weights, strategy)

        def write(folder: Path, weights: Mapping[str, np.ndarray]) -> None:
            write_tokenizer(
                folder,
                tokenizer.vocabulary,
                tokenizer.lowercase,
                tokenizer.strip_accents,
                config.max_position_embeddings,
            )
            write_model(folder, config, weights, {"pad_token_id": tokenizer.pad_id})

        final, kept = train(
            trainer,
            settings,
            Data(records, manifest, tokenizer),
            places,
            lambda folder: write(folder, trainer.weights()),
            start.from_scratch,
            workers,
        )
        if worker:
            return
        write(model, trainer.weights())
        difference = largest_difference(model, config, trainer.weights(), records, manifest)
        parameters = sum(math.prod(parameter.shape) for parameter in parameter_table(config))
        if not start.from_scratch:
            kept.keep_start(lambda folder: write(folder, start.weights))
        kept.publish(model.parent / SAVED / model.name)
        epochs = steps * settings.batch_size / manifest.splits["train"].sequences
        write_metrics(
            results / "metrics.json",
            {
                "parameters": parameters,
                "steps": steps,
                # A packed row holds more examples than one, some rows more than others.
                "examples_seen": round(epochs * manifest.splits["train"].examples),
                "epochs": epochs,
                **final,
                "best_step": kept.best_step,
                "best_dev_mlm_loss": kept.best_loss,
                "export_check": {"max_logit_difference": difference},
            },
        )
        # A finished run has nothing to go on with; only killed ones leave their checkpoints.
        if copied:
            copied.discard()
        discard(run)
    print(
        f"pretrain: {phase}: {parameters:,} parameters, dev MLM loss "
        f"{final['dev_mlm_loss']:.3f}, accuracy {final['dev_mlm_accuracy']:.1%} -> {model}"
    )


if __name__ == "__main__":
    run_stage(main)
