"""F1 scores of classes, of tags, and of entities as the CoNLL shared tasks count them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

_ENTITY_TAG = re.compile(r"O|[BIES](-.+)?")
Labels = Sequence[Sequence[str]]
"""Labels of each example: one for a text, one per word for a sentence."""


def are_entity_tags(tags: Iterable[str]) -> bool:
    """Whether tags mark entities (B-PER, I-PER, O), as opposed to properties of single words."""
    distinct = set(tags)
    return distinct != {"O"} and all(map(_ENTITY_TAG.fullmatch, distinct))


def entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The entities of a sentence as (type, first word, last word).

        B-PER I-PER O B-LOC   ->  (PER, 0, 1), (LOC, 3, 3)
        I-PER I-LOC           ->  (PER, 0, 0), (LOC, 1, 1)

    The rule is that of `conlleval`, the script of the CoNLL shared tasks, extended by E (end) and S
    (single) of the BIOES scheme. A word continues the previous word's entity if its tag has I or E
    and the same type, and if the entity has not ended (with O, E or S). Any other tag but O begins
    a new entity, whatever its letter. The older scheme, in which B only separates adjacent entities
    of the same type, is therefore read correctly too.
    """
    current: tuple[str, int] | None = None
    previous_letter, previous_kind = "O", ""
    for index, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        continues = letter in "IE" and previous_letter in "BI" and kind == previous_kind
        if current and not continues:
            yield current[0], current[1], index - 1
            current = None
        if letter != "O" and not continues:
            current = (kind, index)
        previous_letter, previous_kind = letter, kind


def scores(gold: Labels, predictions: Labels, entity_level: bool) -> dict[str, Any]:
    """Scores of a model's predictions.

    Args:
        entity_level: count entities, each correct only if its type and both its ends are. Then
            `f1_micro` is what `conlleval` calls FB1. Otherwise count labels.

    Returns:
        `f1_macro`: unweighted mean of the F1 of all classes that occur in `gold` or `predictions`;
        `f1_micro`: F1 of all items together, which for labels equals their accuracy;
        `accuracy`: of labels;
        `f1_by_class`: F1 of each class, sorted by name.
    """
    actual, predicted = (set(_items(labels, entity_level)) for labels in (gold, predictions))
    actual_counts, predicted_counts, correct_counts = (
        _count_by_class(items) for items in (actual, predicted, actual & predicted)
    )
    f1_by_class = {
        name: _f1(correct_counts[name], predicted_counts[name], actual_counts[name])
        for name in sorted(actual_counts | predicted_counts)
    }
    pairs = list(zip(chain(*gold), chain(*predictions), strict=True))
    return {
        "f1_macro": sum(f1_by_class.values()) / max(len(f1_by_class), 1),
        "f1_micro": _f1(correct_counts.total(), predicted_counts.total(), actual_counts.total()),
        "accuracy": sum(label == prediction for label, prediction in pairs) / max(len(pairs), 1),
        "f1_by_class": f1_by_class,
    }


def selection_score(gold: Labels, predictions: Labels, entity_level: bool) -> tuple[float, float]:
    """What baselines are chosen by: macro F1, which models are compared by; then accuracy."""
    result = scores(gold, predictions, entity_level)
    return result["f1_macro"], result["accuracy"]


def _items(labels: Labels, entity_level: bool) -> Iterator[tuple[str, int, int, int]]:
    """The items that are counted: (class, example, first word, last word)."""
    for example, own in enumerate(labels):
        spans = entities(own) if entity_level else ((label, n, n) for n, label in enumerate(own))
        for name, first, last in spans:
            yield name, example, first, last


def _count_by_class(items: Iterable[tuple[str, int, int, int]]) -> Counter[str]:
    return Counter(item[0] for item in items)


def _f1(correct: int, predicted: int, actual: int) -> float:
    """The harmonic mean of precision (correct / predicted) and recall (correct / actual)."""
    return 2 * correct / (predicted + actual) if predicted + actual else 0.0
