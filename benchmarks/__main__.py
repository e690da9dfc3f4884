"""Times the verification of a TDX quote, cold and warm, against dcap-qvl; parsing; and imports.

Cold: endorsements are read and everything is verified, but for the root's signatures over Intel's
authorities that are written down; a second row verifies those too, as dcap-qvl does. Warm: the same
endorsements object again, as for the second quote of a machine. The contenders take turns, so that
a busy moment of the computer hits all; in another order each round, because whoever follows its
like finds the processor's caches filled.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping

from benchmarks.client import print_client_report
from benchmarks.evidence import Case, find_case
from benchmarks.nvidia import print_report as print_gpu_report
from benchmarks.receipts import print_receipts_report
from benchmarks.server import print_server_report
from benchmarks.snp import print_report
from teeverify import tdx
from teeverify.roots import RootsInput

PERCENTILES = 20  # in steps of 5 %: the first and last bound the middle 90 %


def contenders(case: Case) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    import dcap_qvl  # noqa: PLC0415 -- only the benchmark needs it

    warm = tdx.Endorsements.load(case.collateral)
    collateral = dcap_qvl.QuoteCollateralV3.from_json(case.collateral)
    seconds = int(case.at.timestamp())

    every = case.knowing_no_authorities()

    def ours(endorsements: tdx.Endorsements, roots: RootsInput = case.roots) -> tdx.Claims:
        return tdx.verify_quote(case.quote, endorsements, at=case.at, roots=roots)

    return {
        "teeverify, cold": lambda: ours(tdx.Endorsements.load(case.collateral)),
        "..., all 9 signatures": lambda: ours(tdx.Endorsements.load(case.collateral), every),
        "teeverify, warm": lambda: ours(warm),
        "dcap-qvl": lambda: dcap_qvl.verify_with_root_ca(
            case.quote, collateral, case.root_der, seconds
        ),
        "dcap-qvl, reading JSON": lambda: dcap_qvl.verify_with_root_ca(
            case.quote,
            dcap_qvl.QuoteCollateralV3.from_json(case.collateral),
            case.root_der,
            seconds,
        ),
        "teeverify, parsing only": lambda: tdx.parse_quote(case.quote),
    }


IMPORTS = {
    "import cryptography.x509": "import cryptography.x509",
    "import teeverify.tdx": "import teeverify.tdx",
    "... and its first use": "from teeverify.tdx import Endorsements, verify_quote",
}
CLOCKED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def measure_imports(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each import in a new interpreter, taking turns, with compiled files."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for number in range(rounds + 1):
            for name, statement in IMPORTS.items():
                command = [sys.executable, "-c", CLOCKED.format(statement)]
                done = subprocess.run(  # noqa: S603 -- our own interpreter, and constants
                    command, env=environment, capture_output=True, check=True, text=True
                )
                if number:
                    times[name].append(float(done.stdout) * 1000)
    return times


def measure(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time of each run, taking turns; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    order = random.Random(0)  # noqa: S311 -- no secret: the same orders each time
    for number in range(rounds + 1):
        for name in order.sample(list(functions), len(functions)):
            start = time.thread_time()
            functions[name]()
            if number:
                times[name].append((time.thread_time() - start) * 1000)
    return times


def show(times: Mapping[str, list[float]], base: str) -> None:
    """Print medians, the span of the middle 90 % of the runs, and the ratio to one of them."""
    reference = statistics.median(times[base])
    for name, values in times.items():
        low, *_, high = statistics.quantiles(values, n=PERCENTILES)
        median = statistics.median(values)
        print(f"{name:26}{median:9.3f}{low:10.3f} -{high:8.3f}{median / reference:9.2f}")


BOUNDS = {"teeverify, cold": 1.6, "teeverify, warm": 0.4}


def show_bounds(times: Mapping[str, list[float]]) -> None:
    """Print each ratio to dcap-qvl.

    Of the medians, and of the quickest runs, which a busy computer disturbs least.
    """
    other = times["dcap-qvl, reading JSON"]
    for name, most in BOUNDS.items():
        median = statistics.median(times[name]) / statistics.median(other)
        quickest = min(times[name]) / min(other)
        print(f"{name}: {median:.2f} times dcap-qvl (quickest {quickest:.2f}), at most {most}")


def main() -> None:
    """Print a table of medians with the span of the middle 90 % of the runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    case = find_case()
    print(f"One TDX quote ({case.name}), milliseconds of processor time, {rounds} rounds")
    print(f"{'':26}{'median':>9}{'middle 90 %':>20}{'ratio':>9}")
    times = measure(contenders(case), rounds)
    show(times, "dcap-qvl, reading JSON")
    show_bounds(times)
    show(measure_imports(max(rounds // 20, 5)), "import cryptography.x509")
    print_report(rounds)
    print_gpu_report(rounds)
    print_client_report(rounds)
    print_receipts_report()
    print_server_report(max(rounds // 40, 3))


# Processes that the server's benchmark starts import this module again.
if __name__ == "__main__":
    main()
