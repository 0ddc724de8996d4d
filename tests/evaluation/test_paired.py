"""Paired differences of models over test documents."""

from statistics import fmean, stdev

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.intervals import student_t
from lib.evaluation.metrics import METRICS
from lib.evaluation.paired import Run, compare, differences, runs_of, seed_deviation
from lib.run.errors import UserError
from tests.helpers.held_out import SEED

BITS, LOSS = METRICS["bits_per_character"], METRICS["nsp_loss"]
PERPLEXITY = METRICS["mlm_perplexity"]


def run(values: dict[str, tuple[float, float]], label: str = "run", words: int = 2) -> Run:
    """A model's totals: (bits, characters) per document."""
    table = pd.DataFrame(
        {
            "document": list(values),
            "mlm.bits": [bits for bits, _ in values.values()],
            "mlm.characters": [float(characters) for _, characters in values.values()],
            "mlm.words": float(words),
        }
    )
    return Run(label, 128, table)


EXAMPLE = {"0": (300, 100), "1": (50, 25), "2": (110, 40)}
OTHER = {"0": (310, 100), "1": (52, 25), "2": (109, 40)}


def test_the_example_of_the_docstring():
    found = compare([run(EXAMPLE)], [run(OTHER)], SEED)
    (difference,) = found.differences
    assert difference.value == pytest.approx(-0.067, abs=5e-4)
    assert difference.a == pytest.approx((2.788,), abs=5e-4)
    low, high = difference.interval
    assert low < difference.value < high
    assert found.documents == (3, 3, 3) and found.words == 6 and found.different == 0


def test_95_percent_intervals_contain_the_true_difference_in_95_percent_of_test_sets():
    """1,000 test sets of 12 to 200 documents of different sizes and difficulties.

    The two models find the same documents hard. Both the difference and the quotient are covered,
    and the paired interval is several times narrower than one from two separate intervals.
    """
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 40, 20_000).astype(float)
    hard = draw.gamma(4, 1, 20_000)
    a, b = sizes * hard, sizes * (0.95 * hard + draw.normal(0.1, 0.3, 20_000))
    truth = (a.sum() - b.sum()) / sizes.sum()
    covered = quotients = 0
    narrower = []
    for number in range(1000):
        chosen = draw.integers(0, len(sizes), (12, 50, 200)[number % 3])
        first, second = (np.stack([each, sizes])[:, chosen][None] for each in (a, b))
        (found,) = differences(first, second, ["loss", "pairs"], [LOSS], number, 120)
        low, high = found.interval
        covered += low <= truth <= high
        assert found.relative
        quotients += found.relative[1] <= a.sum() / b.sum() - 1 <= found.relative[2]
        if number < 50:
            unpaired = second[..., ::-1]
            (other,) = differences(first, unpaired, ["loss", "pairs"], [LOSS], number, 120)
            narrower.append((other.interval[1] - other.interval[0]) / (high - low))
    assert 900 <= covered <= 990
    assert 900 <= quotients <= 990
    assert np.median(narrower) > 3


def test_intervals_with_several_seeds_contain_the_true_difference():
    """Three seeds on either side: documents and seeds both vary."""
    draw = np.random.default_rng(0)
    covered = documents_only = 0
    for number in range(300):
        hard = draw.gamma(4, 1, 60)
        a, b = (
            np.stack([np.stack([hard + draw.normal(0, 0.2) + effect, np.ones(60)]) for _ in "123"])
            for effect in (0.1, 0.0)
        )
        b[:, 0] += draw.normal(0, 0.2, (3, 60))
        (found,) = differences(a, b, ["loss", "pairs"], [LOSS], number, 200)
        assert found.with_seeds and found.decisive == found.with_seeds
        covered += found.with_seeds[0] <= 0.1 <= found.with_seeds[1]
        documents_only += found.interval[0] <= 0.1 <= found.interval[1]
    assert 0.90 <= covered / 300 <= 0.99
    # What an interval without the seeds is worth.
    assert documents_only / 300 < 0.6


def test_without_variance_over_documents_the_interval_is_that_of_students_t():
    values_a, values_b = [1.0, 1.2, 1.1], [1.4, 1.3, 1.6]
    a, b = (
        np.stack([np.full((2, 50), 1.0) * [[value], [1.0]] for value in values])
        for values in (values_a, values_b)
    )
    (found,) = differences(a, b, ["loss", "pairs"], [LOSS], SEED)
    pooled = np.sqrt((stdev(values_a) ** 2 + stdev(values_b) ** 2) / 2)
    width = student_t(4) * pooled * np.sqrt(2 / 3)
    middle = fmean(values_a) - fmean(values_b)
    assert found.with_seeds == pytest.approx((middle - width, middle + width))
    assert seed_deviation([values_a, values_b]) == (pytest.approx(pooled), 4)
    assert seed_deviation([[1.0], [2.0]]) is None


def test_swapped_sides_have_the_opposite_difference():
    draw = np.random.default_rng(0)
    values = {str(n): (float(draw.random()), 2.0) for n in range(30)}
    others = {str(n): (float(draw.random()), 2.0) for n in range(29, -1, -1)}
    (there,) = compare([run(values)], [run(others)], SEED).differences
    (back,) = compare([run(others)], [run(values)], SEED).differences
    assert there.value == pytest.approx(-back.value)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.better is None


def test_the_better_side_follows_the_direction_of_the_metric():
    better = {str(n): (1.0 + 0.01 * n, 2.0) for n in range(30)}
    worse = {str(n): (2.0 + 0.01 * n, 2.0) for n in range(30)}
    (found,) = compare([run(better)], [run(worse)], SEED).differences
    assert found.better == "A"
    right = np.ones((1, 2, 20))
    wrong = right * np.array([[0.5], [1.0]])
    (found,) = differences(
        right, wrong, ["correct_pairs", "pairs"], [METRICS["nsp_accuracy"]], SEED
    )
    assert found.better == "A" and found.written(found.value) == "+50.00 points"


def test_only_documents_in_common_are_compared():
    first = {str(n): (1.0, 2.0) for n in range(10)}
    second = {str(n): (2.0, 2.0) for n in range(5, 25)}
    found = compare([run(first)], [run(second)], SEED)
    assert found.documents == (5, 10, 20)
    assert found.differences[0].value == pytest.approx(-0.5)
    with pytest.raises(UserError, match="have 0 of 10 and 1 test documents in common"):
        compare([run(first)], [run({"x": (1.0, 2.0)})], SEED)


def test_different_masked_words_are_refused():
    first = {str(n): (1.0, 2.0) for n in range(30)}
    second = first | {str(n): (1.0, 3.0) for n in range(20)}
    with pytest.raises(UserError, match=r"different masked words in 20 of 30 .*evaluate\.seed"):
        compare([run(first)], [run(second)], SEED)
    # A word may be too long for the sequences of one of them.
    assert compare([run(first)], [run(first | {"3": (1.0, 3.0)})], SEED).different == 1


def test_the_same_text_twice_is_one_document():
    twice = run(EXAMPLE)
    doubled = Run("doubled", 128, pd.concat([twice.totals, twice.totals]))
    found = compare([doubled], [doubled], SEED)
    assert found.documents == (3, 3, 3) and found.differences[0].interval == (0.0, 0.0)


def test_metrics_of_one_side_only_are_named():
    with_nsp = run(EXAMPLE)
    with_nsp.totals["nsp.loss"], with_nsp.totals["nsp.pairs"] = 1.0, 2.0
    without = run(OTHER)
    without.totals["nsp.loss"] = without.totals["nsp.pairs"] = np.nan
    found = compare([with_nsp], [without], SEED)
    assert [each.metric for each in found.differences] == [BITS]
    assert found.missing == ("nsp_loss",)


def test_the_difference_of_perplexities_is_one_of_transformed_values():
    totals = pd.DataFrame(
        {"document": ["0", "1"], "mlm.loss": [2.0, 4.0], "mlm.tokens": 2.0, "mlm.words": 2.0}
        | {"mlm.characters": 4.0}
    )
    doubled = totals.assign(**{"mlm.loss": totals["mlm.loss"] * 2})
    found = compare([Run("a", 8, totals)], [Run("b", 8, doubled)], SEED, only=[PERPLEXITY])
    assert found.differences[0].value == pytest.approx(np.exp(1.5) - np.exp(3.0))


def test_models_in_a_table_are_found_in_its_order():
    table = pd.DataFrame(
        {"document": ["x", "y", "x"], "model": ["main", "main", "best"], "length": [64, 64, 32]}
    )
    assert [(name, length, len(own)) for name, length, own in runs_of(table)] == [
        ("main", 64, 2),
        ("best", 32, 1),
    ]
