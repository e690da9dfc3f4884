"""Recordings of fake providers: exchanges, the vendors' answers beside them, a manifest."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from teeverify.clock import show_time
from teeverify.simulator.intel_records import write_capture

__all__ = ["Exchange", "write_exchanges", "write_recording"]

_KDS = "https://kdsintf.amd.com"
_NRAS = "https://nras.attestation.nvidia.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One answer to be recorded.

    Attributes:
        url: The URL without its query.
        body: The answer.
        query: The URL's query.
        peer_spki: The TLS key at the other end, in DER.
    """

    url: str
    body: bytes
    query: Mapping[str, str] = field(default_factory=dict)
    peer_spki: bytes | None = None


def write_exchanges(folder: Path, exchanges: Sequence[Exchange], *, first: int = 1) -> None:
    """Write numbered exchanges.

    Args:
        folder: Where; made if it is not there.
        exchanges: What was answered.
        first: Number of the first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, exchange in enumerate(exchanges, first):
        query = f"?{urlencode(exchange.query)}" if exchange.query else ""
        head: dict[str, Any] = {
            "method": "GET",
            "url": exchange.url + query,
            "status": 200,
            "headers": {},
        }
        if exchange.peer_spki is not None:
            head["peer_spki_der_base64"] = base64.b64encode(exchange.peer_spki).decode("ascii")
        stem = f"{number:04d}_answer"
        (folder / f"{stem}.body").write_bytes(exchange.body)
        (folder / f"{stem}.http.json").write_text(json.dumps(head), encoding="utf-8")


def write_recording(  # noqa: PLR0913 -- one argument a part
    folder: Path,
    exchanges: Sequence[Exchange],
    *,
    at: datetime,
    manifest: Mapping[str, Any],
    tdx: Mapping[str, str] | None = None,
    snp: Mapping[str, bytes] | None = None,
    nras: tuple[bytes, bytes] | None = None,
) -> Path:
    """Write what a recorder would have kept.

    Args:
        folder: Where; made if it is not there.
        exchanges: The provider's answers.
        at: When it was recorded.
        manifest: Members of the manifest; ``None`` leaves one out.
        tdx: Intel's endorsements.
        snp: What AMD's key service answers, by path of its URL.
        nras: NVIDIA's answer about the GPUs, and the list of its keys.

    Returns:
        The folder.
    """
    write_exchanges(folder, exchanges)
    if nras is not None:
        answer, keys = nras
        of_nvidia = [
            Exchange(url=f"{_NRAS}/v3/attest/gpu", body=answer),
            Exchange(url=f"{_NRAS}/.well-known/jwks.json", body=keys),
        ]
        write_exchanges(folder, of_nvidia, first=10)
    if snp is not None:
        of_amd = [Exchange(url=_KDS + path, body=body) for path, body in snp.items()]
        write_exchanges(folder, of_amd, first=20)
    if tdx is not None:
        write_capture(folder, tdx, first=40)
    facts = {"captured_at": show_time(at), **manifest}
    kept = {name: value for name, value in facts.items() if value is not None}
    (folder / "manifest.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder
