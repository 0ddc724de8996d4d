"""Baselines without a network: they win where words decide, and cannot where their order does."""

import random

import pytest

from lib.probe import linear
from lib.probe.labelled import Example
from lib.probe.linear import bag_of_words, most_frequent_tag, word_features
from lib.probe.scores import scores

FILLERS = [f"filler{number}" for number in range(30)]


def texts_with_keywords(count: int, seed: int) -> list[Example]:
    """Twelve keywords per class, one in each text: too few examples to learn more than words."""
    draw, examples = random.Random(seed), []
    for _ in range(count):
        label = draw.randrange(3)
        words = [*draw.choices(FILLERS, k=8), f"key{label}x{draw.randrange(12)}"]
        draw.shuffle(words)
        examples.append(Example((" ".join(words),), (f"class {label}",)))
    return examples


def texts_of_two_orders(count: int, seed: int) -> list[Example]:
    """Every text has `first` and `second`, with two words or more between; their order decides."""
    draw, examples = random.Random(seed), []
    for _ in range(count):
        ends = ["first", "second"] if draw.random() < 0.5 else ["second", "first"]
        words = [ends[0], *draw.choices(FILLERS, k=draw.randint(2, 4)), ends[1]]
        around = draw.choices(FILLERS, k=4)
        words = [*around[:2], *words, *around[2:]]
        examples.append(Example((" ".join(words),), (ends[0],)))
    return examples


def macro_f1(examples: list[Example], predictions: list[tuple[str, ...]]) -> float:
    return scores([example.labels for example in examples], predictions, False)["f1_macro"]


def test_words_that_decide_are_found():
    train, test = texts_with_keywords(150, 1), texts_with_keywords(100, 2)
    baseline = bag_of_words(train, test)
    assert macro_f1(test, baseline.predictions) > 0.98
    # Nothing is random, and the labels of the test examples play no part.
    shuffled = [Example(each.words, ("class 0",)) for each in test]
    assert bag_of_words(train, shuffled) == baseline


def test_the_order_of_words_is_not_seen():
    train, test = texts_of_two_orders(160, 1), texts_of_two_orders(200, 2)
    # 0.15 is more than four standard deviations of 200 guesses.
    assert macro_f1(test, bag_of_words(train, test).predictions) < 0.65


@pytest.mark.parametrize(
    "examples",
    [
        [("same", "a"), ("same", "b")],
        [("", "a"), ("", "a"), ("", "b")],
        [("one", "a"), ("two", "b")],
        [("x y", "a")] * 9 + [("z", "b")],
        [("🎉 !", "a"), ("中文 文本", "b"), ("ünï", "c")],
    ],
)
def test_few_and_odd_examples_get_a_prediction(examples):
    train = [Example((text,), (label,)) for text, label in examples]
    predictions = bag_of_words(train, [*train, Example(("unknown",), ("other",))]).predictions
    assert len(predictions) == len(train) + 1
    assert {label for each in predictions for label in each} <= {label for _, label in examples}


def test_many_classes_and_features_are_limited(monkeypatch):
    """With few labels to choose by, and only the most frequent features, keywords still decide."""
    monkeypatch.setattr(linear, "_TUNING_LABELS_TIMES_CLASSES", 150)
    monkeypatch.setattr(linear, "_MIN_TUNING_LABELS", 40)
    monkeypatch.setattr(linear, "_MAX_WEIGHTS", 3 * 80)
    train, test = texts_with_keywords(240, 1), texts_with_keywords(120, 2)
    # 66 words: the keywords are among the 80 most frequent if features are single words.
    assert macro_f1(test, bag_of_words(train, test).predictions) > 0.9


def sentence(text: str) -> Example:
    words, tags = zip(*(item.split("/") for item in text.split()), strict=True)
    return Example(words, tags)


def test_the_most_frequent_tag_by_hand():
    train = [
        sentence("run/NOUN run/VERB run/VERB fast/ADV"),
        sentence("The/DET the/DET tie/B tie/A Bank/NOUN"),
    ]
    test = [sentence("run/x fast/x Run/x tie/x THE/x new/x")]
    (predicted,) = most_frequent_tag(train, test).predictions
    # `Run` and `THE` by their lower-case forms; of two equal counts, the first tag by name; `new`
    # as the words that occur once: an adverb, a noun and two determiners.
    assert predicted == ("VERB", "ADV", "VERB", "A", "DET", "DET")


def test_neighbours_decide_about_tags():
    """A name is a place after `in`, else a person; the name does not tell."""
    draw = random.Random(1)

    def make(count: int) -> list[Example]:
        examples = []
        for _ in range(count):
            name = draw.choice(["Lincoln", "Paris", "Sydney", "Austin"])
            place = draw.random() < 0.5
            tagged = (
                f"we/O met/O {'in/O' if place else 'with/O'} {name}/{'B-LOC' if place else 'B-PER'}"
            )
            examples.append(sentence(f"{tagged} {draw.choice(['today/O', 'again/O'])}"))
        return examples

    train, test = make(60), make(40)
    predicted = word_features(train, test, entity_level=True).predictions
    assert predicted == [example.labels for example in test]
    assert macro_f1(test, most_frequent_tag(train, test).predictions) < 0.9
