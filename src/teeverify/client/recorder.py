"""Record what an endpoint shows, so that it can be verified later, offline, by anybody.

Only what was asked for is kept: URL, status, content type, the exact body, and the fingerprint of
the TLS key. No request header is written, so no key; no other header of an answer, so no cookie.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from teeverify import nvidia, snp, tdx
from teeverify.appraisal.evidence import Evidence
from teeverify.client.network.endpoint import Endpoint
from teeverify.client.network.fetch import Fetch, Get, Got
from teeverify.client.network.fetch_requests import RequestsFetch
from teeverify.client.network.steps import Blocking
from teeverify.client.session.attestation import ask
from teeverify.client.verifier import Verifier
from teeverify.clock import now, show_time
from teeverify.errors import ConfigurationError
from teeverify.nvidia.services import NVIDIA_NRAS, NVIDIA_OCSP, NVIDIA_RIM
from teeverify.tdx.pcs import INTEL_PCS, ROOT_CRL_URL

__all__ = ["Recording", "record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What was recorded. Nothing of it was verified.

    Attributes:
        folder: Where it is.
        dialect: The endpoint's dialect, which whoever verifies it may have to name.
        exchanges: How many answers there are.
        missing: What could not be had besides, for people.
    """

    folder: Path
    dialect: str
    exchanges: int
    missing: tuple[str, ...]


def record(
    base_url: str,
    folder: str | Path,
    *,
    model: str | None = None,
    dialect: str | None = None,
    timeout: float = 30.0,
    verifier: Verifier | None = None,
) -> Recording:
    """Ask an endpoint for its evidence under a new nonce, and keep every answer.

    Args:
        base_url: The endpoint, as for :func:`teeverify.connect`.
        folder: A directory that is not there yet, or is empty.
        model: The model to ask for.
        dialect: How the endpoint shows its evidence, where its host does not tell.
        timeout: Seconds that one request may take.
        verifier: Where the vendors' endorsements come from.

    Raises:
        ConfigurationError: No such endpoint, or the directory cannot be written.
        EndpointUnavailable: It gives no report.
        MalformedEvidence: The report has another form.
    """
    endpoint = Endpoint.parse(base_url, dialect=dialect)
    target = _empty(Path(folder))
    fetch = _Recorder(RequestsFetch(trust_env=endpoint.trust_env))
    reply = Blocking(fetch).run(ask(endpoint, model=model, timeout=timeout))
    moment = now()
    examined = (verifier or Verifier()).examine(reply.evidence, at=moment)
    writer = _Writer(target)
    for get, got in fetch.exchanges:
        headers = {"content-type": got.content_type}
        writer.exchange(get.what, get.url, got.body, headers=headers, got=got)
    writer.endorsements(examined.evidence, reply.evidence)
    facts = {
        "provider": endpoint.dialect.id,
        "model": model,
        "nonce_hex": reply.evidence.nonce.hex() if reply.evidence.nonce is not None else None,
        "captured_at": show_time(moment),
    }
    kept = {name: value for name, value in facts.items() if value is not None}
    writer.write("manifest.json", json.dumps(kept, indent=1).encode() + b"\n")
    return Recording(
        folder=target,
        dialect=endpoint.dialect.id,
        exchanges=writer.count,
        missing=examined.evidence.notes,
    )


def _empty(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from None
    if full:
        raise ConfigurationError(
            "the directory is not empty", id="usage.capture", got=str(folder)[:200]
        )
    return folder


def _unwritable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"the recording cannot be written: {getattr(error, 'strerror', None) or 'no path'}",
        id="usage.capture",
        got=str(path)[:200],
    )


@dataclass(slots=True)
class _Recorder:
    """A fetcher that remembers what it fetched."""

    fetch: Fetch
    exchanges: list[tuple[Get, Got]] = field(default_factory=list)

    def __call__(self, get: Get) -> Got:
        got = self.fetch(get)
        self.exchanges.append((get, got))
        return got


@dataclass(slots=True)
class _Writer:
    """Writes exchanges, numbered, in the format of docs/recorded-answers."""

    folder: Path
    count: int = 0

    def write(self, name: str, data: bytes) -> None:
        try:
            (self.folder / name).write_bytes(data)
        except OSError as error:
            raise _unwritable(self.folder / name, error) from None

    def exchange(
        self,
        name: str,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        got: Got | None = None,
    ) -> None:
        self.count += 1
        stem = f"{self.count:04d}_{name.lower().replace(' ', '_')}"
        head = {
            "method": "GET",
            "url": url,
            "status": 200 if got is None else got.status,
            "headers": {key: [value] for key, value in headers.items()},
        }
        if got is not None and got.peer is not None:
            head["peer_spki_sha256"] = got.peer.hex()
        self.write(f"{stem}.body", body)
        self.write(f"{stem}.http.json", json.dumps(head, indent=1).encode() + b"\n")

    def endorsements(self, completed: Evidence, shown: Evidence) -> None:
        """Write what the endpoint did not show itself."""
        intel = completed.tdx_endorsements
        if intel is not None and shown.tdx_endorsements is None:
            for url, body, headers in _of_intel(intel):
                self.exchange("intel", url, body, headers=headers)
        gpus = completed.nvidia_endorsements
        if gpus is not None and shown.nvidia_endorsements is None:
            for url, body in _of_nvidia(gpus):
                self.exchange("nvidia", url, body, headers={})
            for number, crl in enumerate(gpus.crls[:10]):
                self.write(f"l{number}-recorded.crl", crl)
        if completed.snp_endorsements is not None:
            for name, der in _of_amd(completed.snp_endorsements):
                self.write(name, der)


def _of_intel(endorsements: tdx.Endorsements) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    pool = endorsements.pool
    for info in (entry.item for entry in pool.tcb_infos):
        route = f"{INTEL_PCS}/{info.tee.lower()}/certification/v4/tcb?fmspc={info.fmspc.hex()}"
        body = b'{"tcbInfo":%b,"signature":"%b"}' % (info.signed, info.signature.hex().encode())
        yield route, body, _chain("Tcb-Info-Issuer-Chain", info.issuer_chain)
    for identity in (entry.item for entry in pool.qe_identities):
        route = f"{INTEL_PCS}/{identity.tee.lower()}/certification/v4/qe/identity"
        hexed = identity.signature.hex().encode()
        body = b'{"enclaveIdentity":%b,"signature":"%b"}' % (identity.signed, hexed)
        yield route, body, _chain("Sgx-Enclave-Identity-Issuer-Chain", identity.issuer_chain)
    for entry in pool.pck_crls:
        ca = "processor" if b"Processor" in entry.item.issuer else "platform"
        route = f"{INTEL_PCS}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"
        yield route, entry.item.der, {}
    for entry in pool.root_crls:
        yield ROOT_CRL_URL, entry.item.der, {}


def _chain(name: str, pem: bytes | None) -> dict[str, str]:
    return {} if pem is None else {name: quote(pem)}


def _of_nvidia(endorsements: nvidia.Endorsements) -> Iterator[tuple[str, bytes]]:
    for body in endorsements.nras_answers:
        yield f"{NVIDIA_NRAS}/v3/attest/gpu", body
    for body in endorsements.jwks:
        yield f"{NVIDIA_NRAS}/.well-known/jwks.json", body
    for rim in endorsements.rims:
        answer = {
            "id": rim.id,
            "rim": base64.b64encode(rim.xml).decode("ascii"),
            "sha256": hashlib.sha256(rim.xml).hexdigest(),
        }
        yield f"{NVIDIA_RIM}/v1/rim/{rim.id}", json.dumps(answer).encode("ascii")
    for body in endorsements.ocsp:
        yield f"{NVIDIA_OCSP}/", body


def _of_amd(endorsements: snp.Endorsements) -> Iterator[tuple[str, bytes]]:
    found = endorsements.found
    for number, leaf in enumerate(found.leaves):
        yield f"vcek_{number}.der", leaf.der
    for number, authority in enumerate(found.authorities):
        yield f"ask_{number}.der", authority.der
    for number, crl in enumerate(found.crls):
        yield f"ark_crl_{number}.der", crl.der
