"""The experiment: warm up, then blocks of all targets side by side, until it is known enough.

One request at a time: the targets take turns within a block. Else: one after the other, in a random
order and then its reverse. It ends when the interval is narrow, the budget spent or time up.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from teeverify.bench.journal import BUDGET, NARROW, TIME, Block, Journal
from teeverify.bench.load import Lane, Load, Target, order_of
from teeverify.bench.metrics import compare_turns, measure
from teeverify.bench.overhead import compare_cell, summarize
from teeverify.bench.plan import Cell, Plan
from teeverify.bench.pool import Pool
from teeverify.bench.sample import Sample
from teeverify.bench.statistics import FEWEST
from teeverify.bench.workload import words_of
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
_LATE = "TimeoutError"


class _TimeIsUp(Exception):
    """No error: the run ends with what it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    plan: Plan
    pool: Pool
    journal: Journal
    verify: Verify
    say: Say
    advance: Advance
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """One target's, when they were asked for, and why others failed."""

    samples: list[Sample]
    started_at: str
    failed: Counter[str]


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
    bench = _Bench(
        plan=plan, pool=pool, journal=journal, verify=verify, say=say, advance=advance,
        deadline=time.monotonic() + plan.total_seconds,
    )  # fmt: skip
    if plan.total_seconds < plan.budget_seconds * len(plan.cells):
        say(
            f"{len(plan.cells)} cells in {plan.total_seconds / 60:.3g} minutes: about "
            f"{plan.total_seconds / len(plan.cells):.0f} s each"
        )
    try:
        for number, cell in enumerate(_calibrated(bench)):
            title = f"{number + 1}/{len(plan.cells)} {cell.id}"
            advance(number / len(plan.cells))
            if journal.ended.get(cell.id) in {NARROW, BUDGET}:
                say(f"{title}: measured before")
                continue
            journal.end(cell.id, _run_cell(bench, cell, number, title))
    except _TimeIsUp:
        say("the time is up: what is missing can be measured by the same command")
    advance(1.0)


def _calibrated(bench: _Bench) -> list[Cell]:
    """The cells, with prompts of the right length for the baseline's vocabulary."""
    target, counts = bench.plan.targets[0], []
    for number, words in enumerate(_CALIBRATION):
        lane = Lane(target=target, asks=[words_of(words, number)])
        (answers,) = _ask(bench, [lane], Load(batch=1), "calibration")
        counts.append(answers.samples[0].prompt_tokens)
    if None in counts:
        bench.say(f"{target.name} does not count tokens: a word is taken for one")
        return list(bench.plan.cells)
    tokens = (counts[0] or 0, counts[1] or 0)
    return [
        replace(cell, workload=cell.workload.calibrated(words=_CALIBRATION, tokens=tokens))
        for cell in bench.plan.cells
    ]


def _run_cell(bench: _Bench, cell: Cell, number: int, title: str) -> str:
    """Measure a cell; return why it ended."""
    plan, journal, started = bench.plan, bench.journal, time.monotonic()
    share = bench.left / (len(plan.cells) - number)
    count, lasts = _warm_up(bench, cell)
    pair = 1 + max((block.pair for block in journal.of(cell.id)), default=-1)
    while True:
        spent = time.monotonic() - started
        why = _why_done(bench, cell, spent=spent, share=share, lasts=lasts)
        if why is not None:
            return why
        for block in _measure_pair(bench, cell, pair, count):
            journal.add(block)  # after all are there: half a pair is compared with nothing
        lasts = time.monotonic() - started - spent
        state = _state(plan, cell, journal.of(cell.id))
        bench.say(f"{title}: block {pair + 1}, {state}")
        whole = min(plan.budget_seconds, share)
        done = min(1.0, (spent + lasts) / whole) if whole > 0 else 1.0
        bench.advance((number + done) / len(plan.cells))
        pair += 1


def _why_done(bench: _Bench, cell: Cell, *, spent: float, share: float, lasts: float) -> str | None:
    """Why the cell is done; ``None`` where another pair of blocks, which ``lasts``, is wanted."""
    plan, blocks = bench.plan, bench.journal.of(cell.id)
    pairs = len(blocks) // len(plan.targets)
    if pairs >= plan.min_blocks:
        widest = _widest(plan, cell, blocks)
        if widest is not None and widest <= plan.narrow:
            return NARROW
        if spent >= plan.budget_seconds:
            return BUDGET
    if pairs >= FEWEST and spent + lasts > share:
        return TIME
    if lasts > bench.left:
        if not pairs:
            bench.say(f"{cell.id}: a block takes {lasts:.0f} s: there is no time for it")
        return TIME
    return None


def _warm_up(bench: _Bench, cell: Cell) -> tuple[int, float]:
    """Ask each target, unmeasured.

    Returns:
        How many requests make a block of the wanted time, and about how long all blocks of a pair
        take.
    """
    plan, batch = bench.plan, cell.load.batch
    each = []
    for target in plan.targets:
        for wave in range(2):  # the first alone is slower than what follows
            lane = _lane(plan, cell, target, f"warm-up {wave}", batch)
            (answers,) = _ask(bench, [lane], replace(cell.load, rate=None), "warm-up")
            span = _span(answers.samples)
            if span > plan.block_seconds:
                break
        each.append(span / len(answers.samples))
    if cell.load.rate is not None:
        count = max(1, math.ceil(cell.load.rate * plan.block_seconds))
        return count, count / cell.load.rate * len(plan.targets)
    count = math.ceil(plan.block_seconds / max(*each, 1e-6))
    count = math.ceil(count / batch) * batch  # whole waves: every target ends with the same tail
    return count, count * sum(each)


def _measure_pair(bench: _Bench, cell: Cell, pair: int, count: int) -> list[Block]:
    """A block of each target, all with the same number."""
    plan = bench.plan
    seed = f"{plan.seed}/{cell.id}"  # a run that goes on keeps its order
    lanes = [_lane(plan, cell, target, str(pair), count) for target in plan.targets]
    order = order_of(len(lanes), pair, seed)
    if plan.in_turns(cell):
        answers = _ask(bench, lanes, cell.load, f"{seed}/{pair}")
        base = answers[0].samples
        return [
            replace(
                _block(bench, target, each, cell=cell.id, pair=pair, order=None),
                turns={} if number == 0 else compare_turns(base, each.samples),
            )
            for number, (target, each) in enumerate(zip(plan.targets, answers, strict=True))
        ]
    asked = {place: _ask(bench, [lanes[place]], cell.load, f"{seed}/{pair}") for place in order}
    return [
        _block(bench, target, *asked[place], cell=cell.id, pair=pair, order=order.index(place))
        for place, target in enumerate(plan.targets)
    ]


def _block(
    bench: _Bench,
    target: Target,
    answers: _Answers,
    *,
    cell: str,
    pair: int,
    order: int | None,
) -> Block:
    whole = [sample for sample in answers.samples if sample.error is None]
    counted = all(sample.output_tokens is not None for sample in whole)
    prompts = [sample.prompt_tokens for sample in whole]
    checked = target.name in bench.plan.verify
    return Block(
        cell=cell,
        target=target.name,
        pair=pair,
        order=order,
        started_at=answers.started_at,
        answers=len(whole),
        failed=dict(answers.failed),
        figures=measure(whole, in_turns=order is None),
        tokens=sum(sample.count for sample in whole),
        prompt_tokens=None if None in prompts else sum(tokens or 0 for tokens in prompts),
        counted="usage" if counted else "events",
        short=sum(sample.count < sample.wanted for sample in whole),
        verified=bench.verify(target, whole) if checked else None,
    )


def _lane(plan: Plan, cell: Cell, target: Target, pair: str, count: int) -> Lane:
    seed = f"{plan.seed}, {cell.id}, {pair}/{target.name}"
    asks = list(itertools.islice(cell.workload.asks(seed), count))
    return Lane(target=target, asks=asks, keep=target.name in plan.verify)


def _ask(bench: _Bench, lanes: Sequence[Lane], load: Load, seed: str) -> list[_Answers]:
    """Ask; where more than a few answers are not whole, wait and ask again."""
    failed: list[Counter[str]] = [Counter() for _ in lanes]
    silent: list[str] = []
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_WAIT_SECONDS * attempt)
        timeout = min(bench.plan.timeout, bench.left)
        if timeout <= 0:
            break
        started_at = now().isoformat(timespec="seconds")
        samples = bench.pool.generate(lanes, load, timeout=timeout, seed=seed)
        reasons = [Counter(s.error for s in lane if s.error is not None) for lane in samples]
        failed = [before + new for before, new in zip(failed, reasons, strict=True)]
        silent = [
            _silence(lane.target, why)
            for lane, why in zip(lanes, reasons, strict=True)
            if why.total() > _TOLERATED * len(lane.asks)
        ]
        if not silent:
            return [
                _Answers(samples=each, failed=why, started_at=started_at)
                for each, why in zip(samples, failed, strict=True)
            ]
        bench.say("; ".join(silent))
    # What the run's end cut off was late; what was refused before that was refused.
    if bench.left <= 0 and not any(why.keys() - {_LATE} for why in failed):
        raise _TimeIsUp
    every = sum(failed, Counter())
    unknown = "Give --model the name that it serves. " if "HTTP 404" in every else ""
    raise EndpointUnavailable(
        "; ".join(silent),
        id="endpoint.unreachable",
        got=", ".join(f"{count} x {why}" for why, count in every.most_common()),
        hint=f"{unknown}What was measured is kept: the same command goes on from there.",
    )


def _silence(target: Target, why: Counter[str]) -> str:
    """That a target does not answer, or with what status to which model."""
    reasons = ", ".join(why)
    if reasons.startswith("HTTP "):
        return f"{target.name} answers {reasons} to model {target.model!r}"
    return f"{target.name} does not answer ({reasons})"


def _widest(plan: Plan, cell: Cell, blocks: Sequence[Block]) -> float | None:
    """Half the widest interval of the headline's overhead; ``None`` where there is none yet.

    Of one target alone: of the headline itself, as a share of it.
    """
    base, *others = (target.name for target in plan.targets)
    if not others:
        alone = [row.value for row in summarize(blocks, base) if row.metric.id == cell.headline]
        return alone[0].half / alone[0].middle if alone else None
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
