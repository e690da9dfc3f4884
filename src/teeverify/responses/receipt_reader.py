"""Reading the file of a receipt: strictly, and believing nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NoReturn

from teeverify.clock import parse_time
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.responses.receipt import (
    ATTACHMENTS_SCHEMA,
    ID,
    SCHEMA,
    Challenge,
    Http,
    Kept,
    ReceiptFile,
    core_hash,
    core_of,
)

__all__ = ["is_attachments", "is_receipt", "read_attachments", "read_receipt"]

_MAX_PARTS = 128
_MAX_TIMESTAMPS = 16
_HASH = 32
_MEMBERS = {"schema", "receipt_id", "core", "attachments", "timestamps", "informative"}
_CORE = {"dialect", "challenge", "attestation", "endorsements", "answer"}
_CHALLENGE = {
    "nonce",
    "nonce_random",
    "challenge",
    "challenge_random",
    "beacon",
    "beacon_source",
}
_ATTESTATION = {"endpoint", "path", "query", "attested_at", "report", "peer_spki_sha256"}
_OPTIONAL = frozenset({"beside"})
_ENDORSEMENTS = {"tdx", "snp", "nras", "jwks", "rims", "ocsp", "crls"}
_RIM = {"id", "file"}
_ANSWER = {
    "answered_at",
    "request",
    "response",
    "signature",
    "opening",
    "method",
    "target",
    "status",
    "request_type",
    "response_type",
}
_STATUSES = range(100, 600)


def is_receipt(value: object) -> bool:
    """Whether decoded JSON says that it is a receipt of any version."""
    return _schema(value).startswith("teeverify.receipt/")


def is_attachments(value: object) -> bool:
    """Whether decoded JSON says that it holds parts of receipts."""
    return _schema(value) == ATTACHMENTS_SCHEMA


def _schema(value: object) -> str:
    schema = value.get("schema") if isinstance(value, dict) else None
    return schema if isinstance(schema, str) else ""


def read_attachments(value: object) -> dict[bytes, bytes]:
    """Read the parts that several receipts share, by hash.

    Raises:
        MalformedEvidence: Another form, or a part that does not have its hash.
    """
    top = JsonObject(value, path="attachments", id=ID)
    _exactly(top, {"schema", "attachments"})
    return _checked(top.object("attachments"))


def read_receipt(value: object, *, shared: Mapping[bytes, bytes] | None = None) -> ReceiptFile:
    """Read a receipt from decoded JSON.

    Args:
        value: The decoded JSON.
        shared: Parts that it may name and not hold, by hash; only its own are held against the
            rule that each part must be named.

    Raises:
        MalformedEvidence: Another version, a member too many or too few, a part that does not have
            its hash, or one that nothing names.
    """
    top = JsonObject(value, path="receipt", id=ID)
    if top.text("schema") != SCHEMA:
        raise MalformedEvidence(
            "receipt.schema: another version",
            id=ID,
            field="receipt.schema",
            got=repr(top.text("schema"))[:60],
            want=SCHEMA,
        )
    _exactly(top, _MEMBERS)
    core = top.object("core")
    expected = core_hash(top.raw("core")).hex()
    if top.text("receipt_id") != expected:
        raise MalformedEvidence(
            "receipt.receipt_id: not the hash of what the receipt holds",
            id=ID,
            field="receipt.receipt_id",
            got=repr(top.text("receipt_id"))[:80],
            want=expected,
        )
    parts = _Parts(_checked(top.object("attachments")), shared or {})
    receipt = _read(top, core, parts)
    parts.finish()
    if core_of(receipt) != top.raw("core"):  # or it would have another id once it is saved again
        raise MalformedEvidence(
            "receipt.core: not in the form in which receipts are written",
            id=ID,
            field="receipt.core",
            want="lower-case hex, and times in UTC with microseconds",
        )
    if (receipt.request.raw is None) != (receipt.response.raw is None):
        raise MalformedEvidence(
            "receipt.answer: request or answer is missing, and the other one is not",
            id=ID,
            field="receipt.answer",
            want="both, or the hashes of both",
        )
    return receipt


def _read(top: JsonObject, core: JsonObject, parts: _Parts) -> ReceiptFile:
    _exactly(core, _CORE)
    challenge = _challenge(_part(core, "challenge", _CHALLENGE))
    attestation = _part(core, "attestation", _ATTESTATION, optional=_OPTIONAL)
    endorsements = _part(core, "endorsements", _ENDORSEMENTS)
    answer = _part(core, "answer", _ANSWER)
    spki = "peer_spki_sha256"
    return ReceiptFile(
        dialect=core.text("dialect"),
        endpoint=attestation.text("endpoint"),
        path=attestation.text("path"),
        query=_texts(attestation.object("query")),
        nonce=challenge.nonce,
        challenge=challenge,
        attested_at=_time(attestation, "attested_at"),
        report=parts.need(attestation, "report"),
        peer_spki_sha256=attestation.hex(spki, _HASH) if spki in attestation else None,
        beside=_besides(attestation, parts),
        tdx=parts.all(endorsements, "tdx"),
        snp=parts.all(endorsements, "snp"),
        nras=parts.all(endorsements, "nras"),
        jwks=parts.all(endorsements, "jwks"),
        rims=_rims(endorsements, parts),
        ocsp=parts.all(endorsements, "ocsp"),
        crls=parts.all(endorsements, "crls"),
        answered_at=_time(answer, "answered_at"),
        request=parts.kept(answer, "request"),
        response=parts.kept(answer, "response"),
        signature=parts.need(answer, "signature") if "signature" in answer else None,
        opening=parts.need(answer, "opening") if "opening" in answer else None,
        http=_http(answer),
        timestamps=_timestamps(top, parts),
        informative=_texts(top.object("informative")),
    )


def _challenge(value: JsonObject) -> Challenge:
    def maybe(name: str) -> bytes | None:
        return value.hex(name, _HASH) if name in value else None

    source = "beacon_source"
    return Challenge(
        nonce=value.hex("nonce", _HASH),
        nonce_random=maybe("nonce_random"),
        challenge=maybe("challenge"),
        challenge_random=maybe("challenge_random"),
        beacon=maybe("beacon"),
        beacon_source=value.text(source) if source in value else None,
    )


def _http(answer: JsonObject) -> Http:
    names = ("method", "target", "request_type", "response_type")
    status = answer.integer("status") if "status" in answer else None
    if status is not None and status not in _STATUSES:
        raise MalformedEvidence(
            f"{answer.path}.status: no HTTP status",
            id=ID,
            field=f"{answer.path}.status",
            got=str(status)[:40],
        )
    texts = {name: answer.text(name) if name in answer else None for name in names}
    return Http(status=status, **texts)


def _besides(attestation: JsonObject, parts: _Parts) -> dict[str, bytes]:
    if "beside" not in attestation:
        return {}
    named = attestation.object("beside")
    if not named.names():
        _exactly(named, {"the name of a route"})
    return {name: parts.need(named, name) for name in sorted(named.names())}


def _rims(endorsements: JsonObject, parts: _Parts) -> tuple[tuple[str, bytes], ...]:
    found = []
    for rim in endorsements.objects("rims"):
        _exactly(rim, _RIM)
        found.append((rim.text("id"), parts.need(rim, "file")))
    return tuple(found)


def _timestamps(top: JsonObject, parts: _Parts) -> tuple[bytes, ...]:
    found = parts.all(top, "timestamps")
    if len(found) > _MAX_TIMESTAMPS:
        raise MalformedEvidence(
            "receipt.timestamps: too many",
            id=ID,
            field="receipt.timestamps",
            need=f"at most {_MAX_TIMESTAMPS}",
            have=len(found),
        )
    return found


class _Parts:
    """The attachments: each has its hash, and each is named."""

    def __init__(self, own: Mapping[bytes, bytes], shared: Mapping[bytes, bytes]) -> None:
        self._own = own
        self._shared = shared
        self._unnamed = set(own)

    def _find(self, digest: bytes) -> bytes | None:
        self._unnamed.discard(digest)
        raw = self._own.get(digest)
        return self._shared.get(digest) if raw is None else raw

    def kept(self, owner: JsonObject, name: str) -> Kept:
        digest = owner.hex(name, _HASH)
        return Kept(sha256=digest, raw=self._find(digest))

    def need(self, owner: JsonObject, name: str) -> bytes:
        kept = self.kept(owner, name)
        if kept.raw is None:
            self._missing(f"{owner.path}.{name}")
        return kept.raw

    def all(self, owner: JsonObject, name: str) -> tuple[bytes, ...]:
        found = []
        for index, text in enumerate(owner.texts(name)):
            field = f"{owner.path}.{name}[{index}]"
            raw = self._find(hex_bytes(text, field=field, id=ID, length=_HASH))
            if raw is None:
                self._missing(field)
            found.append(raw)
        return tuple(found)

    def finish(self) -> None:
        if self._unnamed:
            raise MalformedEvidence(
                "receipt.attachments: one that nothing names",
                id=ID,
                field="receipt.attachments",
                got=min(self._unnamed).hex(),
            )

    @staticmethod
    def _missing(field: str) -> NoReturn:
        raise MalformedEvidence(f"{field}: its attachment is missing", id=ID, field=field)


def _checked(attachments: JsonObject) -> dict[bytes, bytes]:
    names = attachments.names()
    if len(names) > _MAX_PARTS:
        raise MalformedEvidence(
            f"{attachments.path}: too many",
            id=ID,
            field=attachments.path,
            need=f"at most {_MAX_PARTS}",
            have=len(names),
        )
    return dict(_rehashed(attachments))


def _rehashed(attachments: JsonObject) -> Iterator[tuple[bytes, bytes]]:
    for name in attachments.names():
        field = f"{attachments.path}.{name[:80]}"
        digest = hex_bytes(name, field=field, id=ID, length=_HASH)
        raw = attachments.base64(name)
        if name != digest.hex() or hashlib.sha256(raw).digest() != digest:
            raise MalformedEvidence(
                f"{field}: not the bytes that have this hash",
                id=ID,
                field=field,
                got=hashlib.sha256(raw).hexdigest(),
            )
        yield digest, raw


def _exactly(value: JsonObject, names: set[str]) -> None:
    if value.names() != names:
        raise MalformedEvidence(
            f"{value.path}: other members than a receipt has",
            id=ID,
            field=value.path,
            got=_list(value.names() - names) or f"without {_list(names - value.names())}",
            want=_list(names),
        )


def _list(names: Sequence[str] | set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(name[:40] for name in names))[:200]


def _part(
    core: JsonObject, name: str, members: set[str], *, optional: frozenset[str] = frozenset()
) -> JsonObject:
    part = core.object(name)
    _exactly(part, members | (part.names() & optional))
    return part


def _texts(value: JsonObject) -> dict[str, str]:
    return {name: value.text(name) for name in sorted(value.names())}


def _time(owner: JsonObject, name: str) -> datetime:
    try:
        return parse_time(owner.text(name), what=f"{owner.path}.{name}")
    except ConfigurationError as error:
        raise MalformedEvidence(
            error.message, id=ID, field=f"{owner.path}.{name}", got=error.got, want=error.want
        ) from None
