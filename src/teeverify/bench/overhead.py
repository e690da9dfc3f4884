"""From blocks to what a reader wants to know: figures, overheads, tolls, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from teeverify.bench.journal import Block
from teeverify.bench.metrics import METRICS, Metric
from teeverify.bench.statistics import (
    Interval,
    mean_interval,
    paired_difference,
    paired_ratio,
    share_of,
    welch_ratio,
)

__all__ = [
    "Comparison",
    "Row",
    "compare_cell",
    "compare_runs",
    "say_comparison",
    "say_difference",
    "say_overhead",
    "summarize",
]

_ALIKE = 0.05  # words of one vocabulary vary by less

# What a toll is counted in: a token's and a request's milliseconds.
_TOLLS = ("tpot", "ttft", "e2e")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one target in one cell."""

    metric: Metric
    value: Interval
    blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How one metric of a target differs from the baseline's.

    Attributes:
        metric: Which.
        overhead: How much worse, as a share of the baseline.
        toll: How many milliseconds more; of times only, and of paired blocks only.
        blocks: Pairs of blocks.
        unlike: Why the two are not to be compared in this metric, or nothing.
    """

    metric: Metric
    overhead: Interval
    toll: Interval | None
    blocks: int
    unlike: str = ""


def summarize(blocks: Sequence[Block], target: str) -> list[Row]:
    """Every metric of one target in the blocks of one cell."""
    rows = []
    for metric in METRICS:
        values = [
            block.figures[metric.id]
            for block in blocks
            if block.target == target and metric.id in block.figures
        ]
        if values:
            rows.append(Row(metric=metric, value=mean_interval(values), blocks=len(values)))
    return rows


def compare_cell(blocks: Sequence[Block], base: str, other: str) -> list[Comparison]:
    """Every metric of ``other`` against ``base``, in paired blocks of one cell."""
    found = []
    unlike = _unlike(*([b for b in blocks if b.target == name] for name in (base, other)))
    for metric in METRICS:
        turns = [b.turns[metric.id] for b in blocks if b.target == other and metric.id in b.turns]
        if turns:
            found.append(replace(_compare_turns(metric, turns), unlike=unlike))
            continue
        pairs = _pairs(blocks, base, other, metric.id)
        if not pairs:
            continue
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        found.append(
            Comparison(
                metric=metric,
                overhead=paired_ratio(ours, theirs, rate=metric.rate),
                toll=paired_difference(ours, theirs) if metric.id in _TOLLS else None,
                blocks=len(pairs),
                unlike=unlike,
            )
        )
    return found


def _unlike(base: Sequence[Block], other: Sequence[Block]) -> str:
    """Why a cell compares what is not alike: answers, or prompts, of other lengths."""
    counts: dict[str, Callable[[Block], int | None]] = {
        "answers": lambda block: block.tokens,
        "prompts": lambda block: block.prompt_tokens,
    }
    for what, count in counts.items():
        ours, theirs = _mean_length(base, count), _mean_length(other, count)
        if ours and theirs and abs(theirs / ours - 1) > _ALIKE:
            return f"{what} of {theirs:.0f} tokens against {ours:.0f}"
    return ""


def _mean_length(blocks: Sequence[Block], count: Callable[[Block], int | None]) -> float | None:
    known = [(count(block), block.answers) for block in blocks]
    answers = sum(number for tokens, number in known if tokens is not None)
    return sum(tokens or 0 for tokens, _ in known) / answers if answers else None


def _compare_turns(metric: Metric, turns: Sequence[Mapping[str, float]]) -> Comparison:
    return Comparison(
        metric=metric,
        overhead=share_of(mean_interval([each["log"] for each in turns]), rate=metric.rate),
        toll=mean_interval([each["ms"] for each in turns]),
        blocks=len(turns),
    )


def compare_runs(base: Sequence[Block], other: Sequence[Block]) -> list[Comparison]:
    """Every metric of two runs that could not be interleaved, in blocks of one cell.

    The interval is of the blocks' spread within each run (Welch). What differs between two starts
    of the same machine is not in it, and no single pair of runs can say how much that is.
    """
    found = []
    for metric in METRICS:
        ours, theirs = (
            [figure for block in blocks if (figure := block.figures.get(metric.id, 0.0)) > 0]
            for blocks in (base, other)
        )
        if ours and theirs:
            overhead = welch_ratio(ours, theirs, rate=metric.rate)
            found.append(
                Comparison(
                    metric=metric,
                    overhead=overhead,
                    toll=None,
                    blocks=min(len(ours), len(theirs)),
                    unlike=_unlike(base, other),
                )
            )
    return found


def say_comparison(comparison: Comparison) -> str:
    """An overhead in words, or why there is none to be said."""
    if comparison.unlike:
        return f"not comparable: {comparison.unlike}"
    return say_overhead(comparison.overhead)


def say_difference(comparison: Comparison) -> str:
    """The same of two that are no pair: how much worse or better, and nothing that it costs."""
    overhead, said = comparison.overhead, say_comparison(comparison)
    if comparison.unlike or not overhead.clear or not math.isfinite(overhead.half):
        return said
    if overhead.high < 0:
        return said.removeprefix("none: ")
    return f"{overhead.middle:.2%} worse [{overhead.low:.2%} to {overhead.high:.2%}]"


def say_overhead(overhead: Interval) -> str:
    """An overhead in words: never a negative one, and none where the noise is larger."""
    if not math.isfinite(overhead.half) or (overhead.half > 1 and not overhead.clear):
        return "not enough blocks to say"
    if not overhead.clear:
        most = math.ceil(round(1e4 * overhead.most, 6)) / 1e4  # never rounded down, never to 0
        return f"not distinguishable from 0 (at most {most:.2%})"
    if overhead.high < 0:
        return f"none: {-overhead.middle:.2%} better [{-overhead.high:.2%} to {-overhead.low:.2%}]"
    return f"{overhead.middle:.2%} [{overhead.low:.2%} to {overhead.high:.2%}]"


def _pairs(
    blocks: Sequence[Block], base: str, other: str, metric: str
) -> list[tuple[float, float]]:
    by_pair: dict[int, dict[str, float]] = {}
    for block in blocks:
        if block.figures.get(metric, 0.0) > 0:  # 0: all of it came at once, or counts as nothing
            by_pair.setdefault(block.pair, {})[block.target] = block.figures[metric]
    return [
        (both[base], both[other])
        for _, both in sorted(by_pair.items())
        if base in both and other in both
    ]
