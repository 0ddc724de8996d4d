"""F1 of classes, of tags, and of entities as the CoNLL shared tasks count them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

_ENTITY_TAG = re.compile(r"O|[BIES](-.+)?")
Labels = Sequence[Sequence[str]]
"""Of each example: one label for a text, one a word for a sentence."""


def are_entities(tags: Iterable[str]) -> bool:
    """Whether tags mark entities (B-PER, I-PER, O), rather than say something of each word."""
    found = set(tags)
    return found != {"O"} and all(map(_ENTITY_TAG.fullmatch, found))


def entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """The entities of a sentence: (type, first word, last word).

    The rule of `conlleval`, the script of the CoNLL shared tasks, with E (end) and S (single) of
    the scheme BIOES: a word goes on with the entity of the word before if it is inside (I or E),
    of the same type, and that one has not ended (with O, E or S); else it begins one, whatever its
    letter is. So the older scheme, in which B only parts neighbours of one type, is read as well.
    """
    begun: tuple[str, int] | None = None
    before, kind_before = "O", ""
    for place, tag in enumerate([*tags, "O"]):
        letter, _, kind = tag.partition("-")
        goes_on = letter in "IE" and before in "BI" and kind == kind_before
        if begun and not goes_on:
            yield begun[0], begun[1], place - 1
            begun = None
        if letter != "O" and not goes_on:
            begun = (kind, place)
        before, kind_before = letter, kind


def scores(gold: Labels, answers: Labels, of_entities: bool) -> dict[str, object]:
    """Scores of a model's answers.

    Args:
        of_entities: count entities, each found only if type and both ends are right; `f1_micro` is
            then what `conlleval` calls FB1. Else count labels.

    Returns:
        `f1_macro`: the mean of the F1 of all classes that occur in `gold` or `answers`, each as
        heavy as any other; `f1_micro`: F1 of all items together, for labels the same as their
        accuracy; `accuracy` of labels; `f1_by_class`: F1 of each class, sorted by name.
    """
    real, found = (set(_items(labels, of_entities)) for labels in (gold, answers))
    real_of, found_of, right_of = (_by_class(items) for items in (real, found, real & found))
    of_class = {
        name: _f1(right_of[name], found_of[name], real_of[name])
        for name in sorted(real_of | found_of)
    }
    pairs = list(zip(chain(*gold), chain(*answers), strict=True))
    return {
        "f1_macro": sum(of_class.values()) / max(len(of_class), 1),
        "f1_micro": _f1(right_of.total(), found_of.total(), real_of.total()),
        "accuracy": sum(real == answer for real, answer in pairs) / max(len(pairs), 1),
        "f1_by_class": of_class,
    }


def _items(labels: Labels, of_entities: bool) -> Iterator[tuple[str, int, int, int]]:
    """What is counted: its class, and where it is."""
    for number, row in enumerate(labels):
        spans = entities(row) if of_entities else ((x, n, n) for n, x in enumerate(row))
        for name, first, last in spans:
            yield name, number, first, last


def _by_class(items: Iterable[tuple[str, int, int, int]]) -> Counter[str]:
    return Counter(item[0] for item in items)


def _f1(right: int, found: int, real: int) -> float:
    """The harmonic mean of right / found and right / real."""
    return 2 * right / (found + real) if found + real else 0.0
