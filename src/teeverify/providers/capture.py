"""Recorded answers: a directory with ``manifest.json`` and numbered HTTP exchanges.

The form is fixed in docs/recorded-answers. Everything in it, the time and the nonce too, is the
recorder's word until something proves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.evidence import Evidence
from teeverify.clock import parse_time
from teeverify.encoding.fields import JsonObject
from teeverify.endorsements import read_exchanges, read_file
from teeverify.endorsements.exchanges import Exchange
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.registry import dialect_for
from teeverify.providers.routes import fill

__all__ = ["load_capture", "recorded_report"]

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
    manifest = _manifest(folder)
    chosen, recorded = recorded_report(folder, dialect)
    intel, gpus = tdx.Endorsements.load(folder), nvidia.Endorsements.load(folder)
    inside = chosen.enclosed(recorded.body)
    return Evidence(
        kind="endpoint",
        provider=chosen.id,
        source=folder.name,
        machines=chosen.machines(recorded),
        requested_model=manifest.text("model") if "model" in manifest else None,
        nonce=manifest.hex("nonce_hex", 32) if "nonce_hex" in manifest else None,
        recorded_at=_recorded_at(manifest),
        tdx_endorsements=intel if inside.tdx is None else tdx.Endorsements.union(intel, inside.tdx),
        snp_endorsements=_of_amd(folder),
        nvidia_endorsements=gpus
        if inside.nvidia is None
        else nvidia.Endorsements.union(gpus, inside.nvidia),
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


def _manifest(folder: Path) -> JsonObject:
    try:
        raw = read_file(folder / "manifest.json")
    except ConfigurationError as error:
        error.hint = "A directory must hold a recording ('teeverify capture'), or receipts."
        raise
    return JsonObject.parse(raw, path="manifest", id=_ID)


def recorded_report(folder: Path, dialect: str | None) -> tuple[Dialect, Recorded]:
    """The exchange that is the provider's report, and the dialect it is in.

    Raises:
        ConfigurationError: The directory cannot be read, or there is no such dialect.
        MalformedEvidence: There is not exactly one report in it.
    """
    exchanges = [exchange for exchange in read_exchanges(folder) if exchange.ok]
    found: list[tuple[Dialect, Recorded]] = []
    for exchange in exchanges:
        known = dialect_for(exchange.host, dialect)
        names = None if known is None else _names(known, exchange.path, named=dialect is not None)
        if known is None or names is None:
            continue
        recorded = Recorded(
            path=exchange.path,
            query=exchange.query,
            body=exchange.body(),
            peer_spki_sha256=exchange.peer_spki_sha256,
            host=exchange.host,
            beside={
                name: answer.body()
                for name, template in known.beside.items()
                for answer in _beside(exchanges, exchange.host, fill(template, names))
            },
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


def _names(known: Dialect, path: str, *, named: bool) -> dict[str, str] | None:
    """The named segments of a report's path; ``None`` where it is another path.

    Whoever names the dialect may have asked an endpoint whose routes lie below a path of its own.
    """
    starts = [index for index, each in enumerate(path) if each == "/"] if named else [0]
    found = (known.holes(path[start:]) for start in starts)
    return next((names for names in found if names is not None), None)


def _beside(exchanges: Sequence[Exchange], host: str, path: str) -> list[Exchange]:
    """The answer of a further route of the same host; two of them would be two truths."""
    found = [each for each in exchanges if (each.host, each.path) == (host, path)]
    if len(found) > 1:
        raise MalformedEvidence(
            "the directory holds several answers of one route that belongs to the report",
            id=_ID,
            field="exchanges",
            got=path[:80],
            need="at most 1",
            have=len(found),
        )
    return found
