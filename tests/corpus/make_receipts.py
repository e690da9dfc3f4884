"""Writes the receipts that every later version must verify; run once a version of the format.

Usage: python tests/corpus/make_receipts.py
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from teeverify.client.receipts import Receipt
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee
from teeverify.simulator.timestamps import TimestampAuthority

AT = datetime(2026, 11, 23, 1, 0, tzinfo=timezone.utc)
FOLDER = Path(__file__).parent / "receipts" / "1"


def main() -> None:
    """Make one machine, one answer, and its receipt in three forms."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    tee = SimulatedTee(at=AT, gpus=1)
    tee.write_roots(FOLDER / "roots.pem")
    receipt = Receipt(ReceiptForge(tee, at=AT).receipt("What is two and two?"))
    receipt.save(FOLDER / "bytes.json", include="bytes")
    receipt.save(FOLDER / "hashes.json")
    authority = TimestampAuthority()
    (FOLDER / "timestamp-roots.pem").write_bytes(authority.roots_pem())
    token = authority.stamp(receipt.parts.digest, AT.replace(minute=5))
    receipt.with_timestamp(token).save(FOLDER / "timestamped.json", include="bytes")


if __name__ == "__main__":
    main()
