"""probe: labelled text and models to compare -> results/probe/<task>, mean F1 over seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from lib.checkpoints.formats import read_checkpoint
from lib.model.config import BertConfig
from lib.model.parameters import initial_values
from lib.params import VOCAB, ProbeTask, load_params
from lib.probe.comparison import Run, as_frame, by_class, summary, table
from lib.probe.fine_tuning import FineTuner
from lib.probe.labelled import Example
from lib.probe.scores import are_entities, scores
from lib.probe.sequences import Row, batch_count, sentence_rows, text_rows
from lib.probe.task_data import read_task
from lib.run.atomic import write_text
from lib.run.errors import UserError
from lib.run.metrics import write_metrics
from lib.run.progress import Progress
from lib.run.stage import run_stage
from lib.text.cleaning.cleaner import DocumentCleaner
from lib.text.cleaning.edits import Cleaning
from lib.vocab.tokenizer import WordPieceTokenizer


@dataclass(frozen=True)
class Start:
    """A model to fine-tune, and the examples in its own pieces.

    Attributes:
        weights: float32 arrays by the names of the parameter table; those that are missing, or all
            of a model without pretraining, are drawn anew for each seed.
        test: the rows of each test example.
    """

    config: BertConfig
    weights: Mapping[str, np.ndarray]
    pad_id: int
    train: Sequence[Row]
    test: Sequence[Sequence[Row]]


def _cleaned(examples: Sequence[Example], clean: Cleaning) -> list[Example]:
    """Texts edited as the corpus was: a model is asked about what it knows."""
    cleaner = DocumentCleaner(clean, "line")
    texts = cleaner([example.words[0].splitlines() for example in examples], Counter())
    return [Example((text,), x.labels) for text, x in zip(texts, examples, strict=True)]


def _read(place: Path, task: ProbeTask, train: list[Example], test: list[Example]) -> Start:
    found = read_checkpoint(place, allow_missing_heads=True)
    tokenizer = WordPieceTokenizer.load(place)
    length, config = task.max_seq_length, found.config
    if length > config.max_position_embeddings:
        raise UserError(
            f"{place}: has {config.max_position_embeddings} positions, but max_seq_length of the "
            f"task is {length}; lower it"
        )
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{place}: {config.vocab_size} rows for {len(tokenizer.vocabulary)} pieces; does this "
            "vocabulary belong to the model?"
        )
    if task.kind == "tagging":
        train_rows = list(chain(*sentence_rows(train, tokenizer, length)))
        test_rows = sentence_rows(test, tokenizer, length)
    else:
        train_rows = text_rows(train, tokenizer, length)
        test_rows = [[row] for row in text_rows(test, tokenizer, length)]
    return Start(config, found.weights, tokenizer.pad_id, train_rows, test_rows)


def main(
    task_name: str = "",
    data: Path | None = None,
    model: Path | None = None,
    baseline: Path | None = None,
) -> None:
    """Fine-tunes models on a labelled task and compares them.

    TASK_NAME is its name in params.yaml, DATA its labelled text (a file or a folder), MODEL the
    folder of the model that the probe is about, BASELINE that of another one (or data/vocab: none).
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
    known = {example.words for example in train}
    metrics = {
        "kind": task.kind,
        "train_examples": len(train),
        "test_examples": len(test),
        "classes": len(classes),
        "test_labels_not_in_training": unseen,
        "test_examples_also_in_training": sum(example.words in known for example in test),
        "seeds": task.seeds,
    }
    of_entities = task.kind == "tagging" and are_entities({*classes, *chain(*gold)})
    if task.kind == "classification":
        train, test = (_cleaned(part, params.preprocess.clean) for part in (train, test))
    starts = {"model": _read(model, task, train, test)}
    if baseline.resolve() != Path(VOCAB).resolve():
        starts["baseline"] = _read(baseline, task, train, test)
    own = starts["model"]
    starts["untrained"] = Start(own.config, {}, own.pad_id, own.train, own.test)
    runs = []
    steps = sum(batch_count(len(start.train), task.batch_size) for start in starts.values())
    tuners: dict[tuple[BertConfig, int], FineTuner] = {}
    with Progress(f"probe {task_name}", steps * task.epochs * task.seeds, "steps") as progress:
        for name, start in starts.items():
            # Models of one shape share what was compiled for the first of them.
            shape = start.config, start.pad_id
            if shape not in tuners:
                tuners[shape] = FineTuner(start.config, task, classes, start.pad_id)
            tuner = tuners[shape]
            for seed in range(1, task.seeds + 1):
                fresh = initial_values(start.config, seed, without=start.weights)
                loss = tuner.train(
                    {**start.weights, **fresh}, start.train, seed, lambda: progress.advance()
                )
                answers = iter(tuner.answers(list(chain(*start.test))))
                by_example = [[*chain(*(next(answers) for _ in rows))] for rows in start.test]
                found = {**scores(gold, by_example, of_entities), "train_loss": loss}
                runs.append(Run(name, seed, found))
    means = summary(runs)
    results = Path("results/probe") / task_name
    for name, frame in (("runs", as_frame(runs)), ("classes", by_class(runs))):
        write_text(results / f"{name}.csv", frame.to_csv(index=False, float_format="%.6g"))
    write_metrics(results / "metrics.json", {**metrics, **means})
    counted = "entities" if of_entities else "labels"
    print(
        f"probe: {task_name}: {len(train):,} training and {len(test):,} test examples; F1 of "
        f"{counted}, mean ± standard deviation of {task.seeds} seeds\n{table(means).to_string()}"
    )


if __name__ == "__main__":
    run_stage(main)
