"""The file of a receipt, ``teeverify.receipt/0``: read strictly, and believed in nothing.

A first form, which later versions need not read. ``core`` names every part by its SHA-256,
``attachments`` holds the parts, and ``informative`` is its maker's view, which no verdict uses.
``receipt_id`` is the SHA-256 of ``core`` and ``informative``: it finds accidents, for whoever
changes a receipt can compute it anew. What a receipt proves is proved by the parts alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NoReturn

from teeverify.clock import UTC, parse_time
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import MAX_JSON_BYTES, hex_bytes
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["SCHEMA", "Kept", "ReceiptFile", "is_receipt", "read_receipt", "write_receipt"]

SCHEMA = "teeverify.receipt/0"
_ID = "receipt"
_MAX_PARTS = 128
_MEMBERS = {"schema", "receipt_id", "core", "attachments", "informative"}
_CORE = {"dialect", "endpoint", "attestation", "endorsements", "answer"}
_ATTESTATION = {"path", "query", "nonce", "attested_at", "report"}
_ENDORSEMENTS = {"tdx", "nras", "jwks"}
_ANSWER = {"answered_at", "request", "response", "signature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes, or what is left of them.

    Attributes:
        sha256: Their hash.
        raw: The bytes; ``None`` where only the hash was kept.
    """

    sha256: bytes
    raw: bytes | None

    @classmethod
    def of(cls, raw: bytes) -> Kept:
        """Keep bytes."""
        return cls(sha256=hashlib.sha256(raw).digest(), raw=raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptFile:
    """What a receipt holds. Nothing here is verified; times are its holder's word.

    Attributes:
        dialect: In which dialect the endpoint showed its evidence.
        endpoint: Base URL that was asked.
        path: Path of the report's route.
        query: What was asked of it.
        nonce: The nonce that the evidence must carry.
        attested_at: When the evidence arrived.
        report: The report's exact bytes.
        tdx: Intel's collateral beside the report, each in dcap-qvl's JSON form.
        nras: Answers of NVIDIA's service beside the report.
        jwks: Lists of its keys.
        answered_at: When the answer had arrived.
        request: The request's exact bytes, or their hash.
        response: The answer's exact bytes, or their hash.
        signature: What the signature route returned.
        informative: The maker's view.
    """

    dialect: str
    endpoint: str
    path: str
    query: Mapping[str, str]
    nonce: bytes
    attested_at: datetime
    report: bytes
    tdx: tuple[bytes, ...] = ()
    nras: tuple[bytes, ...] = ()
    jwks: tuple[bytes, ...] = ()
    answered_at: datetime
    request: Kept
    response: Kept
    signature: bytes
    informative: Mapping[str, str] = field(default_factory=dict)


def is_receipt(value: object) -> bool:
    """Whether decoded JSON says that it is a receipt of any version."""
    schema = value.get("schema") if isinstance(value, dict) else None
    return isinstance(schema, str) and schema.startswith("teeverify.receipt/")


def write_receipt(receipt: ReceiptFile, *, bodies: bool) -> bytes:
    """Write a receipt.

    Args:
        receipt: What it holds.
        bodies: Whether the bytes of request and answer go with it, or their hashes only.

    Raises:
        ConfigurationError: It would be larger than what is read again.
    """
    attachments: dict[str, str] = {}

    def keep(raw: bytes) -> str:
        digest = hashlib.sha256(raw).hexdigest()
        attachments[digest] = base64.b64encode(raw).decode("ascii")
        return digest

    core = {
        "dialect": receipt.dialect,
        "endpoint": receipt.endpoint,
        "attestation": {
            "path": receipt.path,
            "query": dict(receipt.query),
            "nonce": receipt.nonce.hex(),
            "attested_at": _moment(receipt.attested_at),
            "report": keep(receipt.report),
        },
        "endorsements": {
            "tdx": [keep(raw) for raw in receipt.tdx],
            "nras": [keep(raw) for raw in receipt.nras],
            "jwks": [keep(raw) for raw in receipt.jwks],
        },
        "answer": {
            "answered_at": _moment(receipt.answered_at),
            "request": receipt.request.sha256.hex(),
            "response": receipt.response.sha256.hex(),
            "signature": keep(receipt.signature),
        },
    }
    for kept in (receipt.request, receipt.response):
        if bodies and kept.raw is not None:
            keep(kept.raw)
    informative = dict(receipt.informative)
    value = {
        "schema": SCHEMA,
        "receipt_id": _receipt_id(core, informative),
        "core": core,
        "attachments": attachments,
        "informative": informative,
    }
    text = json.dumps(value, indent=1, ensure_ascii=True).encode("ascii") + b"\n"
    if len(text) > MAX_JSON_BYTES:
        raise ConfigurationError(
            "the receipt would be too large to be read again",
            id="usage.receipt",
            got=f"{len(text)} bytes",
            want=f"at most {MAX_JSON_BYTES}",
            hint='Save it with include="hashes", and keep request and answer beside it.',
        )
    return text


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _receipt_id(core: Mapping[str, Any], informative: Mapping[str, Any]) -> str:
    """Over JSON with sorted keys and no white space; there are no numbers in it."""
    text = json.dumps(
        {"core": core, "informative": informative},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_receipt(value: object) -> ReceiptFile:
    """Read a receipt from decoded JSON.

    Raises:
        MalformedEvidence: Another version, a member too many or too few, a part that does not have
            its hash, or one that nothing names.
    """
    top = JsonObject(value, path="receipt", id=_ID)
    if top.text("schema") != SCHEMA:
        raise MalformedEvidence(
            "receipt.schema: another version",
            id=_ID,
            field="receipt.schema",
            got=repr(top.text("schema"))[:60],
            want=SCHEMA,
        )
    _exactly(top, _MEMBERS)
    core = top.object("core")
    informative = top.object("informative")
    expected = _receipt_id(top.raw("core"), top.raw("informative"))
    if top.text("receipt_id") != expected:
        raise MalformedEvidence(
            "receipt.receipt_id: not the hash of what the receipt holds",
            id=_ID,
            field="receipt.receipt_id",
            got=repr(top.text("receipt_id"))[:80],
            want=expected,
        )
    _exactly(core, _CORE)
    attestation = _part(core, "attestation", _ATTESTATION)
    endorsements = _part(core, "endorsements", _ENDORSEMENTS)
    answer = _part(core, "answer", _ANSWER)
    parts = _Parts(top.object("attachments"))
    receipt = ReceiptFile(
        dialect=core.text("dialect"),
        endpoint=core.text("endpoint"),
        path=attestation.text("path"),
        query=_texts(attestation.object("query")),
        nonce=attestation.hex("nonce", 32),
        attested_at=_time(attestation, "attested_at"),
        report=parts.need(attestation, "report"),
        tdx=parts.all(endorsements, "tdx"),
        nras=parts.all(endorsements, "nras"),
        jwks=parts.all(endorsements, "jwks"),
        answered_at=_time(answer, "answered_at"),
        request=parts.kept(answer, "request"),
        response=parts.kept(answer, "response"),
        signature=parts.need(answer, "signature"),
        informative=_texts(informative),
    )
    parts.finish()
    if (receipt.request.raw is None) != (receipt.response.raw is None):
        raise MalformedEvidence(
            "receipt.answer: request or answer is missing, and the other one is not",
            id=_ID,
            field="receipt.answer",
            want="both, or the hashes of both",
        )
    return receipt


class _Parts:
    """The attachments: each has its hash, and each is named."""

    def __init__(self, attachments: JsonObject) -> None:
        names = attachments.names()
        if len(names) > _MAX_PARTS:
            raise MalformedEvidence(
                "receipt.attachments: too many",
                id=_ID,
                field="receipt.attachments",
                need=f"at most {_MAX_PARTS}",
                have=len(names),
            )
        self._parts = dict(_checked(attachments))
        self._unnamed = set(self._parts)

    def kept(self, owner: JsonObject, name: str) -> Kept:
        digest = owner.hex(name, 32)
        self._unnamed.discard(digest)
        return Kept(sha256=digest, raw=self._parts.get(digest))

    def need(self, owner: JsonObject, name: str) -> bytes:
        kept = self.kept(owner, name)
        if kept.raw is None:
            self._missing(f"{owner.path}.{name}")
        return kept.raw

    def all(self, owner: JsonObject, name: str) -> tuple[bytes, ...]:
        found = []
        for index, text in enumerate(owner.texts(name)):
            field = f"{owner.path}.{name}[{index}]"
            digest = hex_bytes(text, field=field, id=_ID, length=32)
            if digest not in self._parts:
                self._missing(field)
            self._unnamed.discard(digest)
            found.append(self._parts[digest])
        return tuple(found)

    def finish(self) -> None:
        if self._unnamed:
            raise MalformedEvidence(
                "receipt.attachments: one that nothing names",
                id=_ID,
                field="receipt.attachments",
                got=min(self._unnamed).hex(),
            )

    @staticmethod
    def _missing(field: str) -> NoReturn:
        raise MalformedEvidence(f"{field}: its attachment is missing", id=_ID, field=field)


def _checked(attachments: JsonObject) -> Iterator[tuple[bytes, bytes]]:
    for name in attachments.names():
        field = f"{attachments.path}.{name[:80]}"
        digest = hex_bytes(name, field=field, id=_ID, length=32)
        raw = attachments.base64(name)
        if name != digest.hex() or hashlib.sha256(raw).digest() != digest:
            raise MalformedEvidence(
                f"{field}: not the bytes that have this hash",
                id=_ID,
                field=field,
                got=hashlib.sha256(raw).hexdigest(),
            )
        yield digest, raw


def _exactly(value: JsonObject, names: set[str]) -> None:
    if value.names() != names:
        raise MalformedEvidence(
            f"{value.path}: other members than a receipt has",
            id=_ID,
            field=value.path,
            got=_list(value.names() - names) or f"without {_list(names - value.names())}",
            want=_list(names),
        )


def _list(names: Sequence[str] | set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name[:40] for name in names))[:200]


def _part(core: JsonObject, name: str, members: set[str]) -> JsonObject:
    part = core.object(name)
    _exactly(part, members)
    return part


def _texts(value: JsonObject) -> dict[str, str]:
    return {name: value.text(name) for name in sorted(value.names())}


def _time(owner: JsonObject, name: str) -> datetime:
    try:
        return parse_time(owner.text(name), what=f"{owner.path}.{name}")
    except ConfigurationError as error:
        raise MalformedEvidence(
            error.message, id=_ID, field=f"{owner.path}.{name}", got=error.got, want=error.want
        ) from None
