"""Verify all receipts of a directory or a file on all cores, and say what was found.

Usage: python examples/many_receipts.py RECEIPTS [TEST_ROOTS]
"""

from __future__ import annotations

import sys

from teeverify import Policy, UnsafeTestRoots
from teeverify.audit import Settings, audit


def main(receipts: str, test_roots: str | None = None) -> int:
    """Verify many receipts; the exit code is the worst of them."""
    roots = UnsafeTestRoots.load(test_roots) if test_roots else None
    report = audit([receipts], Settings(policy=Policy.genuine(), roots=roots))
    print(f"{len(report.rows)} receipts, by exit code: {report.counts}")
    for row in report.rows:
        if row.exit_code:
            print(f"{row.name}: {row.summary}")
    for names in report.equivocations:
        print(f"different answers under one id: {', '.join(names)}")
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
