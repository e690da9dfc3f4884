"""The form of OCSP questions and answers (RFC 6960 section 4): strict reading and writing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from teeverify.clock import UTC
from teeverify.crypto.der import (
    BOOLEAN,
    CONTEXT_0,
    ENUMERATED,
    GENERALIZED_TIME,
    OCTET_STRING,
    OID,
    SEQUENCE,
    DerReader,
)
from teeverify.crypto.der_writer import element, integer, octets, sequence
from teeverify.crypto.signed import Signed
from teeverify.crypto.x509 import Certificate, parse_certificate
from teeverify.errors import EndorsementUnavailable, MalformedEvidence

__all__ = [
    "FORM",
    "HOLD",
    "CertId",
    "OcspResponse",
    "OcspStatus",
    "build_request",
    "key_bits",
    "parse_response",
]

FORM = "ocsp.form"
HOLD = "certificateHold"
MAX_RESPONSE_BYTES = 64 * 1024
Status: TypeAlias = Literal["good", "revoked", "unknown"]
_MAX_CERTIFICATES = 4
_CONTEXT_1, _CONTEXT_2 = 0xA1, 0xA2
_BASIC = bytes.fromhex("2b0601050507300101")  # id-pkix-ocsp-basic
_NONCE = bytes.fromhex("2b0601050507300102")  # id-pkix-ocsp-nonce
_GOOD, _REVOKED, _UNKNOWN = 0x80, 0xA1, 0x82
_REASONS = {
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: HOLD,
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
_ERRORS = {1: "malformedRequest", 2: "internalError", 3: "tryLater", 5: "sigRequired"}
# By the encoded AlgorithmIdentifier without its tag; parameters are absent or NULL (RFC 5754).
_HASHES = {
    bytes.fromhex("06052b0e03021a"): "sha1",
    bytes.fromhex("0609608648016503040201"): "sha256",
    bytes.fromhex("0609608648016503040202"): "sha384",
}
_NULL = b"\x05\x00"


@dataclass(frozen=True, slots=True)
class CertId:
    """Which certificate an answer is about (RFC 6960 section 4.1.1).

    Attributes:
        hash_name: The hash of both values.
        name_hash: Hash of the issuer's name.
        key_hash: Hash of the issuer's public key.
        serial: Serial number of the certificate.
    """

    hash_name: str
    name_hash: bytes
    key_hash: bytes
    serial: int

    @classmethod
    def of(cls, certificate: Certificate, issuer: Certificate, hash_name: str) -> CertId:
        """The id of a certificate under one hash."""
        return cls(
            hash_name,
            hashlib.new(hash_name, certificate.issuer, usedforsecurity=False).digest(),
            hashlib.new(hash_name, key_bits(issuer), usedforsecurity=False).digest(),
            certificate.serial,
        )


def key_bits(certificate: Certificate) -> bytes:
    """The bits of a public key, without tag, length and unused bits."""
    reader = DerReader(certificate.spki, name=certificate.what, id=FORM)
    key = reader.nested(SEQUENCE, "spki")
    key.encoded(SEQUENCE, "algorithm")
    return key.bit_string("key")


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspStatus:
    """What an answer says about one certificate.

    Attributes:
        cert_id: Which one.
        status: ``good``, ``revoked`` or ``unknown``.
        reason: Why it was revoked, where that is said.
        revoked_at: Since when.
        this_update: When that was known to be so.
        next_update: When there will be news, where that is said.
    """

    cert_id: CertId
    status: Status
    reason: str | None
    revoked_at: datetime | None
    this_update: datetime
    next_update: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspResponse:
    """One answer, taken apart and not verified.

    Attributes:
        what: What it was read as, for messages.
        signed: The signed bytes, the algorithm and the signature.
        responder: Who says that he answered: a name, or the SHA-1 of a key.
        statuses: What it says.
        nonce: The nonce in its extensions, where there is one.
        certificates: The certificates sent with it.
    """

    what: str
    signed: Signed
    responder: tuple[Literal["name", "key"], bytes]
    statuses: tuple[OcspStatus, ...]
    nonce: bytes | None
    certificates: tuple[Certificate, ...]

    def about(self, certificate: Certificate, issuer: Certificate) -> OcspStatus | None:
        """What it says about a certificate; ``None`` where it is about others.

        Raises:
            MalformedEvidence: It speaks about this one twice.
        """
        found = [
            one
            for one in self.statuses
            if one.cert_id.serial == certificate.serial
            and one.cert_id == CertId.of(certificate, issuer, one.cert_id.hash_name)
        ]
        if len(found) > 1:
            raise MalformedEvidence(f"{self.what}: one certificate twice", id=FORM, field=self.what)
        return found[0] if found else None


def build_request(certificate: Certificate, issuer: Certificate, nonce: bytes) -> bytes:
    """Write the question about one certificate (RFC 6960 section 4.1, RFC 9654 section 2.1).

    Args:
        certificate: Which one.
        issuer: Its issuer.
        nonce: 32 fresh bytes.
    """
    cert_id = CertId.of(certificate, issuer, "sha384")
    algorithm = sequence(bytes.fromhex("0609608648016503040202"), _NULL)
    request = sequence(
        algorithm, octets(cert_id.name_hash), octets(cert_id.key_hash), integer(cert_id.serial)
    )
    extension = sequence(element(OID, _NONCE), octets(octets(nonce)))
    requests = sequence(sequence(request))
    return sequence(sequence(requests, element(_CONTEXT_2, sequence(extension))))


def parse_response(raw: bytes, *, what: str) -> OcspResponse:
    """Take an answer apart.

    Args:
        raw: The answer; nothing may follow it.
        what: What it is, for the errors.

    Raises:
        MalformedEvidence: Too large, not DER, or of another form.
        EndorsementUnavailable: The responder gave no answer, but an error.
    """
    if len(raw) > MAX_RESPONSE_BYTES:
        raise MalformedEvidence(
            f"{what}: too large", id=FORM, field=what, need=f"at most {MAX_RESPONSE_BYTES}",
            have=len(raw),
        )  # fmt: skip
    basic = _basic(raw, what)
    tbs_bytes = basic.encoded(SEQUENCE, "tbs")
    signed = Signed(
        tbs=tbs_bytes,
        algorithm=basic.encoded(SEQUENCE, "algorithm"),
        signature=basic.bit_string("signature"),
    )
    certificates = _certificates(basic.optional(CONTEXT_0, "certificates"), what)
    basic.finish()
    tbs = DerReader(tbs_bytes, name=what, id=FORM).nested(SEQUENCE, "tbs")
    responder = _responder(tbs)
    tbs.value(GENERALIZED_TIME, "produced_at")
    listed = tbs.nested(SEQUENCE, "responses")
    statuses: list[OcspStatus] = []
    while listed.remaining:
        statuses.append(_status(listed.nested(SEQUENCE, "response")))
    nonce = _extensions(tbs.optional(_CONTEXT_1, "extensions"))
    tbs.finish()
    return OcspResponse(
        what=what,
        signed=signed,
        responder=responder,
        statuses=tuple(statuses),
        nonce=nonce,
        certificates=certificates,
    )


def _basic(raw: bytes, what: str) -> DerReader:
    """Open the envelope (RFC 6960 section 4.2.1)."""
    outer = DerReader(raw, name=what, id=FORM)
    response = outer.nested(SEQUENCE, "response")
    outer.finish()
    status = response.integer("status", tag=ENUMERATED)
    if status != 0:
        raise EndorsementUnavailable(
            f"{what}: the responder gave no answer",
            id=FORM,
            got=_ERRORS.get(status, f"status {status}"),
            want="successful",
        )
    envelope = response.nested(CONTEXT_0, "bytes")
    response.finish()
    body = envelope.nested(SEQUENCE, "bytes")
    envelope.finish()
    if body.value(OID, "type") != _BASIC:
        raise body.error("not a basic answer", "type")
    content = body.value(OCTET_STRING, "basic")
    body.finish()
    inner = DerReader(content, name=what, id=FORM)
    basic = inner.nested(SEQUENCE, "basic")
    inner.finish()
    return basic


def _responder(tbs: DerReader) -> tuple[Literal["name", "key"], bytes]:
    if tbs.next_tag() == CONTEXT_0:
        raise tbs.error("another version than 1", "version")
    by_name = tbs.optional(_CONTEXT_1, "responder")
    if by_name is not None:
        name = by_name.encoded(SEQUENCE, "name")
        by_name.finish()
        return "name", name
    by_key = tbs.nested(_CONTEXT_2, "responder")
    key = by_key.value(OCTET_STRING, "key")
    by_key.finish()
    return "key", key


def _certificates(reader: DerReader | None, what: str) -> tuple[Certificate, ...]:
    if reader is None:
        return ()
    listed = reader.nested(SEQUENCE, "list")
    reader.finish()
    found: list[Certificate] = []
    while listed.remaining:
        if len(found) == _MAX_CERTIFICATES:
            raise listed.error("too many certificates", "list")
        der = listed.encoded(SEQUENCE, "certificate")
        found.append(parse_certificate(der, id=FORM, what=f"{what}: certificate[{len(found)}]"))
    return tuple(found)


def _status(reader: DerReader) -> OcspStatus:
    """Take one SingleResponse."""
    cert_id = _cert_id(reader.nested(SEQUENCE, "cert_id"))
    tag, contents = reader.any("status")
    status: Status
    reason: str | None = None
    revoked_at: datetime | None = None
    if tag in (_GOOD, _UNKNOWN) and not contents:
        status = "good" if tag == _GOOD else "unknown"
    elif tag == _REVOKED:
        status = "revoked"
        info = DerReader(contents, name="ocsp.revoked", id=FORM)
        revoked_at = _time(info, "revocation_time")
        given = info.optional(CONTEXT_0, "reason")
        if given is not None:
            number = given.integer("reason", tag=ENUMERATED)
            given.finish()
            reason = _REASONS.get(number, f"reason {number}")
        info.finish()
    else:
        raise reader.error("not a status", "status", got=f"{tag:#04x}")
    this_update = _time(reader, "this_update")
    later = reader.optional(CONTEXT_0, "next_update")
    next_update = None if later is None else _time(later, "next_update")
    # A nonce in here would be out of its place (RFC 9654 section 2.1), so it is none.
    _extensions(reader.optional(_CONTEXT_1, "extensions"))
    reader.finish()
    return OcspStatus(
        cert_id=cert_id,
        status=status,
        reason=reason,
        revoked_at=revoked_at,
        this_update=this_update,
        next_update=next_update,
    )


def _cert_id(reader: DerReader) -> CertId:
    algorithm = reader.value(SEQUENCE, "hash_algorithm")
    name = _HASHES.get(algorithm.removesuffix(_NULL))
    if name is None:
        raise reader.error("not a known hash", "hash_algorithm", got=algorithm.hex()[:40])
    cert_id = CertId(
        name,
        reader.value(OCTET_STRING, "name_hash"),
        reader.value(OCTET_STRING, "key_hash"),
        reader.integer("serial"),
    )
    reader.finish()
    return cert_id


def _extensions(reader: DerReader | None) -> bytes | None:
    """The nonce among extensions; one that is critical and not understood refuses."""
    if reader is None:
        return None
    listed = reader.nested(SEQUENCE, "list")
    reader.finish()
    nonce: bytes | None = None
    seen: set[bytes] = set()
    while listed.remaining:
        extension = listed.nested(SEQUENCE, "extension")
        oid = extension.value(OID, "oid")
        critical = extension.next_tag() == BOOLEAN and extension.boolean("critical")
        value = extension.value(OCTET_STRING, "value")
        extension.finish()
        if oid in seen or (critical and oid != _NONCE):
            raise listed.error("an extension twice, or critical and not known", "extension")
        seen.add(oid)
        if oid == _NONCE:
            inner = DerReader(value, name="ocsp.nonce", id=FORM)
            nonce = inner.value(OCTET_STRING, "nonce")
            inner.finish()
    return nonce


def _time(reader: DerReader, field: str) -> datetime:
    """A GeneralizedTime in its only DER form with seconds (RFC 5280 section 4.1.2.5.2)."""
    text = reader.value(GENERALIZED_TIME, field).decode("latin-1")
    try:
        if len(text) != len("YYYYMMDDHHMMSSZ") or not (text[:-1].isascii() and text[:-1].isdigit()):
            raise ValueError
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise reader.error("not a time", field, got=ascii(text)[:40]) from None
