"""The evidence that is timed: a recorded real quote where there is one, else a forged one."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from teeverify.roots import Roots, UnsafeTestRoots, as_roots
from teeverify.simulator.intel import Intel

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED_AT = datetime(2025, 7, 4, 10, 16, 31, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Case:
    """One quote with what verifies it; ``roots`` is None for Intel's own root."""

    name: str
    quote: bytes
    collateral: str
    root_der: bytes
    at: datetime
    roots: UnsafeTestRoots | None = None

    def knowing_no_authorities(self) -> Roots:
        """The same roots, with none of Intel's authorities written down below them."""
        roots = as_roots(self.roots)
        return replace(
            roots, intel=tuple(replace(one, issued_sha256=frozenset()) for one in roots.intel)
        )


def find_case() -> Case:
    """The recorded quote of the folder TEEVERIFY_VECTORS, or a forged one."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors")) / "tdx"
    return _recorded(folder) if folder.is_dir() else _forged()


def _recorded(folder: Path) -> Case:
    return Case(
        name="recorded",
        quote=(folder / "v4_b0c06f.quote.bin").read_bytes(),
        collateral=(folder / "collateral_b0c06f_20250619.json").read_text(encoding="utf-8"),
        root_der=(folder / "intel_sgx_root_ca.der").read_bytes(),
        at=RECORDED_AT,
    )


def _forged() -> Case:
    intel = Intel(at=RECORDED_AT)
    root_pem = intel.roots_pem()
    return Case(
        name="forged",
        quote=intel.quote(),
        collateral=json.dumps(intel.collateral()),
        root_der=ssl.PEM_cert_to_DER_cert(root_pem.decode()),
        at=RECORDED_AT,
        roots=UnsafeTestRoots([root_pem]),
    )
