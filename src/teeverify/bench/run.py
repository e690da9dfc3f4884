"""The experiment: warm up, then blocks of all targets in random order, until it is known enough."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from teeverify.bench.journal import Block, Journal
from teeverify.bench.load import Load, Target
from teeverify.bench.metrics import measure
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Cell, Plan
from teeverify.bench.pool import Pool
from teeverify.bench.sample import Sample
from teeverify.bench.workload import Ask, words_of
from teeverify.clock import now
from teeverify.errors import EndpointUnavailable

__all__ = ["Advance", "Say", "Verify", "run_plan"]

Verify = Callable[[Target, Sequence[Sample]], dict[str, float]]
"""Verifies every answer of a block, and returns what that cost."""

Say = Callable[[str], None]
"""Is told of progress, a line each."""

Advance = Callable[[float], None]
"""Is told how much of the run is over, from 0 to 1, when each cell takes its whole budget."""

_TRIES = 3
_TOLERATED = 0.05  # of a block's answers may fail; they are counted and shown
_WAIT_SECONDS = 2.0
_CALIBRATION = (32, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    plan: Plan
    pool: Pool
    journal: Journal
    verify: Verify
    say: Say
    advance: Advance


def run_plan(
    plan: Plan,
    pool: Pool,
    journal: Journal,
    *,
    verify: Verify,
    say: Say,
    advance: Advance = lambda _share: None,
) -> None:
    """Measure what the journal does not hold yet.

    Args:
        plan: What.
        pool: Who asks.
        journal: Where to; what it holds is not measured again.
        verify: What verifies answers, for the targets that the plan says.
        say: Told of progress, a line each.
        advance: Told how much is over.

    Raises:
        EndpointUnavailable: A target does not answer, three times in a row; what was measured is
            in the journal, and the same command goes on from there.
    """
    bench = _Bench(plan=plan, pool=pool, journal=journal, verify=verify, say=say, advance=advance)
    for number, cell in enumerate(_calibrated(bench), start=1):
        title = f"{number}/{len(plan.cells)} {cell.id}"
        advance((number - 1) / len(plan.cells))
        if _is_done(plan, cell, journal.of(cell.id), spent=0.0):
            say(f"{title}: measured before")
            continue
        _run_cell(bench, cell, number, title)
    advance(1.0)


def _calibrated(bench: _Bench) -> list[Cell]:
    """The cells, with prompts of the right length for the baseline's vocabulary."""
    target, counts = bench.plan.targets[0], []
    for number, words in enumerate(_CALIBRATION):
        sample = _ask(bench, target, [words_of(words, number)], Load(batch=1))[0]
        counts.append(sample.prompt_tokens)
    if None in counts:
        bench.say(f"{target.name} does not count tokens: a word is taken for one")
        return list(bench.plan.cells)
    tokens = (counts[0] or 0, counts[1] or 0)
    return [
        replace(cell, workload=cell.workload.calibrated(words=_CALIBRATION, tokens=tokens))
        for cell in bench.plan.cells
    ]


def _run_cell(bench: _Bench, cell: Cell, number: int, title: str) -> None:
    plan = bench.plan
    started = time.monotonic()
    per_block = _warm_up(bench, cell)
    done = len(bench.journal.of(cell.id)) // len(plan.targets)
    for pair in itertools.count(done):
        # Not for secrets; the pair's own, so that a run that goes on keeps the order.
        order = random.Random(f"{plan.seed}/{cell.id}/{pair}")  # noqa: S311
        targets = order.sample(plan.targets, k=len(plan.targets))
        blocks = [
            _block(bench, cell, target, pair=pair, order=place, count=per_block)
            for place, target in enumerate(targets)
        ]
        for block in blocks:  # together: half a pair on disk could not be gone on with
            bench.journal.add(block)
        blocks = bench.journal.of(cell.id)
        bench.say(f"{title}: block {pair + 1}, {_state(plan, cell, blocks)}")
        spent = time.monotonic() - started
        share = min(1.0, spent / plan.budget_seconds) if plan.budget_seconds else 1.0
        bench.advance((number - 1 + share) / len(plan.cells))
        if _is_done(plan, cell, blocks, spent=spent):
            return


def _warm_up(bench: _Bench, cell: Cell) -> int:
    """Ask each target, unmeasured, and return how many requests make a block of the wanted time."""
    batch = cell.load.batch
    slowest = 0.0
    for target in bench.plan.targets:
        asks = _asks(bench.plan, cell, target, "warm-up", batch)
        samples = _ask(bench, target, asks, replace(cell.load, rate=None))
        slowest = max(slowest, _span(samples) / max(1, len(samples)))
    if cell.load.rate is not None:
        return max(1, math.ceil(cell.load.rate * bench.plan.block_seconds))
    count = math.ceil(bench.plan.block_seconds / max(slowest, 1e-6))
    return math.ceil(count / batch) * batch  # whole waves: every target ends with the same tail


def _block(
    bench: _Bench, cell: Cell, target: Target, *, pair: int, order: int, count: int
) -> Block:
    started_at = now().isoformat(timespec="seconds")
    asks = _asks(bench.plan, cell, target, str(pair), count)
    samples = _ask(bench, target, asks, cell.load)
    whole = [sample for sample in samples if sample.error is None]
    counted = all(sample.output_tokens is not None for sample in whole)
    prompts = [sample.prompt_tokens for sample in whole]
    checked = target.name in bench.plan.verify
    return Block(
        cell=cell.id,
        target=target.name,
        pair=pair,
        order=order,
        started_at=started_at,
        answers=len(whole),
        failed=dict(Counter(sample.error for sample in samples if sample.error is not None)),
        figures=measure(samples),
        tokens=sum(sample.count for sample in whole),
        prompt_tokens=None if None in prompts else sum(tokens or 0 for tokens in prompts),
        counted="usage" if counted else "events",
        short=sum(sample.count < sample.wanted for sample in whole),
        verified=bench.verify(target, whole) if checked else None,
    )


def _asks(plan: Plan, cell: Cell, target: Target, pair: str, count: int) -> list[Ask]:
    seed = f"{plan.seed}, {cell.id}, {pair}/{target.name}"
    return list(itertools.islice(cell.workload.asks(seed), count))


def _ask(bench: _Bench, target: Target, asks: Sequence[Ask], load: Load) -> list[Sample]:
    """Ask; where more than a few answers are not whole, wait and ask again."""
    keep = target.name in bench.plan.verify
    reasons: Counter[str] = Counter()
    for attempt in range(_TRIES):
        samples = bench.pool.generate(target, asks, load, timeout=bench.plan.timeout, keep=keep)
        reasons = Counter(sample.error for sample in samples if sample.error is not None)
        if reasons.total() <= _TOLERATED * len(samples):
            return samples
        bench.say(f"{target.name} does not answer ({', '.join(reasons)})")
        time.sleep(_WAIT_SECONDS * (attempt + 1))
    raise EndpointUnavailable(
        f"{target.name} does not answer",
        id="endpoint.unreachable",
        got=", ".join(f"{count} x {why}" for why, count in reasons.most_common()),
        hint="What was measured is kept: the same command goes on from there.",
    )


def _is_done(plan: Plan, cell: Cell, blocks: Sequence[Block], *, spent: float) -> bool:
    pairs = len(blocks) // len(plan.targets)
    if pairs < plan.min_blocks:
        return False
    if spent >= plan.budget_seconds:
        return True
    widest = _widest(plan, cell, blocks)
    return widest is not None and widest <= plan.narrow


def _widest(plan: Plan, cell: Cell, blocks: Sequence[Block]) -> float | None:
    """Half the widest interval of the headline's overhead; ``None`` where there is none yet."""
    base, *others = (target.name for target in plan.targets)
    if not others:
        return 0.0
    halves = [
        each.overhead.half
        for other in others
        for each in compare_cell(blocks, base, other)
        if each.metric.id == cell.headline
    ]
    return max(halves) if len(halves) == len(others) else None


def _state(plan: Plan, cell: Cell, blocks: Sequence[Block]) -> str:
    widest = _widest(plan, cell, blocks)
    if widest is None or widest > 1:
        return "not enough yet"
    return f"known to ±{widest:.2%} (wanted ±{plan.narrow:.2%})"


def _span(samples: Sequence[Sample]) -> float:
    return max(sample.ended for sample in samples) - min(sample.sent for sample in samples)
