"""95 % intervals: Student's t, and percentiles for few documents."""

import numpy as np
import pytest

from lib.evaluation.intervals import ends, resamples, student_t

# NIST/SEMATECH e-Handbook of Statistical Methods, section 1.3.6.7.2.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 7: 2.365, 10: 2.228, 29: 2.045, 100: 1.984}


@pytest.mark.parametrize(("degrees", "expected"), TABLE.items())
def test_percentiles_of_students_t(degrees, expected):
    assert student_t(degrees) == pytest.approx(expected, abs=5e-4)
    assert student_t(10**6) == pytest.approx(1.96, abs=3e-3)


def test_expanded_percentiles_are_those_of_students_t():
    """For means of normal values the interval is the textbook's: mean ± t · s / sqrt(n)."""
    draw = np.random.default_rng(0)
    for documents in (8, 45):
        values = draw.normal(size=documents)
        drawn = np.array(list(resamples(values, np.random.default_rng(1), 40_000))) / documents
        low, high = ends(drawn, documents)
        error = values.std(ddof=1) / np.sqrt(documents)
        assert high - low == pytest.approx(2 * student_t(documents - 1) * error, rel=0.08)


def test_sums_of_several_models_are_of_the_same_documents():
    sums = np.arange(10.0)
    for first, second in resamples(np.stack([sums, 3 * sums]), np.random.default_rng(0), 50):
        assert second == 3 * first
