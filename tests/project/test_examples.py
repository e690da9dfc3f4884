"""The examples run as their own first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.vectors
def test_verify_recorded(vectors):
    done = run("verify_recorded.py", vectors / "endpoints/captures/venice-20260610")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Genuine, but ")
    assert "fresh: the recorder says so" in done.stdout


@pytest.mark.vectors
def test_verify_recorded_strict(vectors):
    done = run("verify_recorded.py", vectors / "endpoints/captures/venice-20260610", "strict")
    assert done.returncode == 1
    assert done.stdout.startswith("Refused by your policy (strict): ")


@pytest.mark.vectors
def test_verify_quote(vectors):
    quote = vectors / "tdx/v4_b0c06f.quote.bin"
    collateral = vectors / "tdx/collateral_b0c06f_20250619.json"
    done = run("verify_quote.py", quote, collateral, "2025-07-04T10:16:31Z")
    assert done.returncode == 0
    assert "TCB status UpToDate" in done.stdout
    later = run("verify_quote.py", quote, collateral, "2026-07-04T10:16:31Z")
    assert later.returncode == 3
    assert later.stdout.startswith("refused: ")
