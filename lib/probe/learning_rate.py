"""Choice of a network's learning rate on a held-out part of the training examples."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lib.probe.fine_tuning import FineTuner
from lib.probe.scores import Labels, selection_score
from lib.probe.sequences import LabelledSequence
from lib.run.errors import UserError

# Multiples of the task's rate, which is one for pretrained models: random weights need more.
FACTORS = (1.0, 3.0, 10.0, 30.0, 1 / 3)
_SEED = 1


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

    Of rates with the same F1 and accuracy, the first one.

    Args:
        weights: of the network, before fine-tuning.
        examples, gold: sequences and labels of each training example.
        folds: the fold of each (see `lib.probe.task_data.assign_folds`).

    Raises:
        UserError: with none of the rates is the loss finite.
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
