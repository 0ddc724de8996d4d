"""The choice of a learning rate, with a stand-in for fine-tuning."""

import numpy as np
import pytest

from lib.probe.labelled import Example
from lib.probe.runs import choose_learning_rate
from lib.probe.sequences import LabelledSequence
from lib.probe.task_data import assign_folds
from lib.run.errors import UserError

EXAMPLES = [
    [LabelledSequence(np.array([number]), np.zeros(1, np.int32), ("ab"[number % 2],))]
    for number in range(20)
]
GOLD = [sequences[0].labels for sequences in EXAMPLES]
FOLDS = np.arange(20) // 2 % 5


class Tuner:
    """Predicts right only with one learning rate; from 10 on its loss is not finite."""

    def __init__(self, right: float) -> None:
        self.right, self.rate, self.trained, self.predicted = right, 0.0, [], []

    def train(self, weights, sequences, seed, on_step, learning_rate):
        if learning_rate >= 10:
            raise UserError(f"not a number with {learning_rate}")
        self.rate = learning_rate
        self.trained += [int(sequence.ids[0]) for sequence in sequences]
        on_step()

    def predict_examples(self, examples):
        self.predicted += [int(sequences[0].ids[0]) for sequences in examples]
        return [each[0].labels if self.rate == self.right else ("a",) for each in examples]


def choose(tuner: Tuner, rates: list[float]) -> float:
    return choose_learning_rate(tuner, {}, EXAMPLES, GOLD, FOLDS, rates, False, lambda: None)


@pytest.mark.parametrize(
    ("right", "rates", "chosen"),
    [(3.0, [1.0, 3.0, 30.0], 3.0), (0.0, [1.0, 3.0], 1.0), (2.0, [30.0, 1.0, 2.0], 2.0)],
)
def test_the_best_rate_on_examples_not_trained_on(right, rates, chosen):
    tuner = Tuner(right)
    assert choose(tuner, rates) == chosen
    assert set(tuner.predicted) == set(np.flatnonzero(FOLDS == 0).tolist())
    assert set(tuner.trained) == set(range(20)) - set(tuner.predicted)


def test_if_no_rate_gives_a_finite_loss_that_is_the_error():
    with pytest.raises(UserError, match="not a number with 30"):
        choose(Tuner(1.0), [10.0, 30.0])


def test_folds_are_even_in_every_class_and_keep_equal_texts_together():
    texts = [(f"text {number // 2}", f"class {number // 2 % 3}") for number in range(120)]
    examples = [Example((text,), (label,)) for text, label in texts]
    folds = assign_folds(examples)
    for label in ("class 0", "class 1", "class 2"):
        own = [fold for fold, (_, name) in zip(folds, texts, strict=True) if name == label]
        assert np.bincount(own).tolist() == [8] * 5
    assert len({(text, fold) for (text, _), fold in zip(texts, folds, strict=True)}) == 60
    # Not a matter of order.
    assert assign_folds(examples[::-1]).tolist() == folds[::-1].tolist()
