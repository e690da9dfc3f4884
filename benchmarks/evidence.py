"""The evidence that is timed: a recorded real quote where there is one, else a forged one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """One quote with what verifies it; ``roots`` is None for Intel's own root."""

    name: str
    quote: bytes
    collateral: str
    root_der: bytes
    at: datetime
    roots: tuple[bytes, ...] | None = None


def find_case() -> Case:
    """The recorded quote of the folder TEEVERIFY_VECTORS, or a forged one."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors")) / "tdx"
    return _recorded(folder) if folder.is_dir() else None


def _recorded(folder: Path) -> Case:
    return Case(
        name="recorded",
        quote=(folder / "v4_b0c06f.quote.bin").read_bytes(),
        collateral=(folder / "collateral_b0c06f_20250619.json").read_text(encoding="utf-8"),
        root_der=(folder / "intel_sgx_root_ca.der").read_bytes(),
        at=datetime(2025, 7, 4, 10, 16, 31, tzinfo=timezone.utc),
    )
