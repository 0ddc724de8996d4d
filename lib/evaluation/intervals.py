"""95 % intervals: bootstrap over documents, and Student's t for the few runs of several seeds."""

import math
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

RESAMPLES = 1000
_TAIL = 0.025  # on each side of a 95 % interval
# Student's t hardly changes beyond (1.962 at 1,000 degrees of freedom, 1.960 in the limit).
_MAX_DEGREES = 1000


def resamples(
    sums: np.ndarray, draws: np.random.Generator, number: int = RESAMPLES
) -> Iterator[np.ndarray]:
    """Sums [...] over documents that are drawn with replacement, as many as there are.

    Args:
        sums: float64 [..., documents].
        draws: equal draws for equal numbers of documents: sums of several models in one array are
            sums of the same documents in every resample.
    """
    documents = sums.shape[-1]
    for _ in range(number):
        times = np.bincount(draws.integers(documents, size=documents), minlength=documents)
        yield sums @ times


def ends(values: np.ndarray, documents: int) -> tuple[float, float]:
    """The 95 % interval from values of resamples [resamples] of two documents or more.

    Percentiles, expanded for few documents as Student's t is (Hesterberg, 2015, What Teachers
    Should Know about the Bootstrap, section 5.3): the 2.5th and 97.5th for many documents, the
    2.1th and 97.9th for 45, the 0.6th and 99.4th for 8.
    """
    wider = math.sqrt(documents / (documents - 1)) * student_t(documents - 1)
    tail = 100 * NormalDist().cdf(-wider)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def student_t(degrees: int) -> float:
    """The 97.5th percentile of Student's t distribution: 12.706, 4.303, 3.182, …"""
    from scipy.special import stdtrit  # Here, because the import takes half a second.

    return float(stdtrit(min(degrees, _MAX_DEGREES), 1 - _TAIL))
