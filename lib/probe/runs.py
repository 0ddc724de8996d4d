"""Fine-tuning runs of several models on one task; choice of the learning rate of new weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from lib.model.encoder_config import EncoderConfig
from lib.model.initialization import initial_values
from lib.params import ProbeTask
from lib.probe.comparison import Run
from lib.probe.fine_tuning import FineTuner
from lib.probe.scores import Labels, scores, selection_score
from lib.probe.sequences import LabelledSequence, batch_count
from lib.run.errors import UserError
from lib.run.progress import Progress

# Multiples of the task's rate, which is one for pretrained models: random weights need more.
FACTORS = (1.0, 3.0, 10.0, 30.0, 1 / 3)
_SEED = 1


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

    The model `untrained` gets the learning rate that suits it, chosen by the folds of the training
    examples.

    Returns:
        The runs, and that learning rate.
    """
    runs: list[Run] = []
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
            if name == "untrained":
                learning_rate = choose_learning_rate(
                    tuner,
                    model.initial_weights(1),
                    model.train,
                    labels.train,
                    folds,
                    rates,
                    labels.entity_level,
                    progress.advance,
                )
            for seed in range(1, task.seeds + 1):
                rate = learning_rate if name == "untrained" else task.learning_rate
                sequences = list(chain(*model.train))
                weights = model.initial_weights(seed)
                loss = tuner.train(weights, sequences, seed, progress.advance, rate)
                predictions = tuner.predict_examples(model.test)
                result = scores(labels.test, predictions, labels.entity_level)
                runs.append({"model": name, "seed": seed, **result, "train_loss": loss})
    return runs, learning_rate


def _steps(examples: Sequence[Sequence[LabelledSequence]], task: ProbeTask) -> int:
    """Steps of one fine-tuning run."""
    return task.epochs * batch_count(sum(map(len, examples)), task.batch_size)


def choose_learning_rate(
    tuner: FineTuner,
    weights: Mapping[str, np.ndarray],
    examples: Sequence[Sequence[LabelledSequence]],
    gold: Labels,
    folds: np.ndarray,
    rates: Sequence[float],
    entity_level: bool,
    on_step: Callable[[], None],
) -> float:
    """The rate with the best macro F1 on the first fold, by one run for each on the other folds.

    Of rates with the same F1 and accuracy, the first one; a UserError if no loss is finite.

    Args:
        weights: of the network, before fine-tuning.
        examples, gold, folds: sequences, labels and fold of each training example.
    """
    held_out = np.flatnonzero(folds == 0).tolist()
    rest = [sequence for index in np.flatnonzero(folds).tolist() for sequence in examples[index]]
    if not rest:
        return rates[0]
    best, best_score = rates[0], (-1.0, -1.0)
    failure: UserError | None = None
    for rate in rates:
        try:
            tuner.train(weights, rest, _SEED, on_step, rate)
        except UserError as error:
            failure = error
            continue
        predicted = tuner.predict_examples([examples[index] for index in held_out])
        score = selection_score([gold[index] for index in held_out], predicted, entity_level)
        if score > best_score:
            best, best_score = rate, score
    if failure and best_score[0] < 0:
        raise failure
    return best
