"""Verify a bare TDX quote: what the CPU proves, before any policy.

Usage: python examples/verify_quote.py QUOTE COLLATERAL TIME
"""

from __future__ import annotations

import sys
from pathlib import Path

from teeverify import TeeVerifyError, tdx


def main(quote: str, collateral: str, at: str) -> int:
    """Verify one quote against one set of endorsements, at one time."""
    try:
        claims = tdx.verify_quote(
            Path(quote).read_bytes(), tdx.Endorsements.load(collateral), at=at
        )
    except TeeVerifyError as error:
        print(f"refused: {error}")
        return error.exit_code
    print(f"MRTD {claims.td.mr_td.hex()}")
    print(f"TCB status {claims.tcb_status.value}, advisories {list(claims.advisory_ids)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
