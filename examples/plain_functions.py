"""Verify an answer with plain functions on bytes: no client, no session, nothing is sent.

The files are what an endpoint sent: its report, the request and the answer as they went over the
wire, and what its signature route returned.

Usage: python examples/plain_functions.py REPORT REQUEST ANSWER SIGNATURE NONCE [TEST_ROOTS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import teeverify


def main(
    report: str,
    request: str,
    answer: str,
    signature: str,
    nonce: str,
    test_roots: str | None = None,
) -> int:
    """Verify one answer; the exit code is teeverify's own."""
    roots = teeverify.UnsafeTestRoots.load(test_roots) if test_roots else None
    try:
        result = teeverify.verify(
            Path(report).read_bytes(),
            dialect="dstack",
            nonce=nonce,
            request=Path(request).read_bytes(),
            answer=Path(answer).read_bytes(),
            signature=Path(signature).read_bytes(),
            roots=roots,
        )
    except teeverify.TeeVerifyError as error:
        print(error.result.summary if error.result is not None else error)
        return error.exit_code
    print(result.summary)
    print(f"signer {result.signer}, as of {result.as_of:%Y-%m-%d}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
