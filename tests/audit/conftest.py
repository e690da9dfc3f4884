"""Receipts of one simulated machine, and a reader's settings."""

from __future__ import annotations

import pytest

from teeverify.appraisal import Policy
from teeverify.audit import Settings
from teeverify.client.receipts import Receipt
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee


@pytest.fixture(scope="session")
def tee() -> SimulatedTee:
    return SimulatedTee(gpus=1)


@pytest.fixture(scope="session")
def forge(tee) -> ReceiptForge:
    return ReceiptForge(tee)


@pytest.fixture(scope="session")
def receipts(forge) -> list[Receipt]:
    return [Receipt(forge.receipt(f"question {number}")) for number in range(7)]


@pytest.fixture
def settings(tee) -> Settings:
    return Settings(policy=Policy.genuine(), roots=UnsafeTestRoots([tee.roots_pem()]), offline=True)
