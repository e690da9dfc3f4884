"""Times the verification of a TDX quote, cold and warm, against dcap-qvl.

Cold: endorsements are read and everything is verified. Warm: the same endorsements object again,
as for the second quote of a machine. The contenders take turns, so that a busy moment of the
computer hits all.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

from benchmarks.evidence import Case, find_case
from teeverify import tdx

PERCENTILES = 20  # in steps of 5 %: the first and last bound the middle 90 %


def contenders(case: Case) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    import dcap_qvl  # noqa: PLC0415 -- only the benchmark needs it

    warm = tdx.Endorsements.load(case.collateral)
    collateral = dcap_qvl.QuoteCollateralV3.from_json(case.collateral)
    seconds = int(case.at.timestamp())

    def ours(endorsements: tdx.Endorsements) -> tdx.Claims:
        return tdx.verify_quote(case.quote, endorsements, at=case.at, roots=case.roots)

    return {
        "teeverify, cold": lambda: ours(tdx.Endorsements.load(case.collateral)),
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
    }


def measure(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run, the functions taking turns; the first round only warms up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def main() -> None:
    """Print a table of medians with the span of the middle 90 % of the runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    case = find_case()
    print(f"One TDX quote ({case.name}), milliseconds, {rounds} rounds")
    print(f"{'':24}{'median':>8}{'middle 90 %':>18}")
    for name, values in measure(contenders(case), rounds).items():
        low, *_, high = statistics.quantiles(values, n=PERCENTILES)
        print(f"{name:24}{statistics.median(values):8.2f}{low:9.2f} -{high:7.2f}")


main()
