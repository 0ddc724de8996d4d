"""probe: labelled text and models to compare -> results/probe/<task>, mean F1 over seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from lib.checkpoints.formats import read_checkpoint
from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.params import VOCAB, ProbeTask, load_params
from lib.probe.comparison import (
    Run,
    format_summary,
    scores_by_class,
    scores_by_run,
    summarize,
)
from lib.probe.fine_tuning import FineTuner
from lib.probe.labelled import Example
from lib.probe.scores import Labels, are_entity_tags, scores
from lib.probe.sequences import (
    LabelledSequence,
    batch_count,
    sentence_sequences,
    text_sequences,
)
from lib.probe.task_data import read_task
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.names import write_name
from lib.run.progress import Progress
from lib.run.stage import run_stage
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning
from lib.vocab.tokenizer import WordPieceTokenizer


@dataclass(frozen=True)
class ComparedModel:
    """A model to fine-tune, with the task's examples tokenized for it.

    Attributes:
        weights: float32 arrays by the names of the parameter table. Missing ones (all, for a model
            without pretraining) are drawn for each seed.
        test: the sequences of each test example.
    """

    config: BertConfig
    weights: Mapping[str, np.ndarray]
    pad_id: int
    train: Sequence[LabelledSequence]
    test: Sequence[Sequence[LabelledSequence]]


def _clean(examples: Sequence[Example], settings: Cleaning) -> list[Example]:
    """Cleans texts as the corpus was cleaned, since the model was trained on text of that form."""
    cleaner = DocumentCleaner(settings, "line")
    texts = cleaner([example.words[0].splitlines() for example in examples], Counter())
    return [Example((text,), example.labels) for text, example in zip(texts, examples, strict=True)]


def _read_model(
    path: Path, task: ProbeTask, train: list[Example], test: list[Example]
) -> ComparedModel:
    checkpoint = read_checkpoint(path, allow_missing_heads=True)
    tokenizer = WordPieceTokenizer.load(path)
    length, config = task.max_seq_length, checkpoint.config
    if length > config.max_position_embeddings:
        raise UserError(
            f"{path}: has {config.max_position_embeddings} positions, but max_seq_length of the "
            f"task is {length}; lower it"
        )
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{path}: the vocabulary has {len(tokenizer.vocabulary)} tokens, the model only "
            f"{config.vocab_size} embeddings; use the vocabulary that it was trained with"
        )
    if task.kind == "tagging":
        train_sequences = list(chain(*sentence_sequences(train, tokenizer, length)))
        test_sequences = sentence_sequences(test, tokenizer, length)
    else:
        train_sequences = text_sequences(train, tokenizer, length)
        test_sequences = [[sequence] for sequence in text_sequences(test, tokenizer, length)]
    return ComparedModel(
        config, checkpoint.weights, tokenizer.pad_id, train_sequences, test_sequences
    )


def main(
    task_name: str = "",
    data: Path | None = None,
    model: Path | None = None,
    baseline: Path | None = None,
) -> None:
    """Fine-tunes several models on a labelled task and compares their scores.

    TASK_NAME is its name in params.yaml, DATA its labelled text (a file or a folder), MODEL the
    folder of the model to fine-tune, BASELINE the folder of another (data/vocab for none).
    """
    params = load_params()
    if task_name not in params.probe.tasks:
        raise UserError(f"probe.tasks: no task {task_name}; add it to params.yaml")
    task = params.probe.tasks[task_name]
    data, model = data or Path(task.data), model or Path(task.model)
    baseline = baseline or Path(task.baseline)
    parts = read_task(data, task)
    for note in parts.notes:
        print(f"probe: {task_name}: {note}")
    train, test = parts.train, parts.test
    classes = sorted({label for example in train for label in example.labels})
    gold = [example.labels for example in test]
    unseen = sum(label not in classes for label in chain(*gold))
    train_texts = {example.words for example in train}
    metrics = {
        "kind": task.kind,
        "train_examples": len(train),
        "test_examples": len(test),
        "classes": len(classes),
        "test_labels_not_in_training": unseen,
        "test_examples_also_in_training": sum(example.words in train_texts for example in test),
        "seeds": task.seeds,
    }
    entity_level = task.kind == "tagging" and are_entity_tags({*classes, *chain(*gold)})
    if task.kind == "classification":
        train, test = (_clean(part, params.preprocess.clean) for part in (train, test))
    models = {"model": _read_model(model, task, train, test)}
    if baseline.resolve() != Path(VOCAB).resolve():
        models["baseline"] = _read_model(baseline, task, train, test)
    models["untrained"] = replace(models["model"], weights={})
    runs = _fine_tune(task_name, task, models, classes, gold, entity_level)
    summary = summarize(runs)
    results = Path("results/probe") / task_name
    for name, frame in (("runs", scores_by_run(runs)), ("classes", scores_by_class(runs))):
        write_text(results / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    write_metrics(results / "metrics.json", {**metrics, **summary})
    write_name("probe", task_name)
    counted = "entities" if entity_level else "labels"
    print(
        f"probe: {task_name}: {len(train):,} training and {len(test):,} test examples; F1 of "
        f"{counted}, mean ± standard deviation over {task.seeds} seeds\n"
        f"{format_summary(summary).to_string()}"
    )


def _fine_tune(
    task_name: str,
    task: ProbeTask,
    models: Mapping[str, ComparedModel],
    classes: Sequence[str],
    gold: Labels,
    entity_level: bool,
) -> list[Run]:
    """Fine-tunes every model once per seed and scores its predictions on the test examples."""
    runs = []
    steps = sum(batch_count(len(model.train), task.batch_size) for model in models.values())
    tuners: dict[tuple[BertConfig, int], FineTuner] = {}
    with Progress(f"probe {task_name}", steps * task.epochs * task.seeds, "steps") as progress:
        for name, model in models.items():
            # Models of the same config share the graphs compiled for the first of them.
            key = model.config, model.pad_id
            if key not in tuners:
                tuners[key] = FineTuner(model.config, task, classes, model.pad_id)
            tuner = tuners[key]
            for seed in range(1, task.seeds + 1):
                drawn = initial_values(model.config, seed, without=model.weights)
                weights = {**model.weights, **drawn}
                loss = tuner.train(weights, model.train, seed, lambda: progress.advance())
                predictions = iter(tuner.predict(list(chain(*model.test))))
                # One tuple of labels per example, from all of its sequences.
                by_example = [
                    tuple(chain(*(next(predictions) for _ in sequences)))
                    for sequences in model.test
                ]
                result = {**scores(gold, by_example, entity_level), "train_loss": loss}
                runs.append(Run(name, seed, result))
    return runs


if __name__ == "__main__":
    run_stage(main)
