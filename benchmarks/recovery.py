"""Does the benchmark's interval mean something? Known delays, recovered or not, many times.

Two endpoints without an engine differ by a known delay a token and a known delay a request. Each
run measures them from nothing; its intervals of the two tolls hold the known delays, or do not.
At least 95 of 100 runs must.

    python -m benchmarks.recovery [RUNS]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

from teeverify.bench.fake import Timing, fake_endpoint
from teeverify.bench.journal import Journal
from teeverify.bench.load import Load, Target
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Cell, Plan
from teeverify.bench.pool import Pool, open_pool
from teeverify.bench.run import run_plan
from teeverify.bench.workload import parse_workload

STEP_MS, FIRST_MS = 0.1, 1.0
_BASE = Timing(first=0.005, step=0.002)
_OTHER = Timing(first=_BASE.first + FIRST_MS / 1e3, step=_BASE.step + STEP_MS / 1e3)
_CELL = Cell(workload=parse_workload("10+30"), load=Load(batch=2))


def recover(pool: Pool, urls: tuple[str, str], seed: str) -> dict[str, bool]:
    """One run: whether the interval of each toll holds the delay that was put in."""
    plan = Plan(
        targets=tuple(
            Target(name=name, url=url, model="none")
            for name, url in zip(("base", "other"), urls, strict=True)
        ),
        cells=(_CELL,),
        block_seconds=0.15,
        budget_seconds=0.0,  # the least number of blocks, however wide the interval
        min_blocks=6,
        seed=seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "blocks.jsonl", plan.digest)
        run_plan(plan, pool, journal, verify=lambda _target, _samples: {}, say=lambda _line: None)
        found = {
            each.metric.id: each.toll for each in compare_cell(journal.blocks, "base", "other")
        }
    return {
        name: (toll := found[metric]) is not None and toll.low <= known <= toll.high
        for name, metric, known in (
            (f"{STEP_MS} ms a token", "tpot", STEP_MS),
            (f"{FIRST_MS} ms a request", "ttft", FIRST_MS),
        )
    }


def main(runs: int) -> int:
    """Print how many runs recovered each delay; 0 if at least 95 of 100 did."""
    held: Counter[str] = Counter()
    with fake_endpoint(_BASE) as base, fake_endpoint(_OTHER) as other, open_pool(1) as pool:
        for run in range(runs):
            held.update(recover(pool, (base, other), f"run {run}"))
    for name, count in held.items():
        print(f"{name}: inside the interval in {count} of {runs} runs")
    return 0 if min(held.values()) >= 0.95 * runs else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
