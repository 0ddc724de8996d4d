"""probe: labelled text and models to compare -> results/probe/<task>, mean F1 over seeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from lib.checkpoints.formats import read_checkpoint
from lib.params import VOCAB, ProbeTask, load_params
from lib.probe.comparison import (
    better_without_pretraining,
    format_summary,
    scores_by_class,
    scores_by_run,
    summarize,
)
from lib.probe.labelled import Example
from lib.probe.linear import Baseline, bag_of_words, most_frequent_tag, word_features
from lib.probe.runs import ComparedModel, TaskLabels, fine_tune
from lib.probe.scores import are_entity_tags, scores
from lib.probe.sequences import LabelledSequence, sentence_sequences, text_sequences
from lib.probe.task_data import assign_folds, read_task
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.names import write_name
from lib.run.stage import run_stage
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning
from lib.vocab.loading import load_tokenizer


def _clean(examples: Sequence[Example], settings: Cleaning) -> list[Example]:
    """Cleans texts as the corpus was cleaned, since the model was trained on text of that form."""
    cleaner = DocumentCleaner(settings, "line")
    texts = cleaner([example.words[0].splitlines() for example in examples], Counter())
    return [Example((text,), example.labels) for text, example in zip(texts, examples, strict=True)]


def _read_model(
    task_name: str, path: Path, task: ProbeTask, train: list[Example], test: list[Example]
) -> ComparedModel:
    checkpoint = read_checkpoint(path, allow_missing_heads=True)
    tokenizer = load_tokenizer(path)
    length, config = task.max_seq_length, checkpoint.config
    if length > config.max_position_embeddings:
        raise UserError(
            f"{path}: has {config.max_position_embeddings} positions, but max_seq_length of the "
            f"task is {length}; lower it"
        )
    if task.pooling not in config.poolings:
        raise UserError(
            f"probe.tasks.{task_name}.pooling: should be {' or '.join(config.poolings)} for "
            f"{path}, a {config.title}. Received: {task.pooling!r}"
        )
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{path}: the vocabulary has {len(tokenizer.vocabulary)} tokens, the model only "
            f"{config.vocab_size} embeddings; use the vocabulary that it was trained with"
        )

    def sequences(examples: list[Example]) -> Sequence[Sequence[LabelledSequence]]:
        if task.kind == "tagging":
            return sentence_sequences(examples, tokenizer, length)
        return [[sequence] for sequence in text_sequences(examples, tokenizer, length)]

    return ComparedModel(
        config, checkpoint.weights, tokenizer.pad_id, sequences(train), sequences(test)
    )


def main(
    task_name: str = "",
    data: Path | None = None,
    model: Path | None = None,
    baseline: Path | None = None,
) -> None:
    """Fine-tunes several models on a labelled task and compares them, also with simple baselines.

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
    models = {"model": _read_model(task_name, model, task, train, test)}
    if baseline.resolve() != Path(VOCAB).resolve():
        models["baseline"] = _read_model(task_name, baseline, task, train, test)
    models["untrained"] = replace(models["model"], weights={})
    labels = TaskLabels(classes, [example.labels for example in train], gold, entity_level)
    runs, learning_rate = fine_tune(task_name, task, models, labels, assign_folds(train))
    chosen = {}
    for name, without_network in _baselines(task, train, test, entity_level).items():
        result = scores(gold, without_network.predictions, entity_level)
        runs.append({"model": name, "seed": 0, **result, "train_loss": None})
        chosen[name] = without_network.description
    summary = summarize(runs)
    results = Path("results/probe") / task_name
    for name, frame in (("runs", scores_by_run(runs)), ("classes", scores_by_class(runs))):
        write_text(results / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    for name, description in chosen.items():
        summary[name]["chosen"] = description
    summary["untrained"]["learning_rate"] = learning_rate
    write_metrics(results / "metrics.json", {**metrics, **summary})
    write_name("probe", task_name)
    counted = "entities" if entity_level else "labels"
    print(
        f"probe: {task_name}: {len(train):,} training and {len(test):,} test examples; F1 of "
        f"{counted}, mean ± standard deviation over {task.seeds} seeds\n"
        f"{format_summary(summary).to_string()}"
    )
    print(f"untrained: learning rate {learning_rate:.3g}, chosen within the training examples")
    for name, description in chosen.items():
        print(f"{name}: {description}")
    if better := better_without_pretraining(summary):
        print(
            f"probe: {task_name}: without pretraining, {' and '.join(better)} had an F1 at least "
            "as high as the model's; see docs/probe.md"
        )


def _baselines(
    task: ProbeTask, train: list[Example], test: list[Example], entity_level: bool
) -> dict[str, Baseline]:
    """Baselines without a network."""
    if task.kind == "classification":
        return {"bag_of_words": bag_of_words(train, test)}
    return {
        "word_features": word_features(train, test, entity_level),
        "most_frequent_tag": most_frequent_tag(train, test),
    }


if __name__ == "__main__":
    run_stage(main)
