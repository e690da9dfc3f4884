"""Does the benchmark's interval mean something? Known delays, recovered or not, many times.

Endpoints without an engine differ by a known delay a token and a known delay to the first token.
Each run measures them from nothing; its intervals of the tolls hold the known delays, or do not.
At least 95 of 100 runs must. The second case is the hard one: both endpoints are noisy together,
with a standard deviation 15 times the delay, as two in front of one busy engine are; there the
interval must also be narrower than the delay itself.

    python -m benchmarks.recovery [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.bench.fake import Timing, fake_endpoint
from teeverify.bench.journal import Journal
from teeverify.bench.load import Load, Target
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Cell, Plan
from teeverify.bench.pool import Pool, open_pool
from teeverify.bench.run import run_plan
from teeverify.bench.workload import parse_workload

if TYPE_CHECKING:
    from teeverify.bench.statistics import Interval

STEP_MS, FIRST_MS = 0.1, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two endpoints that differ by known delays, and how they are asked.

    Attributes:
        name: Its name in the output.
        cell: What they are asked.
        noise: Standard deviation of what both endpoints add to the first token, in seconds.
        block_seconds: How long a block is.
        min_blocks: How many there are.
        known: The delays, by metric, in milliseconds.
        narrow: Half of each interval must be at most this, in milliseconds, in the median run.
    """

    name: str
    cell: Cell
    noise: float = 0.0
    block_seconds: float
    min_blocks: int
    known: dict[str, float]
    narrow: float = float("inf")

    @property
    def timings(self) -> tuple[Timing, Timing]:
        """Of the baseline, and of the other."""
        step = self.known.get("tpot", 0.0) / 1e3
        return (
            Timing(first=0.005, step=0.002, noise=self.noise),
            Timing(first=0.005 + self.known["ttft"] / 1e3, step=0.002 + step, noise=self.noise),
        )


CASES = (
    Case(
        name="batch 2",
        cell=Cell(workload=parse_workload("10+30"), load=Load(batch=2)),
        block_seconds=0.15,
        min_blocks=6,
        known={"tpot": STEP_MS, "ttft": FIRST_MS},
    ),
    Case(
        name="first token under noise",
        cell=Cell(workload=parse_workload("ttft"), load=Load(batch=1)),
        noise=0.015,
        block_seconds=0.5,
        min_blocks=8,
        known={"ttft": FIRST_MS},
        narrow=FIRST_MS,
    ),
)


def measure_tolls(case: Case, pool: Pool, urls: tuple[str, str], seed: str) -> dict[str, Interval]:
    """One run: the interval of each toll that is known."""
    plan = Plan(
        targets=tuple(
            Target(name=name, url=url, model="none")
            for name, url in zip(("base", "other"), urls, strict=True)
        ),
        cells=(case.cell,),
        block_seconds=case.block_seconds,
        budget_seconds=0.0,  # the least number of blocks, however wide the interval
        min_blocks=case.min_blocks,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "blocks.jsonl", plan.digest)
        run_plan(plan, pool, journal, verify=lambda _target, _samples: {}, say=lambda _line: None)
        return {
            each.metric.id: each.toll
            for each in compare_cell(journal.blocks, "base", "other")
            if each.metric.id in case.known and each.toll is not None
        }


def recovered(case: Case, runs: int) -> bool:
    """Print how many runs recovered each delay; whether at least 95 of 100 did, narrowly enough."""
    base, other = case.timings
    with fake_endpoint(base) as ours, fake_endpoint(other) as theirs, open_pool(1) as pool:
        found = [measure_tolls(case, pool, (ours, theirs), f"run {run}") for run in range(runs)]
    good = True
    for metric, known in case.known.items():
        held = sum(tolls[metric].low <= known <= tolls[metric].high for tolls in found)
        half = statistics.median(tolls[metric].half for tolls in found)
        print(
            f"{case.name}: {known} ms in {metric}: inside the interval in {held} of {runs} runs; "
            f"±{half:.2f} ms in the median run",
            flush=True,
        )
        good = good and held >= 0.95 * runs and half <= case.narrow
    return good


def main(runs: int) -> int:
    """All cases; 0 if each was recovered."""
    outcomes = [recovered(case, runs) for case in CASES]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
