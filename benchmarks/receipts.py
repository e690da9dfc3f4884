"""Times the verification of many receipts of one attestation, on one core."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from teeverify.appraisal import Policy
from teeverify.audit import Settings, audit, write_records
from teeverify.client.receipts import Receipt
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee

RECEIPTS = 1000
AT_LEAST = 10_000


def print_receipts_report() -> None:
    """Print how many receipts a core verifies in a minute of its own time, and how many it must."""
    tee = SimulatedTee(gpus=8)
    forge = ReceiptForge(tee)
    made = [Receipt(forge.receipt(f"question {number}")) for number in range(RECEIPTS)]
    settings = Settings(policy=Policy.genuine(), roots=UnsafeTestRoots([tee.roots_pem()]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "receipts.jsonl"
        write_records(path, made, bodies=True)
        start = time.process_time()
        report = audit([path], settings, workers=1)
        seconds = time.process_time() - start
    good = report.counts.get(0, 0)
    print(
        f"\nReceipts of one attestation with 8 GPUs (forged), one core: {good} of {RECEIPTS} good"
    )
    print(f"{'receipts a core and minute':32}{RECEIPTS / seconds * 60:>10.0f}{'':10}{AT_LEAST:>9}")
