"""Verify a recorded attestation, and say which claims rest on somebody's word.

Usage: python examples/verify_recorded.py CAPTURE [POLICY]
"""

from __future__ import annotations

import sys

import teeverify


def main(folder: str, policy: str = "genuine") -> int:
    """Verify one recording; the exit code is teeverify's own."""
    result = teeverify.appraise(folder, policy=policy, offline=True)
    print(result.summary)
    for name, claim in result.claims.items():
        if claim.by is not None:
            print(f"  {name}: {claim.by} says so")
    return result.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
