"""Does what peers' scripts do with an answer: a program for the environment of their packages.

    python peers_calls.py QUESTIONS.json

Nothing of teeverify is imported. For each line that it reads, ``answer`` or ``quote``, it does that
once and writes the milliseconds for which it kept a core busy; so that two programs can take turns.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import dcap_qvl
from eth_account import Account
from eth_account.messages import encode_defunct


def main(asked: dict[str, Any]) -> None:
    """Take turns with whoever writes the lines."""
    signed, quote = asked["signature"], bytes.fromhex(asked["quote"])
    root = bytes.fromhex(asked["root"])

    def answer() -> str:
        """Recover the signer; whoever calls this compares it, and the hashes."""
        message = encode_defunct(text=signed["text"])
        return str(Account.recover_message(message, signature=signed["signature"]))

    def verify_quote() -> object:
        """Read the collateral and verify the quote."""
        collateral = dcap_qvl.QuoteCollateralV3.from_json(asked["collateral"])
        return dcap_qvl.verify_with_root_ca(quote, collateral, root, asked["at"])

    if answer().lower() != signed["signing_address"].lower():
        sys.exit("another signer")
    calls = {"answer": answer, "quote": verify_quote}
    for line in sys.stdin:
        start = time.process_time()
        calls[line.strip()]()
        sys.stdout.write(f"{(time.process_time() - start) * 1000}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
