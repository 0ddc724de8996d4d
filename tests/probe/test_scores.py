"""F1 scores against their definitions, conlleval's tables and counts made by hand."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.probe.scores import are_entity_tags, entities, scores

LABELS = st.sampled_from("abc")


@given(pairs=st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_f1_of_labels_equals_its_definition(pairs):
    gold, predictions = zip(*pairs, strict=True)
    result = scores([(x,) for x in gold], [(x,) for x in predictions], entity_level=False)
    expected = {}
    for name in sorted({*gold, *predictions}):
        correct = sum(label == prediction == name for label, prediction in pairs)
        precision = correct / predictions.count(name) if name in predictions else 0
        recall = correct / gold.count(name) if name in gold else 0
        both = precision + recall
        expected[name] = 2 * precision * recall / both if both else 0
    assert result["f1_by_class"] == pytest.approx(expected)
    assert result["f1_macro"] == pytest.approx(sum(expected.values()) / len(expected))
    accuracy = sum(label == prediction for label, prediction in pairs) / len(pairs)
    assert result["accuracy"] == result["f1_micro"] == pytest.approx(accuracy)


def conlleval(tags: list[str]) -> set[tuple[str, int, int]]:
    """Entities by the two tables of the shared tasks' script: where one ends, where one starts."""
    ends = {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")}
    starts = {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")}
    parts = [(tag[0], tag[2:]) for tag in tags]
    found, start = set(), None
    previous, previous_kind = "O", ""
    for index, (letter, kind) in enumerate([*parts, ("O", "")]):
        changes = previous_kind != kind
        if start is not None and ((previous, letter) in ends or (previous != "O" and changes)):
            found.add((previous_kind, start, index - 1))
            start = None
        if (previous, letter) in starts or (letter != "O" and changes):
            start = index
        previous, previous_kind = letter, kind
    return found


BIO = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=9)


@given(sentences=st.lists(st.tuples(BIO, BIO), min_size=1, max_size=4))
def test_entities_equal_those_of_conlleval(sentences):
    pairs = [(one[: len(two)], two[: len(one)]) for one, two in sentences]
    gold, predictions = zip(*pairs, strict=True)
    for tags in chain(gold, predictions):
        assert set(entities(tags)) == conlleval(tags)
    actual = Counter(kind for tags in gold for kind, _, _ in conlleval(tags))
    predicted = Counter(kind for tags in predictions for kind, _, _ in conlleval(tags))
    correct = Counter(kind for x, y in pairs for kind, _, _ in conlleval(x) & conlleval(y))
    precision = correct.total() / predicted.total() if predicted else 0
    recall = correct.total() / actual.total() if actual else 0
    both = precision + recall
    result = scores(gold, predictions, entity_level=True)
    assert result["f1_micro"] == pytest.approx(2 * precision * recall / both if both else 0)
    assert set(result["f1_by_class"]) == {*actual, *predicted}


def test_entities_counted_by_hand():
    gold = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-ORG", "I-ORG"]
    predictions = ["B-PER", "I-PER", "O", "B-ORG", "O", "B-ORG", "O"]
    # One of three is correct: the second prediction has another type, the third another end.
    result = scores([gold], [predictions], entity_level=True)
    assert result["f1_micro"] == pytest.approx(1 / 3)
    # PER 1; ORG 0 (two predicted, one actual); LOC 0.
    assert result["f1_macro"] == pytest.approx(1 / 3)
    assert result["accuracy"] == pytest.approx(5 / 7)
    assert list(entities(["S-X", "B-X", "E-X", "I-X", "O", "E-X", "I-Y"])) == [
        ("X", 0, 0),
        ("X", 1, 2),
        ("X", 3, 3),
        ("X", 5, 5),
        ("Y", 6, 6),
    ]
    assert are_entity_tags(["O", "B-PER", "S-x-y"]) and are_entity_tags("BIO")
    assert not are_entity_tags(["O"]) and not are_entity_tags(["NOUN", "O"])
