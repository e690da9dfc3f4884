"""Timestamps of RFC 3161 authorities: one narrow profile of CMS (RFC 5652), and nothing else of it.

A token says that a hash was there at a time. Accepted is one signer, who is named by issuer and
serial number and again by the hash of his certificate (RFC 5816), with SHA-2 throughout, and whose
certificate was issued by a CA that the caller wrote down; there are no embedded authorities.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from teeverify.clock import UTC
from teeverify.crypto.certificates import Anchor, Certificate, parse_certificate, verify_path
from teeverify.crypto.der import (
    CONTEXT_0,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    DerReader,
)
from teeverify.crypto.ecdsa import verify_der
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    MalformedEvidence,
    SignatureInvalid,
)

__all__ = ["Timestamp", "parse_timestamp", "verify_timestamp"]

_ID = "receipt.time"
_WHAT = "timestamp"
_MAX_TOKEN = 64 * 1024
_MAX_CERTIFICATES = 8
_CONTEXT_1 = 0xA1
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_SIGNING_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")
_RSA = bytes.fromhex("2a864886f70d010101")
_HASHES: dict[bytes, Callable[[bytes], bytes]] = {
    bytes.fromhex("608648016503040201"): lambda data: hashlib.sha256(data).digest(),
    bytes.fromhex("608648016503040202"): lambda data: hashlib.sha384(data).digest(),
    bytes.fromhex("608648016503040203"): lambda data: hashlib.sha512(data).digest(),
}
_SHA256, _SHA384, _SHA512 = _HASHES
_RSA_HASHES: dict[bytes, hashes.HashAlgorithm] = {
    _SHA256: hashes.SHA256(),
    _SHA384: hashes.SHA384(),
    _SHA512: hashes.SHA512(),
}
# An algorithm that names its hash must name the one that the signer names.
_SIGNATURES = {
    bytes.fromhex("2a864886f70d01010b"): _SHA256,
    bytes.fromhex("2a864886f70d01010c"): _SHA384,
    bytes.fromhex("2a864886f70d01010d"): _SHA512,
    bytes.fromhex("2a8648ce3d040302"): _SHA256,
    bytes.fromhex("2a8648ce3d040303"): _SHA384,
}
_TIME_STAMPING = bytes.fromhex("300a06082b06010505070308")
_EXTENDED_KEY_USAGE = "2.5.29.37"
_GRANTED = (0, 1)
_TST_VERSION, _DATA_VERSION, _SIGNER_VERSION = 1, 3, 1
_TIME = re.compile(rb"([0-9]{14})(?:\.([0-9]{1,6}))?Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerInfo:
    """The one signature of a token (RFC 5652 section 5.3).

    Attributes:
        issuer: DER of the name of who issued the signer's certificate.
        serial: Its serial number.
        digest: OID of the hash that the signer uses.
        algorithm: OID of the signature algorithm.
        attributes: What is signed: the attributes, as the SET that they are.
        signature: The signature.
    """

    issuer: bytes
    serial: int
    digest: bytes
    algorithm: bytes
    attributes: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Timestamp:
    """One token, read strictly and not verified, but about what it must be about.

    Attributes:
        token: The token as sent, without the answer around it.
        time: The latest time that it means: what it says, and its accuracy on top.
        info: The signed TSTInfo, as sent.
        signer: Who signed, and how.
        certificates: The certificates that came with it.
    """

    token: bytes = field(repr=False)
    time: datetime
    info: bytes = field(repr=False)
    signer: SignerInfo = field(repr=False)
    certificates: tuple[Certificate, ...] = field(repr=False)


def parse_timestamp(raw: bytes, *, of: bytes) -> Timestamp:
    """Read a token, or an authority's answer with one, about a SHA-256 hash.

    Args:
        raw: ``TimeStampToken`` or ``TimeStampResp`` in DER (RFC 3161 section 2.4.2).
        of: The hash that it must be of.

    Raises:
        MalformedEvidence: It has another form, or is larger than a token can be.
        BindingMismatch: It is a timestamp of something else.
    """
    if len(raw) > _MAX_TOKEN:
        raise MalformedEvidence(
            f"{_WHAT}: too large", id=_ID, field=_WHAT, need=f"at most {_MAX_TOKEN}", have=len(raw)
        )
    token = _token(raw)
    reader = DerReader(token, name=_WHAT, id=_ID)
    content = reader.nested(SEQUENCE, "content_info")
    reader.finish()
    _require(content, content.value(OID, "type"), _SIGNED_DATA, "type", "signedData")
    wrapped = content.nested(CONTEXT_0, "content")
    content.finish()
    data = wrapped.nested(SEQUENCE, "signed_data")
    wrapped.finish()
    if data.integer("version") != _DATA_VERSION:
        raise data.error("another version", "version", want=str(_DATA_VERSION))
    data.value(SET, "digest_algorithms")
    info = _content(data)
    certificates = _certificates(data)
    if data.next_tag() == _CONTEXT_1:
        data.any("crls")
    signers = data.nested(SET, "signer_infos")
    data.finish()
    signer = signers.nested(SEQUENCE, "signer_info")
    signers.finish()
    return Timestamp(
        token=token,
        time=_time_of(info, of),
        info=info,
        certificates=certificates,
        signer=_signer(signer),
    )


def _token(raw: bytes) -> bytes:
    """The token itself: an answer begins with a status, a token with its type."""
    reader = DerReader(raw, name=_WHAT, id=_ID)
    outer = reader.nested(SEQUENCE, "answer")
    reader.finish()
    if outer.next_tag() != SEQUENCE:
        return raw
    status = outer.nested(SEQUENCE, "status")
    if status.integer("status") not in _GRANTED:
        raise status.error("the authority refused", "status", want="granted")
    token = outer.encoded(SEQUENCE, "token")
    outer.finish()
    return token


def _content(data: DerReader) -> bytes:
    content = data.nested(SEQUENCE, "content")
    _require(content, content.value(OID, "type"), _TST_INFO, "type", "TSTInfo")
    wrapped = content.nested(CONTEXT_0, "content")
    content.finish()
    info = wrapped.value(OCTET_STRING, "tst_info")
    wrapped.finish()
    return info


def _certificates(data: DerReader) -> tuple[Certificate, ...]:
    given = data.optional(CONTEXT_0, "certificates")
    found: list[Certificate] = []
    while given is not None and given.remaining:
        if len(found) == _MAX_CERTIFICATES:
            raise given.error("too many", "certificate", need=_MAX_CERTIFICATES)
        der = given.encoded(SEQUENCE, "certificate")
        found.append(parse_certificate(der, id=_ID, what=f"{_WHAT}.certificates[{len(found)}]"))
    return tuple(found)


def _time_of(info: bytes, of: bytes) -> datetime:
    """The latest time that a TSTInfo means (RFC 3161 section 2.4.2), if it is of this hash."""
    outer = DerReader(info, name=f"{_WHAT}.tst_info", id=_ID)
    reader = outer.nested(SEQUENCE, "tst_info")
    outer.finish()
    if reader.integer("version") != _TST_VERSION:
        raise reader.error("another version", "version", want=str(_TST_VERSION))
    reader.value(OID, "policy")
    imprint = reader.nested(SEQUENCE, "message_imprint")
    algorithm = _algorithm(imprint, "hash_algorithm")
    hashed = imprint.value(OCTET_STRING, "hashed_message")
    imprint.finish()
    if algorithm != _SHA256 or hashed != of:
        raise BindingMismatch(
            "the timestamp is of something else",
            id=_ID,
            got=hashed.hex()[:128],
            want=f"sha256 {of.hex()}",
        )
    reader.value(INTEGER, "serial_number")
    text = reader.value(GENERALIZED_TIME, "gen_time")
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        stated = datetime.strptime(match[1].decode("ascii"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise reader.error("not a time in UTC", "gen_time", got=repr(text)[:60]) from None
    fraction = (match[2] or b"").ljust(6, b"0").decode("ascii")
    accuracy = _accuracy(reader) if reader.next_tag() == SEQUENCE else timedelta()
    return stated + timedelta(microseconds=int(fraction)) + accuracy


def _accuracy(reader: DerReader) -> timedelta:
    given = reader.nested(SEQUENCE, "accuracy")
    parts = {"seconds": 0, "milliseconds": 0, "microseconds": 0}
    for name, tag in (("seconds", INTEGER), ("milliseconds", 0x80), ("microseconds", 0x81)):
        if given.next_tag() == tag:
            parts[name] = given.integer(name, tag=tag)
    given.finish()
    if not all(0 <= value <= 86_400 for value in parts.values()):  # noqa: PLR2004 -- a day
        raise given.error("no accuracy that means anything", "accuracy")
    return timedelta(**parts)


def _signer(reader: DerReader) -> SignerInfo:
    """One SignerInfo (RFC 5652 section 5.3), named by issuer and serial number."""
    if reader.integer("version") != _SIGNER_VERSION:
        raise reader.error("not named by issuer and serial number", "version")
    name = reader.nested(SEQUENCE, "sid")
    issuer, serial = name.encoded(SEQUENCE, "issuer"), name.integer("serial")
    name.finish()
    digest = _algorithm(reader, "digest_algorithm")
    # Section 5.4: signed as a SET, although sent with another tag.
    attributes = bytes([SET]) + reader.encoded(CONTEXT_0, "signed_attributes")[1:]
    algorithm = _algorithm(reader, "signature_algorithm")
    signature = reader.value(OCTET_STRING, "signature")
    if reader.next_tag() == _CONTEXT_1:
        reader.any("unsigned_attributes")
    reader.finish()
    return SignerInfo(
        issuer=issuer,
        serial=serial,
        digest=digest,
        attributes=attributes,
        algorithm=algorithm,
        signature=signature,
    )


def _algorithm(reader: DerReader, field: str) -> bytes:
    """The OID of an AlgorithmIdentifier without parameters, or with NULL."""
    algorithm = reader.nested(SEQUENCE, field)
    oid = algorithm.value(OID, "oid")
    if algorithm.remaining and algorithm.any("parameters") != (0x05, b""):
        raise algorithm.error("parameters", "parameters")
    algorithm.finish()
    return oid


def _require(reader: DerReader, got: bytes, want: bytes, field: str, name: str) -> None:
    if got != want:
        raise reader.error("of another type", field, got=got.hex()[:60], want=name)


def verify_timestamp(stamp: Timestamp, anchors: Sequence[Anchor]) -> str:
    """Verify that an authority which the caller believes made a token.

    Args:
        stamp: The token.
        anchors: The CAs that the caller believes.

    Returns:
        The authority's name, for people.

    Raises:
        ChainInvalid: The signer's certificate is missing, is not for timestamps, or was not issued
            by one of these CAs.
        SignatureInvalid: A signature does not verify.
        BindingMismatch: What was signed is about another content or another certificate.
        EndorsementUnavailable: The certificate was not valid at the time that it states.
        MalformedEvidence: The signed attributes cannot be read.
    """
    certificate = _signing_certificate(stamp)
    verify_path(
        (certificate,),
        anchors,
        at=stamp.time,
        id=_ID,
        what=_WHAT,
        critical=frozenset({_EXTENDED_KEY_USAGE}),
    )
    usage = certificate.extension(_EXTENDED_KEY_USAGE)
    if usage != _TIME_STAMPING or _EXTENDED_KEY_USAGE not in certificate.extensions.critical:
        raise ChainInvalid(
            "the signer's certificate is not for timestamps alone (RFC 3161 section 2.3)", id=_ID
        )
    _verify_attributes(stamp, certificate)
    _verify_signature(stamp, certificate)
    return ascii(certificate.common_name[:80]).strip("'\"")


def _signing_certificate(stamp: Timestamp) -> Certificate:
    for certificate in stamp.certificates:
        if (certificate.issuer, certificate.serial) == (stamp.signer.issuer, stamp.signer.serial):
            return certificate
    raise ChainInvalid(
        "the certificate of the timestamp's signer is not in it",
        id=_ID,
        hint="Ask the authority to include it (certReq).",
    )


def _verify_attributes(stamp: Timestamp, certificate: Certificate) -> None:
    """RFC 5652 section 11, RFC 5816: the content's type and hash, and whose certificate."""
    reader = DerReader(stamp.signer.attributes, name=f"{_WHAT}.signed_attributes", id=_ID)
    attributes = reader.nested(SET, "attributes")
    found: dict[bytes, DerReader] = {}
    while attributes.remaining:
        attribute = attributes.nested(SEQUENCE, "attribute")
        oid = attribute.value(OID, "type")
        if oid in found:
            raise attribute.error("twice", "type", got=oid.hex()[:60])
        found[oid] = attribute.nested(SET, "values")
        attribute.finish()
    values = [found.get(o) for o in (_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_CERTIFICATE_V2)]
    content_type, digest, signing = values
    if content_type is None or digest is None or signing is None:
        raise reader.error("content type, digest or signing certificate (v2) missing", "attributes")
    if content_type.value(OID, "content_type") != _TST_INFO:
        raise BindingMismatch("the signature is about another kind of content", id=_ID)
    if stamp.signer.digest not in _HASHES:
        raise reader.error("a hash that is not SHA-2", "digest", got=stamp.signer.digest.hex()[:60])
    if digest.value(OCTET_STRING, "message_digest") != _HASHES[stamp.signer.digest](stamp.info):
        raise BindingMismatch("the signature is about another content", id=_ID)
    _verify_named(signing, certificate)
    for one in (content_type, digest, signing):
        one.finish()


def _verify_named(signing: DerReader, certificate: Certificate) -> None:
    """SigningCertificateV2: the first entry is the signer's certificate."""
    entries = signing.nested(SEQUENCE, "signing_certificate").nested(SEQUENCE, "certificates")
    first = entries.nested(SEQUENCE, "certificate")
    algorithm = _SHA256
    if first.next_tag() == SEQUENCE:
        algorithm = _algorithm(first, "hash_algorithm")
    if algorithm not in _HASHES:
        raise first.error("a hash that is not SHA-2", "hash_algorithm", got=algorithm.hex()[:60])
    if first.value(OCTET_STRING, "hash") != _HASHES[algorithm](certificate.der):
        raise BindingMismatch("the signature names another certificate", id=_ID)


def _verify_signature(stamp: Timestamp, certificate: Certificate) -> None:
    key = certificate.public_key
    if (
        stamp.signer.algorithm != _RSA
        and _SIGNATURES.get(stamp.signer.algorithm) != stamp.signer.digest
    ):
        raise SignatureInvalid(
            "the timestamp is signed with an algorithm that is not accepted here",
            id=_ID,
            got=stamp.signer.algorithm.hex()[:60],
        )
    if isinstance(key, ec.EllipticCurvePublicKey):
        verify_der(key, stamp.signer.signature, stamp.signer.attributes, id=_ID, what=_WHAT)
        return
    _verify_rsa(key, stamp)


def _verify_rsa(key: rsa.RSAPublicKey, stamp: Timestamp) -> None:
    try:
        key.verify(
            stamp.signer.signature,
            stamp.signer.attributes,
            padding.PKCS1v15(),
            _RSA_HASHES[stamp.signer.digest],
        )
    except InvalidSignature:
        raise SignatureInvalid(
            "the timestamp's signature does not verify under its authority's key", id=_ID
        ) from None
