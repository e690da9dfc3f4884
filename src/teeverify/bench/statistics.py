"""Intervals of differences.

The interval that is printed as one of 95 % is computed at 99 %: a run that stops when its interval
is narrow enough stops a little too often at a lucky moment. That is enough for differences that are
about symmetrical and independent from block to block, wherever the run stops; it is not for very
skewed ones, or for neighbours that are alike (90 to 93 of 100 where a block's difference is
exponential, or correlated by 0.3 with the one before). ``tests/bench/test_statistics.py`` and
``benchmarks/recovery.py`` hold it to its word.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "FEWEST",
    "Interval",
    "mean_interval",
    "paired_difference",
    "paired_ratio",
    "share_of",
    "welch_ratio",
]

FEWEST = 3
"""Values that have an interval: of two, at 99 %, it is 64 times what lies between them."""

# Student's t at 99 %, two-sided, by degrees of freedom; between two rows the smaller row's, which
# is the wider.
_STUDENT = {
    2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250,
    10: 3.169, 11: 3.106, 12: 3.055, 13: 3.012, 14: 2.977, 15: 2.947, 16: 2.921, 17: 2.898,
    18: 2.878, 19: 2.861, 20: 2.845, 25: 2.787, 30: 2.750, 40: 2.704, 60: 2.660, 120: 2.617,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and the bounds that hold it in 95 of 100 repetitions.

    Attributes:
        middle: The estimate.
        low: Lower bound.
        high: Upper bound.
    """

    middle: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2

    @property
    def clear(self) -> bool:
        """Whether it does not hold 0."""
        return self.low > 0 or self.high < 0

    @property
    def most(self) -> float:
        """What an overhead that is not clear may be at most: an estimate below 0 is taken for 0."""
        return max(self.high, self.half)


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of values that are independent of each other; without bounds if they are too few."""
    middle = statistics.fmean(values)
    if len(values) < FEWEST:
        return Interval(middle=middle, low=-math.inf, high=math.inf)
    half = _student(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return Interval(middle=middle, low=middle - half, high=middle + half)


def paired_difference(base: Sequence[float], other: Sequence[float]) -> Interval:
    """Mean of ``other - base``, block by block."""
    return mean_interval([theirs - ours for ours, theirs in zip(base, other, strict=True)])


def paired_ratio(base: Sequence[float], other: Sequence[float], *, rate: bool) -> Interval:
    """How much worse ``other`` is, as a share of ``base``: of a rate less, of a time more.

    The geometric mean of the ratios of each block's pair: a slow minute slows both.
    """
    logs = [math.log(theirs / ours) for ours, theirs in zip(base, other, strict=True)]
    return share_of(mean_interval(logs), rate=rate)


def welch_ratio(base: Sequence[float], other: Sequence[float], *, rate: bool) -> Interval:
    """As :func:`paired_ratio`, of blocks of two runs that could not be interleaved (Welch)."""
    ours, theirs = [math.log(x) for x in base], [math.log(x) for x in other]
    middle = statistics.fmean(theirs) - statistics.fmean(ours)
    if min(len(ours), len(theirs)) < FEWEST:
        return share_of(Interval(middle=middle, low=-math.inf, high=math.inf), rate=rate)
    parts = [statistics.variance(x) / len(x) for x in (ours, theirs)]
    total = sum(parts)
    freedom = (
        total**2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (ours, theirs), strict=True))
        if total
        else min(len(ours), len(theirs)) - 1
    )
    half = _student(max(FEWEST - 1, int(freedom))) * math.sqrt(total)
    return share_of(Interval(middle=middle, low=middle - half, high=middle + half), rate=rate)


def share_of(logs: Interval, *, rate: bool) -> Interval:
    """How much worse, as a share, from the logarithm of a ratio and its bounds."""
    if not math.isfinite(logs.half):
        return Interval(middle=_worse(logs.middle, rate=rate), low=-math.inf, high=math.inf)
    ends = sorted(_worse(min(end, 700.0), rate=rate) for end in (logs.low, logs.high))
    return Interval(middle=_worse(logs.middle, rate=rate), low=ends[0], high=ends[1])


def _student(freedom: int) -> float:
    return _STUDENT[max(row for row in _STUDENT if row <= freedom)]


def _worse(log: float, *, rate: bool) -> float:
    return -math.expm1(log) if rate else math.expm1(log)
