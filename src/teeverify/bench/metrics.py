"""The formulas: from the samples of a block to its figures."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from teeverify.bench.sample import Sample

__all__ = ["METRICS", "Metric", "measure", "quantile"]


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
        formula="whole answers / (last answer's end - first request's start)",
        rate=True,
    ),
    Metric(
        id="throughput",
        name="throughput",
        unit="tokens/s",
        formula="tokens of whole answers / (last answer's end - first request's start)",
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


def measure(samples: Sequence[Sample]) -> dict[str, float]:
    """The figures of a block, by metric, from its whole answers.

    Empty where no answer is whole. A figure that its answers cannot give (the decode speed of
    answers of one token) is left out.
    """
    whole = [sample for sample in samples if sample.error is None]
    if not whole:
        return {}
    wall = max(sample.ended for sample in whole) - min(sample.sent for sample in whole)
    gaps = [gap for sample in whole for gap in _gaps(sample)]
    long = [sample for sample in whole if sample.count > 1 and len(sample.tokens) > 1]
    figures = {
        "qps": len(whole) / wall,
        "throughput": sum(sample.count for sample in whole) / wall,
        "ttft": 1e3 * statistics.median(sample.tokens[0] - sample.sent for sample in whole),
        "e2e": 1e3 * statistics.median(sample.ended - sample.sent for sample in whole),
    }
    decode = sum(_decode(sample) for sample in long)
    if decode > 0:
        figures |= {
            "tps": sum(sample.count - 1 for sample in long) / decode,
            "steps": sum(len(sample.tokens) - 1 for sample in long) / decode,
            "tpot": 1e3 * statistics.fmean(_decode(sample) / (sample.count - 1) for sample in long),
        }
    if gaps:
        figures |= {
            "itl": 1e3 * statistics.fmean(gaps),
            "itl_p50": 1e3 * quantile(gaps, 0.5),
            "itl_p90": 1e3 * quantile(gaps, 0.9),
            "itl_p99": 1e3 * quantile(gaps, 0.99),
        }
    return figures


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _decode(sample: Sample) -> float:
    return sample.tokens[-1] - sample.tokens[0]


def _gaps(sample: Sample) -> Iterable[float]:
    return map(operator.sub, sample.tokens[1:], sample.tokens)
