"""Bootstrap intervals over documents."""

import math

import numpy as np
import pytest

from lib.evaluation.metrics import METRICS
from lib.evaluation.sums import DocumentSums
from tests.helpers.held_out import SEED

NSP_LOSS = [METRICS["nsp_loss"]]


def test_95_percent_intervals_contain_the_true_value_in_95_percent_of_test_sets():
    """200 test sets of 300 documents of different sizes and difficulties."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 40, 20_000)
    means = draw.gamma(4, 1, 20_000)
    truth = (sizes * means).sum() / sizes.sum()
    covered = 0
    for number in range(200):
        chosen = draw.integers(0, len(sizes), 300)
        sums = DocumentSums(NSP_LOSS)
        loss = sizes[chosen] * means[chosen]
        sums.add(np.arange(300), {"pairs": sizes[chosen], "loss": loss})
        low, high = sums.intervals(number, 200)["nsp_loss"]
        covered += low <= truth <= high
        assert low < sums.metrics()["nsp_loss"] < high
    assert 0.90 <= covered / 200 <= 0.99


def test_intervals_are_reproducible_and_narrow_with_more_documents():
    def width(documents: int) -> float:
        draw = np.random.default_rng(1)
        sums = DocumentSums(NSP_LOSS)
        values = draw.random(documents)
        sums.add(np.arange(documents), {"pairs": np.ones(documents), "loss": values})
        found = sums.intervals(SEED)
        assert found == sums.intervals(SEED)
        low, high = found["nsp_loss"]
        # In standard errors of a mean.
        return (high - low) / (values.std() / math.sqrt(documents))

    assert width(100) == pytest.approx(2 * 1.96, rel=0.1)
    assert width(1600) == pytest.approx(2 * 1.96, rel=0.1)


def test_the_example_of_the_docstring():
    sums = DocumentSums([METRICS["bits_per_character"]])
    sums.add(
        np.arange(3), {"bits": np.array([300, 50, 110]), "characters": np.array([100, 25, 40])}
    )
    assert sums.metrics()["bits_per_character"] == pytest.approx(2.788, abs=5e-4)


def test_the_interval_of_perplexity_is_that_of_the_loss():
    sums = DocumentSums([METRICS["mlm_loss"], METRICS["mlm_perplexity"]])
    losses = np.random.default_rng(0).random(50)
    sums.add(np.arange(50), {"loss": losses, "tokens": np.ones(50)})
    found = sums.intervals(SEED)
    assert found["mlm_perplexity"] == pytest.approx([math.exp(x) for x in found["mlm_loss"]])
