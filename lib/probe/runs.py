"""Fine-tuning runs of several models on one task, with progress."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.params import ProbeTask
from lib.probe.comparison import Run
from lib.probe.fine_tuning import FineTuner
from lib.probe.learning_rate import FACTORS, choose_learning_rate
from lib.probe.scores import Labels, scores
from lib.probe.sequences import LabelledSequence, batch_count
from lib.run.progress import Progress


@dataclass(frozen=True)
class ComparedModel:
    """A model to fine-tune, with the task's examples tokenized for it.

    Attributes:
        weights: float32 arrays by the names of the parameter table. Missing ones (all, for a model
            without pretraining) are drawn for each seed.
        train, test: the sequences of each example.
    """

    config: EncoderConfig
    weights: Mapping[str, np.ndarray]
    pad_id: int
    train: Sequence[Sequence[LabelledSequence]]
    test: Sequence[Sequence[LabelledSequence]]

    def initial_weights(self, seed: int) -> dict[str, np.ndarray]:
        return {**self.weights, **initial_values(self.config, seed, without=self.weights)}


@dataclass(frozen=True)
class TaskLabels:
    """Labels of a task.

    Attributes:
        classes: those of the training examples, sorted.
        train, test: of each example.
        entity_level: whether they mark entities.
    """

    classes: Sequence[str]
    train: Labels
    test: Labels
    entity_level: bool


def fine_tune(
    task_name: str,
    task: ProbeTask,
    models: Mapping[str, ComparedModel],
    labels: TaskLabels,
    folds: np.ndarray,
) -> tuple[list[Run], float]:
    """Fine-tunes every model once per seed and scores its predictions on the test examples.

    Args:
        models: by name; `untrained` gets the learning rate that suits it.
        folds: the fold of each training example.

    Returns:
        The runs, and the learning rate chosen for the model without pretraining.
    """
    runs = []
    steps = task.seeds * sum(_steps(model.train, task) for model in models.values())
    rest = [models["untrained"].train[index] for index in np.flatnonzero(folds).tolist()]
    rates = [factor * task.learning_rate for factor in FACTORS]
    steps += len(rates) * _steps(rest, task)
    learning_rate = task.learning_rate
    tuners: dict[tuple[EncoderConfig, int], FineTuner] = {}
    with Progress(f"probe {task_name}", steps, "steps") as progress:
        for name, model in models.items():
            # Models of the same config share the graphs compiled for the first of them.
            key = model.config, model.pad_id
            if key not in tuners:
                tuners[key] = FineTuner(model.config, task, labels.classes, model.pad_id)
            tuner = tuners[key]

            def on_step() -> None:
                progress.advance()

            if name == "untrained":
                learning_rate = choose_learning_rate(
                    tuner,
                    model.initial_weights(1),
                    model.train,
                    labels.train,
                    folds,
                    rates,
                    labels.entity_level,
                    on_step,
                )
            for seed in range(1, task.seeds + 1):
                rate = learning_rate if name == "untrained" else task.learning_rate
                sequences = list(chain(*model.train))
                loss = tuner.train(model.initial_weights(seed), sequences, seed, on_step, rate)
                predictions = tuner.predict_examples(model.test)
                result = scores(labels.test, predictions, labels.entity_level)
                runs.append(Run(name, seed, {**result, "train_loss": loss}))
    return runs, learning_rate


def _steps(examples: Sequence[Sequence[LabelledSequence]], task: ProbeTask) -> int:
    """Steps of one fine-tuning run."""
    return task.epochs * batch_count(sum(map(len, examples)), task.batch_size)
