"""The metrics of held-out text: one table, read by everything that computes or shows a metric.

To add a metric, add an entry to `MLM_METRICS` or `NSP_METRICS`. evaluate then computes it, with its
interval and its baselines; the comparison of models, the report, the model card, the summary and
the table of experiments take it from here. Nothing here imports TensorFlow.

A metric is a quotient of two totals over the test documents, such as the summed loss of all masked
tokens and their number. Totals are kept per document, because intervals are drawn over documents
(`lib.evaluation.sums`).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lib.model.encoder_config import is_number


@dataclass(frozen=True)
class TokenScores:
    """Predictions for masked tokens, reduced to what metrics need; arrays of one shape.

    Attributes:
        losses: float64, -log p(label) in nats.
        higher: int, how many vocabulary entries are more likely than the label.
        equal: int, how many are exactly as likely, the label included.
    """

    losses: np.ndarray
    higher: np.ndarray
    equal: np.ndarray

    def __getitem__(self, index: np.ndarray) -> "TokenScores":
        return TokenScores(self.losses[index], self.higher[index], self.equal[index])

    def in_top(self, k: int) -> np.ndarray:
        """float64: 1 where the label is among the k most likely entries, else 0.

        Entries that are equally likely share the remaining places. For example, k = 5, three
        entries more likely than the label and four as likely as it (itself included): two places
        for four entries, 0.5.
        """
        inside: np.ndarray = np.clip((k - self.higher) / self.equal, 0.0, 1.0)
        return inside


class TokenCountCode:
    """The cost of the number of tokens of a word, by its frequency in training text.

    P(k) = (n_k + 2^-k) / (N + 1) for k = 1, 2, ...: of N words in training text, n_k have k tokens.
    2^-k adds up to 1 over all k, so the probabilities do too, and no k is impossible. With N of
    millions, the k that occur cost practically what their frequency says.
    """

    def __init__(self, words_by_tokens: np.ndarray) -> None:
        """
        Args:
            words_by_tokens: int64 [K]: words of training text that have 1, 2, ... K tokens.
        """
        self._counts = words_by_tokens

    def bits(self, token_counts: np.ndarray) -> np.ndarray:
        """float64 [W]: -log2 P of numbers of tokens, int64 [W], each at least 1."""
        seen = token_counts <= len(self._counts)
        words = np.zeros(len(token_counts))
        words[seen] = self._counts[token_counts[seen] - 1]
        logs = np.log2(words, out=np.full(len(words), -np.inf), where=words > 0)
        # In logarithms: 2^-k is 0 in floating point for k above 1,074.
        bits: np.ndarray = math.log2(self._counts.sum() + 1) - np.logaddexp2(logs, -token_counts)
        return bits


@dataclass(frozen=True)
class MaskedWordScores:
    """W masked words and the predictions for their T tokens.

    Attributes:
        words: int64 [T]: which of the W words a token belongs to.
        tokens: the predictions with all tokens masked, arrays [T].
        characters: int64 [W].
        spelling_bits: float64 [W]: see `lib.evaluation.sequences.spelling_bits`.
        left_to_right: float64 [T]: -log p of each token given those before it in its word, in nats.
        token_count_bits: float64 [W]: see `TokenCountCode`.
    """

    words: np.ndarray
    tokens: TokenScores
    characters: np.ndarray
    spelling_bits: np.ndarray
    left_to_right: np.ndarray
    token_count_bits: np.ndarray

    def per_word(self, values: np.ndarray) -> np.ndarray:
        """Sums [W] over the tokens of each word of values [T]."""
        return np.bincount(self.words, values, len(self.characters))

    def token_counts(self) -> np.ndarray:
        """int64 [W]."""
        return np.bincount(self.words, minlength=len(self.characters))

    def bits(self) -> np.ndarray:
        """float64 [W]: cost of each word in bits, with the spelling of words that are [UNK]."""
        return self.per_word(self.tokens.losses) / math.log(2) + self.spelling_bits

    def code_bits(self) -> np.ndarray:
        """float64 [W]: length of the code of each word, see `lib.evaluation.code_length`."""
        tokens = self.per_word(self.left_to_right) / math.log(2)
        return self.token_count_bits + tokens + self.spelling_bits

    def correct(self) -> np.ndarray:
        """bool [W]: every token is the single most likely one, and none is [UNK]."""
        exact = self.per_word((self.tokens.in_top(1) == 1.0).astype(float))
        found: np.ndarray = (exact == self.token_counts()) & (self.spelling_bits == 0)
        return found


@dataclass(frozen=True)
class PairScores:
    """N sentence pairs and the predictions of the NSP head.

    Attributes:
        labels: int64 [N]: 0 = B follows A in the text, 1 = B is random.
        log_probabilities: float64 [N, 2].
    """

    labels: np.ndarray
    log_probabilities: np.ndarray

    def losses(self) -> np.ndarray:
        """float64 [N], in nats."""
        chosen: np.ndarray = -self.log_probabilities[np.arange(len(self.labels)), self.labels]
        return chosen

    def predicted(self) -> np.ndarray:
        """int64 [N]: the more likely class."""
        best: np.ndarray = self.log_probabilities.argmax(axis=1)
        return best


@dataclass(frozen=True)
class Total:
    """A quantity that is summed over a document.

    Attributes:
        values: from the scores of a batch, one value for each word (MLM) or pair (NSP).
    """

    name: str
    values: Callable[[Any], np.ndarray]


TOKENS = Total("tokens", MaskedWordScores.token_counts)
WORDS = Total("words", lambda scores: np.ones(len(scores.characters)))
CHARACTERS = Total("characters", lambda scores: scores.characters)
UNKNOWN_CHARACTERS = Total(
    "unknown_characters", lambda scores: scores.characters * (scores.spelling_bits > 0)
)
BITS = Total("bits", MaskedWordScores.bits)
CODE_BITS = Total("code_bits", MaskedWordScores.code_bits)
MLM_LOSS = Total("loss", lambda scores: scores.per_word(scores.tokens.losses))
CORRECT_WORDS = Total("correct_words", MaskedWordScores.correct)
PAIRS = Total("pairs", lambda scores: np.ones(len(scores.labels)))
NSP_LOSS = Total("loss", PairScores.losses)
CORRECT_PAIRS = Total(
    "correct_pairs", lambda scores: (scores.predicted() == scores.labels).astype(float)
)
RANDOM_PAIRS = Total("random_pairs", lambda scores: scores.labels.astype(float))


def top_k(k: int) -> Total:
    """Tokens whose label is among the k most likely vocabulary entries."""
    return Total(f"top_{k}", lambda scores: scores.per_word(scores.tokens.in_top(k)))


@dataclass(frozen=True)
class Baseline:
    """A baseline: a simpler predictor that a model is compared with.

    Attributes:
        key: METRIC_KEY is the name of its value in metrics.json.
        label: what it is, as people read it.
    """

    key: str
    label: str


# The same prediction everywhere: how frequent each token is in training text.
UNIGRAM = Baseline("unigram", "unigram baseline")
# The unigram baseline of MLM accuracy, under the name of what it predicts.
TOP_TOKEN = Baseline("top_token", "most frequent token")
MAJORITY = Baseline("majority", "majority-class baseline")
# The model before the first step, where training continued from a model. Any metric may have it.
INITIAL = Baseline("initial", "initial model")
BASELINES = (UNIGRAM, TOP_TOKEN, MAJORITY, INITIAL)


@dataclass(frozen=True)
class Metric:
    """A metric: its texts, how it is summed, and what it is compared with.

    Attributes:
        name: its key in metrics.json.
        label, format: how people read it and its values.
        higher_is_better: None: not known.
        total, per: numerator and denominator.
        transform: an increasing function of the quotient.
        baseline: what one gets without a model.
        interval: whether a 95 % interval is computed.
        headline: shown where there is room for a few metrics only (summary, top of the report).
        any_vocabulary: means the same for every vocabulary: what experiments are compared by.
    """

    name: str
    label: str
    format: str
    higher_is_better: bool | None
    total: Total
    per: Total
    baseline: Baseline | None = None
    transform: Callable[[float], float] | None = None
    interval: bool = True
    headline: bool = False
    any_vocabulary: bool = False

    def value(self, total: float, per: float) -> float:
        """The metric from the two totals."""
        quotient = total / max(per, 1.0)
        return self.transform(quotient) if self.transform else quotient

    def key(self, baseline: Baseline) -> str:
        """The name of a baseline's value in metrics.json."""
        return f"{self.name}_{baseline.key}"

    def direction(self) -> str:
        return {True: "higher is better", False: "lower is better", None: ""}[self.higher_is_better]


# In the order in which they are shown.
MLM_METRICS = (
    Metric(
        "code_length_per_character",
        "code length per character (bits)",
        ".3f",
        False,
        CODE_BITS,
        CHARACTERS,
        UNIGRAM,
        headline=True,
        any_vocabulary=True,
    ),
    Metric(
        "bits_per_character",
        "bits per character",
        ".3f",
        False,
        BITS,
        CHARACTERS,
        UNIGRAM,
        headline=True,
        any_vocabulary=True,
    ),
    Metric("mlm_loss", "MLM loss (nats)", ".3f", False, MLM_LOSS, TOKENS, UNIGRAM, headline=True),
    Metric(
        "mlm_perplexity",
        "MLM perplexity",
        ",.1f",
        False,
        MLM_LOSS,
        TOKENS,
        UNIGRAM,
        transform=math.exp,
        headline=True,
    ),
    Metric("mlm_accuracy", "MLM accuracy", ".1%", True, top_k(1), TOKENS, TOP_TOKEN, headline=True),
    Metric("mlm_accuracy_at_5", "MLM accuracy, top 5", ".1%", True, top_k(5), TOKENS, UNIGRAM),
    Metric(
        "word_accuracy",
        "word accuracy",
        ".1%",
        True,
        CORRECT_WORDS,
        WORDS,
        UNIGRAM,
        any_vocabulary=True,
    ),
    Metric(
        "unknown_character_fraction",
        "characters under [UNK]",
        ".2%",
        False,
        UNKNOWN_CHARACTERS,
        CHARACTERS,
        interval=False,
        headline=True,
        any_vocabulary=True,
    ),
)
NSP_METRICS = (
    Metric("nsp_loss", "NSP loss (nats)", ".3f", False, NSP_LOSS, PAIRS),
    Metric(
        "nsp_accuracy",
        "NSP accuracy",
        ".1%",
        True,
        CORRECT_PAIRS,
        PAIRS,
        MAJORITY,
        headline=True,
        any_vocabulary=True,
    ),
)
METRICS = {metric.name: metric for metric in (*MLM_METRICS, *NSP_METRICS)}


@dataclass(frozen=True)
class Result:
    """One metric of an evaluated model, as metrics.json has it.

    Attributes:
        interval: [low, high], 95 %.
        baselines: their values, in the order of `BASELINES`.
    """

    metric: Metric
    value: float
    interval: tuple[float, float] | None
    baselines: Mapping[Baseline, float]

    def __str__(self) -> str:
        """`MLM loss (nats) 6.139 (baseline 6.060)`."""
        others = ", ".join(
            f"{'initial model' if baseline is INITIAL else 'baseline'} {self.written(value)}"
            for baseline, value in self.baselines.items()
        )
        text = f"{self.metric.label} {self.written(self.value)}"
        return text + (f" ({others})" if others else "")

    @property
    def without_model(self) -> tuple[Baseline, float] | None:
        """The baseline that needs no model, and its value."""
        others = (item for item in self.baselines.items() if item[0] is not INITIAL)
        return next(others, None)

    def written(self, value: float) -> str:
        """A value of this metric as people read it."""
        return format(value, self.metric.format)

    def written_interval(self) -> str:
        """`1.900 to 2.150`; empty if there is none."""
        return " to ".join(map(self.written, self.interval or ()))

    def beats(self, baseline: Baseline) -> bool:
        """Whether the model is strictly better than a baseline."""
        difference = self.value - self.baselines[baseline]
        return difference > 0 if self.metric.higher_is_better else difference < 0


def results_in(values: Mapping[str, Any]) -> tuple[list[Result], dict[str, Any]]:
    """The metrics in a metrics.json of evaluate, and everything else that is in it.

    A metric that is not in the table (of another version) is one if it has an interval; its label
    is then its name.
    """
    intervals = values.get("intervals") or {}
    unlisted = [name for name in intervals if name not in METRICS and is_number(values.get(name))]
    found, rest = [], {name: value for name, value in values.items() if name != "intervals"}
    for metric in [*METRICS.values(), *map(_unlisted, unlisted)]:
        if not is_number(values.get(metric.name)):
            continue
        ends = intervals.get(metric.name)
        baselines = {
            baseline: values[metric.key(baseline)]
            for baseline in BASELINES
            if is_number(values.get(metric.key(baseline)))
        }
        for name in (metric.name, *map(metric.key, baselines)):
            del rest[name]
        value = values[metric.name]
        found.append(Result(metric, value, tuple(ends) if ends else None, baselines))
    return found, rest


def headlines(values: Mapping[str, Any]) -> Iterator[Result]:
    """The headline metrics, on top of the report and in the summary."""
    return (result for result in results_in(values)[0] if result.metric.headline)


def _unlisted(name: str) -> Metric:
    return Metric(name, name.replace("_", " "), ",.4g", None, TOKENS, TOKENS)
