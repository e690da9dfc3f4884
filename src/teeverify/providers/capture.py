"""Recorded answers: a directory with ``manifest.json`` and numbered HTTP exchanges.

The form is fixed in docs/recorded-answers. Everything in it, the time and the nonce too, is the
recorder's word until something proves it.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.evidence import Evidence
from teeverify.clock import parse_time
from teeverify.encoding.fields import JsonObject
from teeverify.endorsements import read_exchanges, read_file
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.registry import dialect_for

__all__ = ["load_capture"]

_ID = "capture"


def load_capture(folder: Path, *, dialect: str | None = None) -> Evidence:
    """Read a recorded directory.

    Args:
        folder: The directory.
        dialect: The caller's choice of dialect; otherwise the recorded URL's host decides.

    Raises:
        ConfigurationError: The directory or a file cannot be read, or there is no such dialect.
        MalformedEvidence: A file does not have the form it must have.
    """
    manifest = JsonObject.parse(read_file(folder / "manifest.json"), path="manifest", id=_ID)
    chosen, recorded = _report(folder, dialect)
    return Evidence(
        kind="endpoint",
        provider=chosen.id,
        source=folder.name,
        machines=chosen.read(recorded),
        requested_model=manifest.text("model") if "model" in manifest else None,
        nonce=manifest.hex("nonce_hex", 32) if "nonce_hex" in manifest else None,
        recorded_at=_recorded_at(manifest),
        tdx_endorsements=tdx.Endorsements.load(folder),
        snp_endorsements=_of_amd(folder),
        nvidia_endorsements=nvidia.Endorsements.load(folder),
    )


def _of_amd(folder: Path) -> snp.Endorsements | None:
    endorsements = snp.Endorsements.load(folder)
    return None if endorsements.found.empty else endorsements


def _recorded_at(manifest: JsonObject) -> datetime | None:
    if "captured_at" not in manifest:
        return None
    try:
        return parse_time(manifest.text("captured_at"), what="captured_at")
    except ConfigurationError as error:
        raise MalformedEvidence(
            f"manifest.{error.message}",
            id=_ID,
            field="manifest.captured_at",
            got=error.got,
            want=error.want,
        ) from None


def _report(folder: Path, dialect: str | None) -> tuple[Dialect, Recorded]:
    """The exchange that is the provider's report, and the dialect it is in."""
    found: list[tuple[Dialect, Recorded]] = []
    for exchange in read_exchanges(folder):
        known = dialect_for(exchange.host, dialect)
        if known is None or exchange.path != known.report_path or not exchange.ok:
            continue
        spki = exchange.peer_spki
        recorded = Recorded(
            path=exchange.path,
            query=exchange.query,
            body=exchange.body(),
            peer_spki_sha256=hashlib.sha256(spki).digest() if spki else None,
        )
        found.append((known, recorded))
    if len(found) != 1:
        raise MalformedEvidence(
            "unsupported evidence format: the directory must hold exactly one provider's report",
            id=_ID,
            field="exchanges",
            need=1,
            have=len(found),
            hint="Name the dialect with --dialect; 'teeverify providers' lists them.",
        )
    return found[0]
