"""Intervals: known answers, and how often they hold what they should."""

from __future__ import annotations

import math
import random

import pytest

from teeverify.bench.load import order_of
from teeverify.bench.overhead import say_overhead
from teeverify.bench.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    paired_ratio,
    welch_ratio,
)


def test_the_mean_of_known_values():
    # t at 99 % with 4 degrees of freedom is 4.604; the deviation of 1..5 is sqrt(2.5).
    interval = mean_interval([1, 2, 3, 4, 5])
    half = 4.604 * math.sqrt(2.5) / math.sqrt(5)
    assert (interval.middle, interval.low, interval.high) == pytest.approx((3, 3 - half, 3 + half))


@pytest.mark.parametrize("values", [[1.0], [0.010, 0.011]])
def test_one_or_two_values_say_nothing(values):
    """Of two the interval at 99 % is 64 times what lies between them."""
    assert math.isinf(mean_interval(values).half)
    assert math.isinf(welch_ratio(values, [0.01] * 9, rate=True).half)
    assert say_overhead(mean_interval(values)) == "not enough blocks to say"
    assert math.isfinite(mean_interval([*values, 0.01, 0.01]).half)


def test_a_rate_that_falls_and_a_time_that_grows_are_overheads():
    assert paired_ratio([100, 100], [90, 90], rate=True).middle == pytest.approx(0.1)
    assert paired_ratio([100, 100], [110, 110], rate=False).middle == pytest.approx(0.1)
    assert paired_difference([5, 6], [7, 8]).middle == pytest.approx(2)


def test_a_slow_minute_that_slows_both_is_no_overhead():
    base = [100, 50, 80, 100, 60, 90]
    paired = paired_ratio(base, [0.99 * x for x in base], rate=True)
    assert paired.middle == pytest.approx(0.01)
    assert paired.half < 1e-9
    assert welch_ratio(base, [0.99 * x for x in base], rate=True).half > 0.1


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.02, 0.01, 0.03), "2.00% [1.00% to 3.00%]"),
        ((0.002, -0.001, 0.005), "not distinguishable from 0 (at most 0.50%)"),
        ((-0.002, -0.005, 0.001), "not distinguishable from 0 (at most 0.30%)"),
        ((0.0, -0.00001, 0.00001), "not distinguishable from 0 (at most 0.01%)"),
        ((0.0, -0.011, 0.011), "not distinguishable from 0 (at most 1.10%)"),
        ((-0.02, -0.03, -0.01), "none: 2.00% better [1.00% to 3.00%]"),
        ((0.5, -9.0, 0.9), "not enough blocks to say"),
        ((1.5, 0.1, 9.0), "150.00% [10.00% to 900.00%]"),
    ],
)
def test_overheads_in_words(interval, words):
    middle, low, high = interval
    said = say_overhead(Interval(middle=middle, low=low, high=high))
    assert said == words
    assert "-" not in said


def _holds(orders, *, drift):
    """How often an overhead of 2 % is held while the machine grows slower by so much a block."""
    source = random.Random(3)
    held = 0
    for run in range(500):
        base, other, at = [], [], 0
        for pair in range(30):
            moments = {}
            for target in orders(run, pair):
                moments[target] = drift * at + source.gauss(0, 0.002)
                at += 1
            base.append(math.exp(moments[0]))
            other.append(math.exp(moments[1] + math.log(0.98)))
            if pair >= 4 and paired_ratio(base, other, rate=True).half <= 0.02:
                break
        interval = paired_ratio(base, other, rate=True)
        held += interval.low <= 0.02 <= interval.high
    return held / 500


def test_a_machine_that_grows_slower_does_not_fool_the_interval():
    """Five blocks are all in one order one time in 16 if orders are drawn anew for each block."""
    drawn = random.Random(5)
    assert _holds(lambda run, pair: order_of(2, pair, f"{run}"), drift=0.02) >= 0.99
    assert _holds(lambda _run, _pair: drawn.sample((0, 1), 2), drift=0.02) < 0.95


@pytest.mark.parametrize("blocks", [2, 5, 12])
def test_intervals_hold_the_true_value_even_when_a_run_stops_as_soon_as_it_likes(blocks):
    """A run may stop at each block from so many on, once half the interval is 1 % or less."""
    source = random.Random(7)
    held = 0
    for _ in range(2000):
        base, other = [], []
        for number in range(1, 40):
            slow = source.gauss(1, 0.2)  # of this minute, for both
            base.append(math.exp(slow + source.gauss(0, 0.01)))
            other.append(math.exp(slow + math.log(0.98) + source.gauss(0, 0.01)))
            if number >= blocks and paired_ratio(base, other, rate=True).half <= 0.01:
                break
        interval = paired_ratio(base, other, rate=True)
        held += interval.low <= 0.02 <= interval.high
    assert held >= 0.95 * 2000
