"""Tinfoil: enclaves that show a document about their TLS key, their HPKE key and their GPUs.

``GET /.well-known/tinfoil-attestation``: with ``?nonce=`` a document of version 3, without one of
version 2. Answers carry no signature: what an answer was, only those know who were connected to
the attested TLS key, or encrypted to the attested HPKE key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping
from dataclasses import replace

from teeverify.appraisal.evidence import Machine, Role
from teeverify.binding import Bound
from teeverify.crypto.certificates import Certificate, parse_pem_chain
from teeverify.crypto.ecdsa import verify_der
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.gzipped import gunzip
from teeverify.encoding.strict import base64_bytes, json_members
from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.providers.dialect import Dialect, Recorded
from teeverify.providers.dstack import ID
from teeverify.providers.hpke import hpke_key_of_configs, hpke_key_of_names
from teeverify.providers.routes import Ask, Asking, Told

__all__ = ["TINFOIL", "TINFOIL_BUNDLE", "TINFOIL_V2", "read_bundle", "read_v2", "read_v3"]

_PATH = "/.well-known/tinfoil-attestation"
_KEYS = "/.well-known/hpke-keys"
_ROUTER = "inference.tinfoil.sh"
_PREDICATE = "https://tinfoil.sh/predicate"
_V3 = f"{_PREDICATE}/attestation/v3"
_V2 = {f"{_PREDICATE}/sev-snp-guest/v2": "sev-snp", f"{_PREDICATE}/tdx-guest/v2": "tdx"}
_MOST_BYTES = 64 * 1024
_LABELS: Mapping[str, str] = {"gateway": "router", "model": "enclave"}
_SIGNATURE = re.compile(rb'("signature"\s*:\s*)"[^"\\]*"')


def read_v3(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a document of version 3.

    Raises:
        MalformedEvidence: A field is missing or has another form, or it is another version.
        BindingMismatch: Certificate, key and hashes in the document contradict each other.
        SignatureInvalid: The document is not signed by its TLS key.
    """
    document = JsonObject.parse(exchange.body, path="document", id=ID)
    _require_format(document, {_V3}, "tinfoil-v2")
    stated = document.object("report_data")
    fingerprint = stated.hex("tls_key_fp", 32)
    certificate = _certificate(document.text("certificate"))
    _same_key(certificate, fingerprint)
    _signed(document, certificate, exchange.body)
    parts = json_members(exchange.body, field="document", id=ID)
    cpu = document.object("cpu")
    quote, report = _cpu(cpu.text("platform"), cpu.base64("report"))
    role = _role(exchange)
    machine = Machine(
        role=role,
        label=_LABELS[role],
        quote=quote,
        snp_report=report,
        layout="tinfoil-v3",
        tls_spki_sha256=fingerprint,
        peer_spki_sha256=exchange.peer_spki_sha256,
        commits=Bound(
            hpke_key=stated.hex("hpke_key", 32),
            gpu_evidence_sha256=_evidence_hash(parts, stated, "gpu"),
            nvswitch_evidence_sha256=_evidence_hash(parts, stated, "nvswitch"),
        ),
        gpus=_devices(document),
        nonce=stated.hex("nonce", 32),
    )
    return (machine,)


def _role(exchange: Recorded) -> Role:
    """Behind the router's host are model enclaves of their own, which it attests itself."""
    return "gateway" if exchange.host == _ROUTER else "model"


def _require_format(document: JsonObject, known: set[str], other: str) -> str:
    found = document.text("format") if "format" in document else ""
    if found not in known:
        raise MalformedEvidence(
            "unsupported evidence format: another version of Tinfoil's document",
            id=ID,
            field="document.format",
            got=found[:80] or "none",
            want=" or ".join(sorted(known)),
            hint=f"If it is what you asked for, name its dialect: --dialect {other}.",
        )
    return found


def _certificate(pem: str) -> Certificate:
    return parse_pem_chain(pem, id="endpoint.bound", what="the document's TLS certificate")[0]


def _same_key(certificate: Certificate, fingerprint: bytes) -> None:
    found = hashlib.sha256(certificate.spki).digest()
    if found != fingerprint:
        raise BindingMismatch(
            "the TLS certificate in the document does not hold the key that the document names",
            id="endpoint.bound",
            got=found.hex(),
            want=fingerprint.hex(),
        )


def _signed(document: JsonObject, certificate: Certificate, body: bytes) -> None:
    """ECDSA with SHA-256 over the document's exact bytes, in which the signature is empty.

    The server ends its answer with a line feed, which is no part of the document.
    """
    signature = document.base64("signature")
    message, count = _SIGNATURE.subn(rb'\1""', body.removesuffix(b"\n"))
    if count != 1:
        raise MalformedEvidence(
            "document.signature: not in exactly one place", id=ID, field="document.signature"
        )
    verify_der(
        certificate.public_key,
        signature,
        message,
        id=ID,
        what="the document, by its TLS key",
        with_sha256=True,
    )


def _evidence_hash(parts: dict[str, bytes], stated: JsonObject, name: str) -> bytes | None:
    """SHA-256 of the evidence's exact text; the document must state the same, or neither."""
    text = parts.get(name, b"null")
    found = None if text == b"null" else hashlib.sha256(text).digest()
    member = f"{name}_evidence_hash"
    claimed = stated.hex(member, 32) if member in stated else None
    if found != claimed:
        raise BindingMismatch(
            f"the document's {name} evidence is not the one whose hash it names",
            id="binding.report-data",
            got="no evidence" if found is None else found.hex(),
            want="none" if claimed is None else claimed.hex(),
        )
    return found


def _devices(document: JsonObject) -> list[object] | None:
    """GPUs, then switches, as one machine's devices."""
    found = [
        device
        for name in ("gpu", "nvswitch")
        if name in document
        for device in document.object(name).array("evidences")
    ]
    return found or None


def _cpu(platform: str, raw: bytes) -> tuple[bytes | None, bytes | None]:
    """The CPU's evidence: as a TDX quote, or as an AMD report."""
    if platform == "tdx":
        return raw, None
    if platform == "sev-snp":
        return None, raw
    raise MalformedEvidence(
        "unsupported evidence format: unknown platform",
        id=ID,
        field="document.cpu.platform",
        got=platform[:40],
        want="tdx or sev-snp",
    )


def read_v2(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a document of version 2; the HPKE key comes from the route that serves it.

    Raises:
        MalformedEvidence: A field is missing or has another form, or it is another version.
    """
    document = JsonObject.parse(exchange.body, path="document", id=ID)
    keys = exchange.beside.get("keys")
    machine = _machine_v2(
        document,
        role=_role(exchange),
        tls_spki_sha256=exchange.peer_spki_sha256,
        hpke_key=None if keys is None else hpke_key_of_configs(keys),
    )
    return (replace(machine, peer_spki_sha256=exchange.peer_spki_sha256),)


def _machine_v2(
    document: JsonObject, *, role: Role, tls_spki_sha256: bytes | None, hpke_key: bytes | None
) -> Machine:
    platform = _V2[_require_format(document, set(_V2), "tinfoil")]
    body = base64_bytes(document.text("body"), field="document.body", id=ID)
    raw = gunzip(body, limit=_MOST_BYTES, field="document.body", id=ID)
    quote, report = _cpu(platform, raw)
    return Machine(
        role=role,
        label=_LABELS[role],
        quote=quote,
        snp_report=report,
        layout="tinfoil-v2",
        tls_spki_sha256=tls_spki_sha256,
        commits=Bound(hpke_key=hpke_key),
    )


def read_bundle(exchange: Recorded) -> tuple[Machine, ...]:
    """Read a bundle: a document of version 2, the enclave's certificate, and AMD's of the chip.

    The certificate's names carry the HPKE key and the document's hash, so that it is this
    document's certificate. The release in the bundle is no part of the evidence: what it says
    counts once somebody verified it (``teeverify policy release``).

    Raises:
        MalformedEvidence: A field is missing or has another form.
        BindingMismatch: The certificate is another document's.
    """
    bundle = JsonObject.parse(exchange.body, path="bundle", id=ID)
    document = bundle.object("enclaveAttestationReport")
    certificate = _certificate(bundle.text("enclaveCert"))
    role: Role = "gateway" if bundle.text("domain") == _ROUTER else "model"
    signed = (document.text("format") + document.text("body")).encode("utf-8", "replace")
    machine = _machine_v2(
        document,
        role=role,
        tls_spki_sha256=hashlib.sha256(certificate.spki).digest(),
        hpke_key=hpke_key_of_names(certificate, signed),
    )
    return (
        replace(
            machine,
            certified=(certificate.not_before, certificate.not_after),
            snp_certificates=bundle.base64("vcek") if "vcek" in bundle else None,
        ),
    )


def _ask_v3(asking: Asking) -> Generator[Ask, Told, Recorded]:
    query = {"nonce": asking.nonce.hex()}
    told = yield Ask(what="report", path=_PATH, query=query)
    return Recorded(
        path=_PATH,
        query=query,
        body=told.body,
        peer_spki_sha256=told.peer_spki_sha256,
        host=asking.host,
    )


def _ask_v2(asking: Asking) -> Generator[Ask, Told, Recorded]:
    told = yield Ask(what="report", path=_PATH)
    keys = yield Ask(what="HPKE keys", path=_KEYS, json=False)
    if keys.peer_spki_sha256 != told.peer_spki_sha256:
        raise BindingMismatch(
            "document and HPKE keys came from two machines",
            id="endpoint.bound",
            got=(keys.peer_spki_sha256 or b"").hex(),
            want=(told.peer_spki_sha256 or b"").hex(),
        )
    return Recorded(
        path=_PATH,
        query={},
        body=told.body,
        peer_spki_sha256=told.peer_spki_sha256,
        host=asking.host,
        beside={"keys": keys.body},
    )


_HOSTS = (".tinfoil.sh", ".tinfoil.dev")
_PROVES = "that the TLS key of your connection and the HPKE key are held by a genuine VM"
_CANNOT = (
    "what an answer was, to anybody else: answers carry no signature",
    "what the model's enclave did, where you are connected to the router: that is its code's word",
)
TINFOIL = Dialect(
    id="tinfoil",
    hosts=_HOSTS,
    report_path=_PATH,
    read=read_v3,
    text="documents of version 3; binds TLS key, HPKE key, nonce and the GPU evidence itself",
    questions=_ask_v3,
    encryption="ehbp",
    form=None,
    proves=(
        _PROVES,
        "that it answered your nonce, and showed exactly this GPU evidence",
        "which code runs, where you verified its signed release (teeverify policy release)",
    ),
    cannot=_CANNOT,
)
TINFOIL_V2 = Dialect(
    id="tinfoil-v2",
    hosts=(),
    report_path=_PATH,
    read=read_v2,
    text="documents of version 2; binds TLS key and HPKE key; no nonce, no GPUs",
    beside={"keys": _KEYS},
    questions=_ask_v2,
    fresh=False,
    encryption="ehbp",
    form=None,
    proves=(_PROVES, "which code runs, where you verified its signed release"),
    cannot=(
        "when the evidence was made: it carries no nonce",
        "that there is any GPU: the document shows none",
        *_CANNOT,
    ),
)
TINFOIL_BUNDLE = Dialect(
    id="tinfoil-bundle",
    hosts=(),
    report_path="/attestation",
    read=read_bundle,
    text="a saved bundle: document of version 2, certificate of the enclave, AMD's of the chip",
    fresh=False,
    form=None,
    proves=("that the TLS key and the HPKE key of a certificate are held by a genuine VM",),
    cannot=(
        "when the evidence was made, and that you are connected to that machine",
        "that there is any GPU: the document shows none",
        *_CANNOT,
    ),
)
