"""Does the benchmark's interval mean something? Known delays, recovered or not, many times.

Three endpoints without an engine: a baseline, another just like it, and one that takes longer by a
known delay a step (each token) and by a known delay a transfer (once a request, to its first
token). Each run measures them from nothing. Its intervals of the tolls hold the known delays or do
not; its intervals of the endpoint that is just like the baseline hold 0 or do not, and if not, an
overhead is claimed that is none. At least 95 of 100 runs must be right, of each figure.

In turns at batch 1, and in blocks at batch 2. The third case is the hard one: all endpoints are
noisy together, with a standard deviation 15 times the delay, as those in front of one busy engine
are; there the interval must also be narrower than the delay itself.

    python -m benchmarks.recovery [RUNS]
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.bench.fake import Timing, fake_endpoints
from teeverify.bench.journal import Journal
from teeverify.bench.load import Load, Target
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Cell, Plan
from teeverify.bench.pool import Pool, open_pool
from teeverify.bench.run import run_plan
from teeverify.bench.workload import parse_workload

if TYPE_CHECKING:
    from teeverify.bench.overhead import Comparison

STEP_MS, TRANSFER_MS = 0.1, 1.0
BOTH = {"tpot": STEP_MS, "ttft": TRANSFER_MS}
BASE, ALIKE, SLOWER = NAMES = ("base", "alike", "slower")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How the endpoints are asked, and what is known of them.

    Attributes:
        name: Its name in the output.
        cell: What they are asked.
        noise: Standard deviation of what all endpoints add to the first token, in seconds.
        block_seconds: How long a block is.
        min_blocks: How many there are.
        known: The delays of the slower one, by metric, in milliseconds.
        narrow: Half of each interval must be at most this, in milliseconds, in the median run.
    """

    name: str
    cell: Cell
    noise: float = 0.0
    block_seconds: float
    min_blocks: int
    known: dict[str, float]
    narrow: float = float("inf")

    def timing(self, name: str) -> Timing:
        """Of one of the endpoints."""
        late = self.known if name == SLOWER else {}
        return Timing(
            first=0.005 + late.get("ttft", 0.0) / 1e3,
            step=0.002 + late.get("tpot", 0.0) / 1e3,
            noise=self.noise,
        )


CASES = (
    Case(
        name="batch 1, in turns",
        cell=Cell(workload=parse_workload("10+30"), load=Load(batch=1)),
        block_seconds=0.3,
        min_blocks=6,
        known=BOTH,
    ),
    Case(
        name="batch 2, in blocks",
        cell=Cell(workload=parse_workload("10+30"), load=Load(batch=2)),
        block_seconds=0.15,
        min_blocks=6,
        known=BOTH,
    ),
    Case(
        name="first token under noise, in turns",
        cell=Cell(workload=parse_workload("ttft"), load=Load(batch=1)),
        noise=0.015,
        block_seconds=0.5,
        min_blocks=8,
        known={"ttft": TRANSFER_MS},
        narrow=TRANSFER_MS,
    ),
)


def measure(case: Case, pool: Pool, urls: list[str], seed: str) -> dict[str, list[Comparison]]:
    """One run: what it says of each endpoint against the baseline, where that is known."""
    plan = Plan(
        targets=tuple(
            Target(name=name, url=url, model="none") for name, url in zip(NAMES, urls, strict=True)
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
        name: [c for c in compare_cell(journal.blocks, BASE, name) if c.metric.id in case.known]
        for name in (ALIKE, SLOWER)
    }


def recovered(case: Case, runs: int) -> bool:
    """Print how many runs were right of each figure; whether 95 of 100 were, narrowly enough."""
    with contextlib.ExitStack() as stack:
        urls = stack.enter_context(fake_endpoints(*map(case.timing, NAMES)))
        pool = stack.enter_context(open_pool(1))
        found = [measure(case, pool, urls, f"run {run}") for run in range(runs)]
    good = True
    for metric, known in case.known.items():
        tolls = {
            name: [c.toll for run in found for c in run[name] if c.metric.id == metric and c.toll]
            for name in (ALIKE, SLOWER)
        }
        held = sum(toll.low <= known <= toll.high for toll in tolls[SLOWER])
        null = sum(not toll.clear for toll in tolls[ALIKE])
        claims = sum(c.overhead.clear for run in found for c in run[ALIKE] if c.metric.id == metric)
        half = statistics.median(toll.half for toll in tolls[SLOWER])
        print(
            f"{case.name}: {metric}: {known} ms is in the interval of {held} of {runs} runs "
            f"(±{half:.2f} ms in the median run); where there is no delay, 0 is in that of {null}, "
            f"and {claims} claim a percentage",
            flush=True,
        )
        good = good and min(held, null, runs - claims) >= 0.95 * runs and half <= case.narrow
    return good


def main(runs: int) -> int:
    """All cases; 0 if each was recovered."""
    outcomes = [recovered(case, runs) for case in CASES]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
