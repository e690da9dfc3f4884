"""The file of a receipt, ``teeverify.receipt/1``: what it holds, and how it is written.

``core`` names every part by its SHA-256 and ``attachments`` holds the parts. ``receipt_id`` is the
SHA-256 of ``core`` in its canonical form (RFC 8785). ``timestamps`` are about that id and may be
added by anyone later; ``informative`` is the maker's view, which no verdict uses. What a receipt
proves is proved by its parts alone. :mod:`teeverify.responses.receipt_reader` reads it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from teeverify.clock import UTC
from teeverify.encoding.jcs import canonical_json
from teeverify.encoding.strict import MAX_JSON_BYTES
from teeverify.errors import ConfigurationError

__all__ = [
    "ATTACHMENTS_SCHEMA",
    "NOTICE",
    "SCHEMA",
    "Challenge",
    "Http",
    "Kept",
    "ReceiptFile",
    "core_hash",
    "core_of",
    "shared_parts",
    "write_attachments",
    "write_receipt",
]

SCHEMA = "teeverify.receipt/1"
ATTACHMENTS_SCHEMA = "teeverify.attachments/1"
ID = "receipt"
NOTICE = (
    "Believe nothing in this file: run 'teeverify verify' on it, under your own policy. It can "
    "show that a genuine machine signed this answer, never that the answer is true. Its holder "
    "chose which answers to show, may withhold the question, and dates it as he likes unless a "
    "timestamp bounds it; platform and device ids in it are linkable."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes, or what is left of them.

    Attributes:
        sha256: Their hash.
        raw: The bytes; ``None`` where only the hash was kept.
    """

    sha256: bytes
    raw: bytes | None = field(repr=False)

    @classmethod
    def of(cls, raw: bytes) -> Kept:
        """Keep bytes."""
        return cls(sha256=hashlib.sha256(raw).digest(), raw=raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """The HTTP exchange around the answer: asserted, unless the dialect signs it.

    Attributes:
        method: Method of the request.
        target: Path and query as sent.
        status: Status of the answer.
        request_type: Content type of the request.
        response_type: Content type of the answer.
    """

    method: str | None = None
    target: str | None = None
    status: int | None = None
    request_type: str | None = None
    response_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """What the asker chose, with what shows that it was not chosen earlier.

    Attributes:
        nonce: The nonce that the evidence must carry.
        nonce_random: The random part from which the nonce was derived, where it was.
        challenge: The value that the signed statement must name, in dialects that have one.
        challenge_random: Its random part.
        beacon: The public, formerly unpredictable value in both.
        beacon_source: Where that value can be found again.
    """

    nonce: bytes
    nonce_random: bytes | None = None
    challenge: bytes | None = None
    challenge_random: bytes | None = None
    beacon: bytes | None = None
    beacon_source: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the request must carry, in dialects whose answers name the challenge."""
        return {} if self.challenge is None else {"Teeverify-Challenge": self.challenge.hex()}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReceiptFile:
    """What a receipt holds. Nothing here is verified; times are its holder's word.

    Attributes:
        dialect: In which dialect the endpoint showed its evidence.
        endpoint: Base URL that was asked.
        path: Path of the report's route.
        query: What was asked of it.
        nonce: The nonce that the evidence must carry.
        challenge: The rest of what the asker chose.
        attested_at: When the evidence arrived.
        report: The report's exact bytes.
        peer_spki_sha256: Fingerprint of the TLS key on the connection on which it came.
        beside: The answers of further routes that belong to the report, by the dialect's names.
        tdx: Intel's collateral beside the report, each in dcap-qvl's JSON form.
        snp: AMD's certificates and lists beside it, each in DER.
        nras: Answers of NVIDIA's service beside the report.
        jwks: Lists of its keys.
        rims: NVIDIA's reference manifests, each with its id.
        ocsp: Answers of NVIDIA's OCSP responder.
        crls: NVIDIA's revocation lists.
        answered_at: When the answer had arrived.
        request: The request's exact bytes, or their hash.
        response: The answer's exact bytes, or their hash.
        signature: What the signature route returned; ``None`` where only the channel
            authenticated the answer, which a receipt cannot show.
        opening: What opens an encrypted answer: an ephemeral secret or a blinding key.
        http: The HTTP exchange around the answer.
        timestamps: RFC 3161 tokens over the receipt's id.
        informative: The maker's view.
    """

    dialect: str
    endpoint: str
    path: str
    query: Mapping[str, str]
    nonce: bytes
    challenge: Challenge | None = None
    attested_at: datetime
    report: bytes
    peer_spki_sha256: bytes | None = None
    beside: Mapping[str, bytes] = field(default_factory=dict)
    tdx: tuple[bytes, ...] = ()
    snp: tuple[bytes, ...] = ()
    nras: tuple[bytes, ...] = ()
    jwks: tuple[bytes, ...] = ()
    rims: tuple[tuple[str, bytes], ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    answered_at: datetime
    request: Kept
    response: Kept
    signature: bytes | None
    opening: bytes | None = None
    http: Http = field(default_factory=Http)
    timestamps: tuple[bytes, ...] = ()
    informative: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """The hash of its core: the receipt's id, and what timestamps are of."""
        return core_hash(core_of(self))

    def __repr__(self) -> str:
        """What it is of; the parts are kilobytes."""
        answered = _moment(self.answered_at)
        return f"<ReceiptFile: {self.dialect} at {self.endpoint}, answered {answered}>"


def core_hash(core: Mapping[str, Any]) -> bytes:
    """The hash of a core in its canonical form: a receipt's id.

    Raises:
        MalformedEvidence: The core has no canonical form.
    """
    return hashlib.sha256(canonical_json(core, field="receipt.core", id=ID)).digest()


def core_of(receipt: ReceiptFile) -> dict[str, Any]:
    """The core: every part by its hash, and what was asked and when."""
    challenge = receipt.challenge or Challenge(nonce=receipt.nonce)
    beside = {name: _name(raw) for name, raw in receipt.beside.items()}
    return {
        "dialect": receipt.dialect,
        "challenge": {
            "nonce": receipt.nonce.hex(),
            "nonce_random": _hex(challenge.nonce_random),
            "challenge": _hex(challenge.challenge),
            "challenge_random": _hex(challenge.challenge_random),
            "beacon": _hex(challenge.beacon),
            "beacon_source": challenge.beacon_source,
        },
        "attestation": {
            "endpoint": receipt.endpoint,
            "path": receipt.path,
            "query": dict(receipt.query),
            "attested_at": _moment(receipt.attested_at),
            "report": _name(receipt.report),
            "peer_spki_sha256": _hex(receipt.peer_spki_sha256),
            # Not there where there are none, so that ids of receipts stay what they were.
            **({"beside": beside} if beside else {}),
        },
        "endorsements": {
            **{
                name: [_name(raw) for raw in getattr(receipt, name)]
                for name in ("tdx", "snp", "nras", "jwks", "ocsp", "crls")
            },
            "rims": [{"id": name, "file": _name(raw)} for name, raw in receipt.rims],
        },
        "answer": {
            "answered_at": _moment(receipt.answered_at),
            "request": receipt.request.sha256.hex(),
            "response": receipt.response.sha256.hex(),
            "signature": None if receipt.signature is None else _name(receipt.signature),
            "opening": None if receipt.opening is None else _name(receipt.opening),
            "method": receipt.http.method,
            "target": receipt.http.target,
            "status": receipt.http.status,
            "request_type": receipt.http.request_type,
            "response_type": receipt.http.response_type,
        },
    }


def write_receipt(
    receipt: ReceiptFile, *, bodies: bool, without: Collection[bytes] = (), indent: int | None = 1
) -> bytes:
    """Write a receipt.

    Args:
        receipt: What it holds.
        bodies: Whether the bytes of request and answer go with it, or their hashes only.
        without: Hashes of parts to leave out, because many receipts share them elsewhere.
        indent: As :func:`json.dumps` takes it.

    Raises:
        ConfigurationError: It would be larger than what is read again.
    """
    core = core_of(receipt)
    parts = [*shared_parts(receipt), receipt.signature, receipt.opening, *receipt.timestamps]
    if bodies:
        parts += [receipt.request.raw, receipt.response.raw]
    value = {
        "schema": SCHEMA,
        "receipt_id": core_hash(core).hex(),
        "core": core,
        "attachments": _attachments(
            part
            for part in parts
            if part is not None and hashlib.sha256(part).digest() not in without
        ),
        "timestamps": [_name(token) for token in receipt.timestamps],
        "informative": {**receipt.informative, "notice": NOTICE},
    }
    text = json.dumps(value, indent=indent, ensure_ascii=True).encode("ascii") + b"\n"
    if len(text) > MAX_JSON_BYTES:
        raise ConfigurationError(
            "the receipt would be too large to be read again",
            id="usage.receipt",
            got=f"{len(text)} bytes",
            want=f"at most {MAX_JSON_BYTES}",
            hint='Save it with include="hashes", and keep request and answer beside it.',
        )
    return text


def shared_parts(receipt: ReceiptFile) -> list[bytes]:
    """The parts that receipts of one attestation have in common."""
    return [
        receipt.report,
        *receipt.beside.values(),
        *receipt.tdx,
        *receipt.snp,
        *receipt.nras,
        *receipt.jwks,
        *receipt.ocsp,
        *receipt.crls,
        *(raw for _, raw in receipt.rims),
    ]


def write_attachments(parts: Iterable[bytes]) -> bytes:
    """One line of JSON with parts that several receipts name and do not hold themselves."""
    value = {"schema": ATTACHMENTS_SCHEMA, "attachments": _attachments(parts)}
    return json.dumps(value, ensure_ascii=True).encode("ascii") + b"\n"


def _attachments(parts: Iterable[bytes]) -> dict[str, str]:
    return {_name(raw): base64.b64encode(raw).decode("ascii") for raw in parts}


def _name(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _hex(raw: bytes | None) -> str | None:
    return None if raw is None else raw.hex()


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
