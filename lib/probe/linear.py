"""Baselines without a network: linear models of words, and each word's most frequent tag.

A text's class is predicted from the words and n-grams in it (bag of words), a word's tag from its
spelling and its neighbours. Models and features are chosen by cross-validation within the training
examples, with the score by which models are compared, and then fitted to all training examples.
Estimators and features are scikit-learn's. The same examples give the same predictions, with any
number of cores.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby, islice, pairwise
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from lib.probe.labelled import Example
from lib.probe.scores import selection_score
from lib.probe.task_data import assign_folds

# Time and memory grow with the number of classes. The choice is made with so many labels (texts or
# words) times classes, but with a number of labels between the other two; and with so many
# weights at most: of the features, the most frequent ones stay.
_TUNING_LABELS_TIMES_CLASSES, _MIN_TUNING_LABELS, _MAX_TUNING_LABELS = 40_000, 2_000, 10_000
_MAX_WEIGHTS = 2_000_000
# Inverse strength of the L2 penalty of logistic regression; pseudocounts of naive Bayes.
_PENALTIES, _SMOOTHINGS = (0.1, 1.0, 10.0, 100.0), (0.01, 0.1, 1.0)
_MAX_ITERATIONS = 1000
# Words as in most scripts, and every other character (punctuation, emoji) for itself.
_TOKEN = re.compile(r"\w+|[^\w\s]")
_CHARACTER_NGRAMS = (2, 5)
_AFFIX_LENGTHS = (1, 2, 3, 4)

Item = tuple[tuple[str, ...], int]
"""What has a label: the words of an example, and which of them (0 for a text)."""


@dataclass(frozen=True)
class Baseline:
    """Predictions of a baseline.

    Attributes:
        predictions: the labels of each test example.
        description: the estimator and features that were chosen, for people.
    """

    predictions: list[tuple[str, ...]]
    description: str


@dataclass(frozen=True)
class _Candidate:
    """An estimator on one kind of features.

    Attributes:
        features: the features of an item, with repetitions.
    """

    name: str
    features: Callable[[Item], Iterable[str]]
    estimator: Callable[[], Any]


def bag_of_words(train: Sequence[Example], test: Sequence[Example]) -> Baseline:
    """The best of naive Bayes and logistic regression, on words and n-grams of texts.

    The order of words only counts within pairs of adjacent words.
    """
    kinds = (
        ("words", _words),
        ("words and word pairs", _words_and_pairs),
        ("words, word pairs and character n-grams", _all_ngrams),
    )
    candidates = [
        _Candidate(f"{name} on {kind}", features, estimator)
        for kind, features in kinds
        for name, estimator in (*_naive_bayes(), *_logistic_regressions(TfidfTransformer))
    ]
    return _best(candidates, train, test, entity_level=False)


def word_features(
    train: Sequence[Example], test: Sequence[Example], entity_level: bool
) -> Baseline:
    """Logistic regression on the spelling of a word, and on its neighbours up to two words away.

    Each word's tag is predicted for itself, without the tags of its neighbours.
    """
    candidates = [
        _Candidate(f"{name} on words, affixes, shapes and neighbours", _word_features, estimator)
        for name, estimator in _logistic_regressions()
    ]
    return _best(candidates, train, test, entity_level)


def most_frequent_tag(train: Sequence[Example], test: Sequence[Example]) -> Baseline:
    """The most frequent tag of each word in the training examples.

    A word that does not occur there gets the tag of its lower-case form, or else the most frequent
    tag of the words that occur once.
    """
    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    by_lower: dict[str, Counter[str]] = defaultdict(Counter)
    for example in train:
        for word, label in zip(example.words, example.labels, strict=True):
            by_word[word][label] += 1
            by_lower[word.lower()][label] += 1
    once = Counter(chain(*(tags for tags in by_word.values() if tags.total() == 1)))
    other = _most_common(once or Counter(chain(*(example.labels for example in train))))

    def tag(word: str) -> str:
        counts = by_word.get(word) or by_lower.get(word.lower())
        return _most_common(counts) if counts else other

    predictions = [tuple(map(tag, example.words)) for example in test]
    return Baseline(predictions, "the most frequent tag of each word")


def _most_common(counts: Counter[str]) -> str:
    """The most frequent; of several, the first by name."""
    return min(counts, key=lambda label: (-counts[label], label))


def _naive_bayes() -> Iterator[tuple[str, Callable[[], Any]]]:
    for value in _SMOOTHINGS:
        yield f"naive Bayes (alpha {value:g})", partial(MultinomialNB, alpha=value)


def _logistic_regressions(
    *transformers: Callable[..., Any],
) -> Iterator[tuple[str, Callable[[], Any]]]:
    def make(penalty: float) -> Any:
        steps = [transformer(sublinear_tf=True) for transformer in transformers]
        # One model per class: on tens of thousands of sparse features the dual problem of each is
        # solved in a tenth of the time of one model of all classes.
        binary = LogisticRegression(
            solver="liblinear", dual=True, C=penalty, max_iter=_MAX_ITERATIONS, random_state=1
        )
        return make_pipeline(*steps, OneVsRestClassifier(binary))

    for value in _PENALTIES:
        yield f"logistic regression (C {value:g})", partial(make, value)


def _words(item: Item) -> list[str]:
    """The lower-case words of a text, and its punctuation."""
    return _TOKEN.findall(item[0][0].lower())


def _words_and_pairs(item: Item) -> list[str]:
    words = _words(item)
    return [*words, *map(" ".join, pairwise(words))]


def _all_ngrams(item: Item) -> Iterator[str]:
    """Also character n-grams of words with their ends marked: of ` no `, 2 to 4 characters."""
    yield from _words_and_pairs(item)
    low, high = _CHARACTER_NGRAMS
    for word in item[0][0].lower().split():
        marked = f" {word} "
        for size in range(low, min(high, len(marked)) + 1):
            for start in range(len(marked) - size + 1):
                # No word or pair of words begins with a tab.
                yield "\t" + marked[start : start + size]


def _word_features(item: Item) -> Iterator[str]:
    words, number = item
    word = words[number]
    yield f"word={word}"
    for size in _AFFIX_LENGTHS:
        yield f"prefix={word[:size].lower()}"
        yield f"suffix={word[-size:].lower()}"
    for offset in (-2, -1, 0, 1, 2):
        position = number + offset
        # Beyond the ends of a sentence are empty words.
        other = words[position] if 0 <= position < len(words) else ""
        yield f"lower[{offset}]={other.lower()}"
        yield f"shape[{offset}]={_shape(other)}"


def _shape(word: str) -> str:
    """The kinds of characters, runs of one kind once: McDonald's -> XxXx-x, 1,234 -> 0-0."""
    kinds = (
        "X" if letter.isupper() else "0" if letter.isdigit() else "x" if letter.isalpha() else "-"
        for letter in word
    )
    return "".join(kind for kind, _ in groupby(kinds))


def _best(
    candidates: Sequence[_Candidate],
    train: Sequence[Example],
    test: Sequence[Example],
    entity_level: bool,
) -> Baseline:
    """Predictions of the candidate that is best in cross-validation, fitted to all of `train`."""
    classes = len({label for example in train for label in example.labels})
    limit = max(_TUNING_LABELS_TIMES_CLASSES // classes, _MIN_TUNING_LABELS)
    labels = sum(len(example.labels) for example in train)
    tuning = train[:: -(-labels // min(limit, _MAX_TUNING_LABELS))]
    folds = assign_folds(tuning)
    folds_of_items = np.repeat(folds, [len(example.labels) for example in tuning])
    gold = [example.labels for example in tuning]
    best, best_score = candidates[0], (-1.0, -1.0)
    with threadpool_limits(1), warnings.catch_warnings():
        # A fit that has not converged is a candidate like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for features, group in groupby(candidates, key=lambda candidate: candidate.features):
            counts = _vectorizer(features).fit_transform(_items(tuning))
            counts = counts[:, _most_frequent(counts, _MAX_WEIGHTS // classes)]
            for candidate in group:
                predicted = _cross_validate(candidate, counts, _labels(tuning), folds_of_items)
                score = selection_score(gold, _by_example(predicted, tuning), entity_level)
                if score > best_score:
                    best, best_score = candidate, score
        vectorizer = _vectorizer(best.features)
        counts = vectorizer.fit_transform(_items(train))
        columns = _most_frequent(counts, _MAX_WEIGHTS // classes)
        test_counts = vectorizer.transform(_items(test))[:, columns]
        predicted = _fit_and_predict(best, counts[:, columns], _labels(train), test_counts)
    return Baseline(_by_example(predicted, test), best.name)


def _items(examples: Sequence[Example]) -> Iterator[Item]:
    return ((example.words, n) for example in examples for n in range(len(example.labels)))


def _labels(examples: Sequence[Example]) -> np.ndarray:
    return np.array([label for example in examples for label in example.labels], dtype=object)


def _by_example(predicted: np.ndarray, examples: Sequence[Example]) -> list[tuple[str, ...]]:
    labels = iter(predicted.tolist())
    return [tuple(islice(labels, len(example.labels))) for example in examples]


def _vectorizer(features: Callable[[Item], Iterable[str]]) -> CountVectorizer:
    """Counts of features: items -> sparse float64 [items, distinct features]."""
    # A text may be empty after cleaning; if all were, there would be no feature to learn from.
    return CountVectorizer(analyzer=lambda item: list(features(item)) or [""], dtype=np.float64)


def _most_frequent(counts: Any, limit: int) -> np.ndarray:
    """The columns of the most frequent features; of equally frequent ones, the first."""
    totals = np.asarray(counts.sum(axis=0)).ravel()
    return np.sort(np.argsort(-totals, kind="stable")[:limit])


def _cross_validate(
    candidate: _Candidate, counts: Any, labels: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """The prediction for each item by a model fitted to the other folds."""
    predicted = labels.copy()
    for fold in np.unique(folds):
        inside = folds == fold
        if not inside.all():
            predicted[inside] = _fit_and_predict(
                candidate, counts[~inside], labels[~inside], counts[inside]
            )
    return predicted


def _fit_and_predict(
    candidate: _Candidate, counts: Any, labels: np.ndarray, test_counts: Any
) -> np.ndarray:
    """Predictions for `test_counts`; features that the others lack are left out."""
    if len(set(labels)) == 1:
        return np.full(test_counts.shape[0], labels[0], dtype=object)
    used = counts.getnnz(axis=0) > 0
    fitted = candidate.estimator().fit(counts[:, used], labels)
    return np.asarray(fitted.predict(test_counts[:, used]))
