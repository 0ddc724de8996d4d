"""Learning rate schedules against their closed forms, at every step."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.model.schedules import SCHEDULES, schedule

NAMES = tuple(SCHEDULES)


@st.composite
def runs(draw):
    """(peak, end, warmup_steps, steps)"""
    steps = draw(st.integers(1, 120))
    peak = draw(st.floats(1e-6, 1.0))
    end = draw(st.one_of(st.just(0.0), st.floats(0, 1).map(lambda fraction: fraction * peak)))
    return peak, end, draw(st.integers(0, steps - 1)), steps


def warming_up(peak: float, warmup_steps: int, step: int) -> float:
    return float(Fraction(peak) * Fraction(step, warmup_steps))


def fraction_done(warmup_steps: int, steps: int, step: int) -> Fraction:
    return Fraction(step - warmup_steps, steps - warmup_steps)


@given(runs(), st.sampled_from([1, 2, 3]))
def test_polynomial_at_every_step_in_exact_fractions(run, power):
    peak, end, warmup_steps, steps = run
    rate = schedule("polynomial", *run, power)
    for step in range(1, steps + 1):
        if step <= warmup_steps:
            expected = warming_up(peak, warmup_steps, step)
        else:
            left = 1 - fraction_done(warmup_steps, steps, step)
            expected = float(Fraction(end) + (Fraction(peak) - Fraction(end)) * left**power)
        assert rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-20)


@given(runs())
def test_polynomial_of_power_one_half_equals_square_root_if_both_end_at_zero(run):
    peak, _, warmup_steps, steps = run
    half = schedule("polynomial", peak, 0.0, warmup_steps, steps, 0.5)
    root = schedule("square_root", peak, 0.0, warmup_steps, steps)
    for step in range(1, steps + 1):
        assert half(step) == pytest.approx(root(step), rel=1e-12)


@given(runs())
def test_cosine_at_every_step(run):
    peak, end, warmup_steps, steps = run
    rate = schedule("cosine", *run)
    for step in range(1, steps + 1):
        if step <= warmup_steps:
            expected = warming_up(peak, warmup_steps, step)
        else:
            angle = math.pi / 2 * float(fraction_done(warmup_steps, steps, step))
            expected = peak * math.cos(angle) ** 2 + end * math.sin(angle) ** 2
        assert rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-15 * peak)


@given(runs())
def test_square_root_at_every_step(run):
    peak, end, warmup_steps, steps = run
    rate = schedule("square_root", *run)
    for step in range(1, steps + 1):
        if step <= warmup_steps:
            assert rate(step) == pytest.approx(warming_up(peak, warmup_steps, step), rel=1e-12)
            continue
        square = float(Fraction(peak) ** 2 * (1 - fraction_done(warmup_steps, steps, step)))
        assert rate(step) ** 2 == pytest.approx(max(square, end**2), rel=1e-12)


@given(runs())
def test_one_minus_square_root_at_every_step(run):
    peak, end, warmup_steps, steps = run
    rate = schedule("one_minus_sqrt", *run)
    for step in range(1, steps + 1):
        if step <= warmup_steps:
            assert rate(step) == pytest.approx(warming_up(peak, warmup_steps, step), rel=1e-12)
            continue
        # How far the rate has fallen, squared, is the fraction of the decay that is done.
        fallen = (peak - rate(step)) ** 2
        done = float(fraction_done(warmup_steps, steps, step))
        assert fallen == pytest.approx((peak - end) ** 2 * done, rel=1e-9, abs=1e-14 * peak**2)


@given(runs(), st.sampled_from(NAMES), st.data())
def test_the_rate_stays_at_its_peak_until_the_decay_which_has_the_form_of_a_run_of_its_own(
    run, name, data
):
    peak, end, warmup_steps, steps = run
    decay_steps = data.draw(st.integers(1, steps - warmup_steps))
    rate = schedule(name, *run, 1.0, decay_steps)
    before = schedule("constant", *run)
    decay = schedule(name, peak, end, 0, decay_steps)
    start = steps - decay_steps
    for step in range(1, start + 1):
        assert rate(step) == before(step)
    # To the bit, so that a phase of its own for the decay gives the same weights.
    for step in range(1, decay_steps + 1):
        assert rate(start + step) == decay(step)
    whole = schedule(name, *run, 1.0, steps - warmup_steps)
    undivided = schedule(name, *run)
    assert all(whole(step) == undivided(step) for step in range(1, steps + 1))


@given(runs())
def test_constant_at_every_step(run):
    peak, _, warmup_steps, steps = run
    rate = schedule("constant", *run)
    for step in range(1, steps + 1):
        if step < warmup_steps:
            assert rate(step) == pytest.approx(warming_up(peak, warmup_steps, step), rel=1e-12)
        else:
            assert rate(step) == peak


@given(runs(), st.sampled_from(NAMES), st.sampled_from([0.5, 1.0, 2.0]))
def test_rates_rise_to_the_peak_fall_without_a_jump_and_end_at_the_end_rate(run, name, power):
    peak, end, warmup_steps, steps = run
    rate = schedule(name, *run, power)
    rates = [rate(step) for step in range(1, steps + 1)]
    assert all(0 <= value <= peak * (1 + 1e-15) for value in rates)
    assert all(b > a for a, b in pairwise(rates[:warmup_steps]))
    decay = rates[max(warmup_steps - 1, 0) :]
    assert all(b <= a * (1 + 1e-15) for a, b in pairwise(decay))
    if warmup_steps:
        assert rate(warmup_steps) == peak
    if name == "constant":
        assert set(decay) == {peak}
    else:
        # Exactly, also beyond.
        assert rate(steps) == rate(steps + 1) == rate(10 * steps) == end
        # The first step of the decay is not longer than the slope of the curve there.
        exponents = {"polynomial": power, "cosine": 2.0, "square_root": 0.5}
        if name in exponents:
            left = 1 - 1 / (steps - warmup_steps)
            lowest = min(left ** exponents[name], left) * (1 - 1e-12)
            assert rate(warmup_steps + 1) >= lowest * peak


def test_a_run_of_one_step_has_the_end_rate():
    assert schedule("polynomial", 1e-3, 1e-5, 0, 1)(1) == 1e-5
    assert schedule("constant", 1e-3, 1e-5, 0, 1)(1) == 1e-3


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=f"{', '.join(SCHEDULES)}, not 'step'"):
        schedule("step", 1e-3, 0.0, 0, 10)
