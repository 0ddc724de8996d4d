"""Fine-tuning: it learns what can be learnt, and always the same."""

import random
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from lib.model.initialization import initial_values
from lib.model.modernbert_config import ModernBertConfig
from lib.probe.fine_tuning import FineTuner
from lib.probe.labelled import Example
from lib.probe.linear import bag_of_words
from lib.probe.runs import choose_learning_rate
from lib.probe.scores import scores
from lib.probe.sequences import sentence_sequences, text_sequences
from lib.probe.task_data import assign_folds
from lib.run.errors import UserError
from tests.helpers.labelled import CLASSIFICATION, CONFIG, TAGGING, TOKENIZER, learnable_examples

MODERNBERT = ModernBertConfig(
    vocab_size=CONFIG.vocab_size,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    mlp_dropout=0.1,
    classifier_dropout=0.1,
    local_attention=4,
    max_position_embeddings=16,
    initializer_range=0.1,
)
MEAN = CLASSIFICATION.model_copy(update={"pooling": "mean"})


@pytest.mark.parametrize(
    ("task", "config"),
    [
        (CLASSIFICATION, CONFIG),
        pytest.param(TAGGING, CONFIG, marks=pytest.mark.slow),
        pytest.param(MEAN, MODERNBERT, marks=pytest.mark.slow),
        pytest.param(TAGGING, MODERNBERT, marks=pytest.mark.slow),
    ],
    ids=lambda each: getattr(each, "kind", None) or each.architecture,
)
def test_learnable_tasks_are_learnt_deterministically(task, config):
    train, test = learnable_examples(task.kind, 160, 1), learnable_examples(task.kind, 60, 2)
    if task.kind == "tagging":
        sequences, test_sequences = (
            list(chain(*sentence_sequences(x, TOKENIZER, 16))) for x in (train, test)
        )
    else:
        sequences, test_sequences = (text_sequences(x, TOKENIZER, 16) for x in (train, test))
    classes = sorted({label for example in train for label in example.labels})
    tuner = FineTuner(config, task, classes, TOKENIZER.pad_id)
    weights, calls = initial_values(config, 1), []
    gold = [sequence.labels for sequence in test_sequences]
    losses = [tuner.train(weights, sequences, 1, lambda: calls.append(1))]
    predictions = tuner.predict(test_sequences)
    result = scores(gold, predictions, entity_level=task.kind == "tagging")
    assert result["f1_macro"] > 0.95 and losses[0] < 0.3
    assert len(calls) == 6 * 20
    # A run leaves no trace in the next one, and another seed gives another loss.
    losses += [tuner.train(weights, sequences, seed, lambda: None) for seed in (2, 1)]
    assert losses[0] == losses[2] != losses[1]
    again = FineTuner(config, task, classes, TOKENIZER.pad_id)
    assert again.train(weights, sequences, 1, lambda: None) == losses[0]
    assert again.predict(test_sequences) == predictions


def test_a_loss_that_is_not_finite_stops_the_run():
    task = CLASSIFICATION.model_copy(update={"learning_rate": 1e30})
    sequences = text_sequences(learnable_examples("classification", 32, 1), TOKENIZER, 16)
    tuner = FineTuner(replace(CONFIG, initializer_range=0.9), task, ["blue", "green", "red"], 0)
    weights = {name: array * np.float32(1e30) for name, array in initial_values(CONFIG, 1).items()}
    with pytest.raises(UserError, match="not a number in epoch 1; lower the task's learning_rate"):
        tuner.train(weights, sequences, 1, lambda: None)


@pytest.mark.slow
def test_a_network_learns_an_order_that_bag_of_words_cannot():
    """Texts with `red` before `blue` or after it, with two other words or more between them."""

    def make(count: int, seed: int) -> list[Example]:
        draw, examples = random.Random(seed), []
        for _ in range(count):
            ends = ["red", "blue"] if draw.random() < 0.5 else ["blue", "red"]
            others = draw.choices(["big", "small", "house", "tree", "in", "the"], k=6)
            between = draw.randint(2, 4)
            words = [others[0], ends[0], *others[1 : 1 + between], ends[1], *others[1 + between :]]
            examples.append(Example((" ".join(words),), (ends[0],)))
        return examples

    train, test = make(400, 1), make(200, 2)
    task = CLASSIFICATION.model_copy(update={"epochs": 12})
    tuner = FineTuner(CONFIG, task, ["blue", "red"], TOKENIZER.pad_id)
    sequences, test_sequences = (
        [[each] for each in text_sequences(part, TOKENIZER, 16)] for part in (train, test)
    )
    labels, gold = ([example.labels for example in part] for part in (train, test))
    weights = initial_values(CONFIG, 1)
    # As for a pretrained model: far too low a rate for random weights.
    rates = [1e-4 * factor for factor in (1.0, 10.0, 100.0)]
    rate = choose_learning_rate(
        tuner, weights, sequences, labels, assign_folds(train), rates, False, lambda: None
    )
    f1 = {}
    for each in (rates[0], rate):
        tuner.train(weights, list(chain(*sequences)), 1, lambda: None, each)
        f1[each] = scores(gold, tuner.predict_examples(test_sequences), False)["f1_macro"]
    assert f1[rate] > 0.95 and f1[rates[0]] < 0.8
    assert scores(gold, bag_of_words(train, test).predictions, False)["f1_macro"] < 0.65
