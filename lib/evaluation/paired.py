"""Paired comparison: the difference of two models on the same test documents, with its interval.

Two models find the same documents easy and the same documents hard. Their difference varies much
less over documents than either metric, so both are resampled together.

Example: bits of the masked words of three documents, with 100, 25 and 40 characters.

    document      A     B
    0           300   310
    1            50    52
    2           110   109

    A - B = (300 + 50 + 110) / 165 - (310 + 52 + 109) / 165 = 2.788 - 2.855 = -0.067

One resample draws documents 0, 2 and 2 for both: (300 + 110 + 110) / 180 - (310 + 109 + 109) / 180
= -0.044. The interval covers 95 % of 1,000 such differences.

Each side may be several runs that differ in their training seed. The difference is then one of
means, and it has a second interval: the variances over documents and over seeds are added (the
latter pooled over both sides), and Student's t has the degrees of freedom of Satterthwaite (1946).
A comparison of single runs does not contain the variance over seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pandas as pd

from lib.evaluation.intervals import RESAMPLES, ends, resamples, student_t
from lib.evaluation.metrics import MLM_METRICS, NSP_METRICS, Metric
from lib.run import random
from lib.run.errors import UserError
from lib.text.layout import EXTRA

DOCUMENT, INPUT = "document", "input"
_HEADS = {"mlm": MLM_METRICS, "nsp": NSP_METRICS}
# Equal for two models that predict the same masked words of a document.
_WORDS = "mlm.words"
_SAME_WORDS = [_WORDS, "mlm.characters"]
_MAX_DIFFERENT = 0.1

Interval = tuple[float, float]


@dataclass(frozen=True)
class Run:
    """One evaluated model.

    Attributes:
        label: how people know it.
        length: tokens of the sequences that it was evaluated on.
        totals: one line per document: `document` and the totals (see `ModelSums.table`).
    """

    label: str
    length: int
    totals: pd.DataFrame


@dataclass(frozen=True)
class Difference:
    """A metric of two models, or of two groups of runs.

    Attributes:
        a, b: the value of each run on the documents that all have in common.
        interval: of mean(a) - mean(b), over documents.
        relative: mean(a) / mean(b) - 1 and its interval; None if mean(b) can be 0.
        with_seeds: of mean(a) - mean(b), over documents and seeds; None without repeated runs.
    """

    metric: Metric
    a: tuple[float, ...]
    b: tuple[float, ...]
    interval: Interval
    relative: tuple[float, float, float] | None
    with_seeds: Interval | None

    @property
    def value(self) -> float:
        return fmean(self.a) - fmean(self.b)

    @property
    def decisive(self) -> Interval:
        """The interval that decides: with the variance over seeds if it is known."""
        return self.with_seeds or self.interval

    @property
    def better(self) -> str | None:
        """`A` or `B` if the decisive interval excludes 0."""
        low, high = self.decisive
        if low <= 0 <= high or self.metric.higher_is_better is None:
            return None
        return "A" if (low > 0) == self.metric.higher_is_better else "B"

    def written(self, value: float) -> str:
        """A difference as people read it: `-0.058`; of fractions in points, `+1.25 points`."""
        if self.metric.format.endswith("%"):
            return f"{100 * value:+.2f} points"
        return format(value, f"+{self.metric.format}")

    def written_interval(self) -> str:
        """`-0.071 to -0.045`."""
        return " to ".join(self.written(end).removesuffix(" points") for end in self.decisive)


@dataclass(frozen=True)
class Comparison:
    """The differences of all metrics that both sides have.

    Attributes:
        documents: with masked words: (in common, of A, of B).
        words: masked words in the common documents.
        different: common documents of which not the same words were masked.
        missing: names of metrics that one side lacks.
    """

    documents: tuple[int, int, int]
    words: int
    different: int
    differences: tuple[Difference, ...]
    missing: tuple[str, ...]


def compare(
    a: Sequence[Run],
    b: Sequence[Run],
    seed: int,
    only: Sequence[Metric] | None = None,
    deviation: tuple[float, int] | None = None,
) -> Comparison:
    """Compares two models, or two groups of runs that differ in their training seeds.

    Documents are paired by the digest of their text: models that were evaluated on different test
    sets are compared on the documents that these have in common.

    Args:
        seed: of the resamples.
        only: these metrics; None: all.
        deviation: the standard deviation over seeds and its degrees of freedom, of one metric;
            None: from the runs of both sides.

    Raises:
        UserError: they have fewer than two documents in common, or different words were masked.
    """
    runs = [*a, *b]
    tables = [run.totals.groupby(DOCUMENT).sum(numeric_only=True) for run in runs]
    masked = [table.index[table[_WORDS] > 0] for table in tables]
    counts = len(_common(masked)), len(_any(masked[: len(a)])), len(_any(masked[len(a) :]))
    if counts[0] < 2:
        raise UserError(
            f"{a[0].label} and {b[0].label} have {counts[0]} of {counts[1]} and {counts[2]} test "
            "documents in common; compare models that were evaluated on the same text, with the "
            "same split.seed and preprocess.clean"
        )
    common = _common([table.index for table in tables])
    tables = [table.loc[common] for table in tables]
    different = _different_words(tables)
    if different > _MAX_DIFFERENT * counts[0]:
        raise UserError(
            f"{a[0].label} and {b[0].label} were evaluated on different masked words in "
            f"{different} of {counts[0]} documents; evaluate both with the same "
            "evaluate.masked_lm_prob and evaluate.seed"
        )
    found: list[Difference] = []
    missing: list[str] = []
    for head, metrics in _HEADS.items():
        metrics = tuple(m for m in metrics if only is None or m in only)
        present = [m for m in metrics if all(_has(table, head, m) for table in tables)]
        missing += [
            m.name
            for m in metrics
            if m not in present and any(_has(table, head, m) for table in tables)
        ]
        if present:
            names = sorted({total.name for m in present for total in (m.total, m.per)})
            columns = [f"{head}.{name}" for name in names]
            sums = np.stack([table[columns].to_numpy(float).T for table in tables])
            sides = sums[: len(a)], sums[len(a) :]
            found += differences(*sides, names, present, seed, deviation=deviation)
    words = int(tables[0][_WORDS].sum())
    return Comparison(counts, words, different, tuple(found), tuple(missing))


def differences(
    a: np.ndarray,
    b: np.ndarray,
    names: Sequence[str],
    metrics: Sequence[Metric],
    seed: int,
    number: int = RESAMPLES,
    deviation: tuple[float, int] | None = None,
) -> list[Difference]:
    """Differences of the metrics of one head; none with fewer than two evaluated documents.

    Args:
        a, b: float64 [runs, totals, documents], the totals in the order of `names`.
    """
    sums = np.concatenate([a, b])  # [R, T, D], R runs of both sides
    sums = sums[..., sums.any(axis=(0, 1))]
    documents = sums.shape[-1]
    if documents < 2:
        return []
    draws = random.generator(seed, "paired bootstrap")
    resampled = np.stack(list(resamples(sums, draws, number)))  # [N, R, T], N resamples
    position = {name: index for index, name in enumerate(names)}
    found = []
    for metric in metrics:
        total, per = position[metric.total.name], position[metric.per.name]
        whole = sums.sum(axis=-1)  # [R, T]
        values = _values(metric, whole[:, total], whole[:, per])  # [R]
        drawn = _values(metric, resampled[..., total], resampled[..., per])  # [N, R]
        mean_a, mean_b = drawn[:, : len(a)].mean(axis=1), drawn[:, len(a) :].mean(axis=1)  # [N]
        own_a, own_b = values[: len(a)], values[len(a) :]
        relative = None
        if mean_b.all() and own_b.mean():
            relative = (own_a.mean() / own_b.mean() - 1, *ends(mean_a / mean_b - 1, documents))
        difference = mean_a - mean_b
        over_seeds = deviation or seed_deviation([own_a.tolist(), own_b.tolist()])
        found.append(
            Difference(
                metric,
                tuple(own_a.tolist()),
                tuple(own_b.tolist()),
                ends(difference, documents),
                relative,
                _with_seeds(own_a, own_b, over_seeds, float(difference.var(ddof=1)), documents),
            )
        )
    return found


def seed_deviation(groups: Sequence[Sequence[float]]) -> tuple[float, int] | None:
    """The standard deviation over seeds, pooled over settings, and its degrees of freedom.

    Each group has the values of the runs of one setting.
    """
    repeated = [group for group in groups if len(group) > 1]
    degrees = sum(len(group) - 1 for group in repeated)
    if not degrees:
        return None
    squares = sum(stdev(group) ** 2 * (len(group) - 1) for group in repeated)
    return math.sqrt(squares / degrees), degrees


def _with_seeds(
    a: np.ndarray,
    b: np.ndarray,
    deviation: tuple[float, int] | None,
    over_documents: float,
    documents: int,
) -> Interval | None:
    if not deviation:
        return None
    size, degrees = deviation
    over_seeds = size**2 * (1 / len(a) + 1 / len(b))
    whole = over_seeds + over_documents
    parts = over_seeds**2 / degrees + over_documents**2 / (documents - 1)
    width = student_t(max(1, int(whole**2 / parts))) * math.sqrt(whole) if parts else 0.0
    middle = float(a.mean() - b.mean())
    return middle - width, middle + width


def _values(metric: Metric, total: np.ndarray, per: np.ndarray) -> np.ndarray:
    """`Metric.value` of arrays."""
    quotients: np.ndarray = total / np.maximum(per, 1.0)
    return np.vectorize(metric.transform)(quotients) if metric.transform else quotients


def _common(indices: Sequence[pd.Index]) -> list[str]:
    return sorted(set(indices[0]).intersection(*indices[1:]))


def _any(indices: Sequence[pd.Index]) -> set[str]:
    return set(indices[0]).union(*indices[1:])


def _different_words(tables: Sequence[pd.DataFrame]) -> int:
    first = tables[0][_SAME_WORDS]
    same = [(table[_SAME_WORDS] == first).all(axis=1) for table in tables]
    return int((~pd.concat(same, axis=1).all(axis=1)).sum())


def _has(table: pd.DataFrame, head: str, metric: Metric) -> bool:
    """Whether a metric was evaluated: its totals are there, and not all empty."""
    columns = [f"{head}.{total.name}" for total in (metric.total, metric.per)]
    return set(columns) <= set(table.columns) and bool(table[columns[1]].any())


def runs_of(table: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """The models of a documents.csv: name, length, totals; the phase's own model first.

    As in the metrics, text that is only evaluated (`extra`) is left out.
    """
    if INPUT in table:
        table = table[table[INPUT] != EXTRA]
    groups = table.groupby(["model", "length"], sort=False)
    firsts = [(own.iloc[0], own) for _, own in groups]
    return [(str(first["model"]), int(first["length"]), own) for first, own in firsts]
