"""The formulas: from the samples of a block to its figures."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from teeverify.bench.sample import Sample

__all__ = ["METRICS", "Metric", "compare_turns", "measure", "quantile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure, and how it is computed.

    Attributes:
        id: Its name in JSON.
        name: Its name in tables.
        unit: Its unit.
        formula: How a block's figure comes from its samples.
        rate: Whether more is better.
    """

    id: str
    name: str
    unit: str
    formula: str
    rate: bool = False


METRICS = (
    Metric(
        id="tps",
        name="TPS",
        unit="tokens/s",
        formula="sum over answers of (tokens - 1) / sum of (last token's arrival - first token's "
        "arrival): the decode speed of one stream",
        rate=True,
    ),
    Metric(
        id="qps",
        name="QPS",
        unit="answers/s",
        formula="whole answers / (last answer's end - first request's start); where targets take "
        "turns, / the sum of (last byte's arrival - request's start)",
        rate=True,
    ),
    Metric(
        id="throughput",
        name="throughput",
        unit="tokens/s",
        formula="tokens of whole answers / the same time as of QPS",
        rate=True,
    ),
    Metric(
        id="ttft",
        name="TTFT",
        unit="ms",
        formula="median over answers of (first token's arrival - request's start)",
    ),
    Metric(
        id="tpot",
        name="TPOT",
        unit="ms",
        formula="mean over answers of (last token's arrival - first token's) / (tokens - 1)",
    ),
    Metric(
        id="itl",
        name="ITL",
        unit="ms",
        formula="mean of every gap between two events of an answer; its 50th, 90th and 99th "
        "percentiles are in the JSON",
    ),
    Metric(
        id="e2e",
        name="latency",
        unit="ms",
        formula="median over answers of (last byte's arrival - request's start)",
    ),
    Metric(
        id="steps",
        name="steps",
        unit="1/s",
        formula="sum over answers of (events - 1) / sum of (last token's arrival - first's): an "
        "engine's step sends at most one event a stream",
        rate=True,
    ),
)


_NO_SPEED = 2
"""Answers of so many tokens have no decode speed: one gap is mostly when the last one came."""

_MEDIANS: Mapping[str, Callable[[Sample], float]] = {
    "ttft": lambda sample: sample.tokens[0] - sample.sent,
    "e2e": lambda sample: sample.ended - sample.sent,
}
"""Seconds of one answer; the block's figure is their median."""


def measure(samples: Sequence[Sample], *, in_turns: bool = False) -> dict[str, float]:
    """The figures of a block, by metric, from its whole answers.

    Args:
        samples: One target's.
        in_turns: Whether other targets were asked between its requests: their time is not its own.

    Returns:
        Nothing where no answer is whole. A figure that its answers cannot give (the decode speed
        of answers of one or two tokens) is left out.
    """
    whole = [sample for sample in samples if sample.error is None]
    if not whole:
        return {}
    wall = max(sample.ended for sample in whole) - min(sample.sent for sample in whole)
    if in_turns:
        wall = sum(sample.ended - sample.sent for sample in whole)
    long = [sample for sample in whole if sample.count > _NO_SPEED and len(sample.tokens) > 1]
    gaps = [gap for sample in long for gap in _gaps(sample)]
    figures = {
        "qps": len(whole) / wall,
        "throughput": sum(sample.count for sample in whole) / wall,
    } | {name: 1e3 * statistics.median(map(of, whole)) for name, of in _MEDIANS.items()}
    decode = sum(_decode(sample) for sample in long)
    if decode > 0:
        figures |= {
            "tps": sum(sample.count - 1 for sample in long) / decode,
            "steps": sum(len(sample.tokens) - 1 for sample in long) / decode,
            "tpot": 1e3 * statistics.fmean(_decode(sample) / (sample.count - 1) for sample in long),
        }
    if any(gaps):
        figures |= {
            "itl": 1e3 * statistics.fmean(gaps),
            "itl_p50": 1e3 * quantile(gaps, 0.5),
            "itl_p90": 1e3 * quantile(gaps, 0.9),
            "itl_p99": 1e3 * quantile(gaps, 0.99),
        }
    return figures


def compare_turns(base: Sequence[Sample], other: Sequence[Sample]) -> dict[str, dict[str, float]]:
    """How two targets that took turns differ, request by request, in the metrics that are medians.

    Of each pair of requests the moment is the same: what slows both is in no difference, however
    much it changes within the block.

    Returns:
        By metric: the median over the pairs of the difference in milliseconds (``ms``) and of the
        logarithm of the ratio (``log``). Nothing where no pair is whole.
    """
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(base, other, strict=True)
        if ours.error is None and theirs.error is None
    ]
    if not pairs:
        return {}
    return {
        name: {
            "ms": 1e3 * statistics.median(of(theirs) - of(ours) for ours, theirs in pairs),
            "log": statistics.median(math.log(of(theirs) / of(ours)) for ours, theirs in pairs),
        }
        for name, of in _MEDIANS.items()
    }


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _decode(sample: Sample) -> float:
    return sample.tokens[-1] - sample.tokens[0]


def _gaps(sample: Sample) -> Iterable[float]:
    return map(operator.sub, sample.tokens[1:], sample.tokens)
