"""X.509 version 3 certificates (RFC 5280): strict reading and typed access.

Their paths are verified in :mod:`teeverify.crypto.certificates`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from teeverify.crypto.der import CONTEXT_0, SEQUENCE, SET, DerReader
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.pem import pem_blocks
from teeverify.crypto.signed import (
    IssuerKey,
    Signed,
    load_issuer_key,
    parse_signed,
    require_algorithm,
)
from teeverify.errors import MalformedEvidence

__all__ = ["Certificate", "parse_certificate", "parse_pem_chain"]

MAX_CERTIFICATE_BYTES = 32 * 1024
_VERSION_3 = 2
# Intel uses all bits of 20 bytes, one more than RFC 5280 section 4.1.2.2 gives a positive number.
_MAX_SERIAL_BITS = 160
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_COMMON_NAME = bytes.fromhex("550403")
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


class _Profile(NamedTuple):
    """What the extensions say, read once; an absent extension is the zero value."""

    values: dict[str, x509.ExtensionType]
    critical: frozenset[str]
    ca: bool = False
    path_length: int | None = None
    key_usage: frozenset[str] = frozenset()


class _Memo:
    """What was worked out of a certificate; it only ever depends on the certificate's bytes."""

    __slots__ = ("common_name", "key", "profile")

    def __init__(self) -> None:
        self.common_name: str | None = None
        self.key: IssuerKey | None = None
        self.profile: _Profile | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate, read strictly and not verified.

    Attributes:
        der: The certificate as sent.
        what: What it was read as, for messages.
        serial: Serial number; always positive.
        issuer: DER of the issuer's name, as sent.
        subject: DER of the subject's name, as sent.
        spki: DER of the SubjectPublicKeyInfo, as sent.
        not_before: First moment of validity.
        not_after: Last moment of validity.
        signed: The signed bytes, the algorithm and the signature.
    """

    der: bytes
    what: str = field(compare=False)
    serial: int = field(compare=False)
    issuer: bytes = field(compare=False, repr=False)
    subject: bytes = field(compare=False, repr=False)
    spki: bytes = field(compare=False, repr=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    signed: Signed = field(compare=False, repr=False)
    _x509: x509.Certificate = field(compare=False, repr=False)
    _id: str = field(compare=False, repr=False)
    _memo: _Memo = field(compare=False, repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the certificate, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def common_name(self) -> str:
        """``CN`` of the subject; empty where there is none.

        Raises:
            MalformedEvidence: The name is malformed, or has more than one ``CN``.
        """
        name = self._memo.common_name
        if name is None:
            name = _common_name(self.subject, self._id, f"{self.what}.subject")
            self._memo.common_name = name
        return name

    @property
    def issuer_common_name(self) -> str:
        """``CN`` of the issuer; empty where there is none.

        Raises:
            MalformedEvidence: The name is malformed, or has more than one ``CN``.
        """
        return _common_name(self.issuer, self._id, f"{self.what}.issuer")

    @property
    def public_key(self) -> IssuerKey:
        """The subject's key: on P-256 or P-384, or RSA of 2048 to 8192 bits.

        Raises:
            MalformedEvidence: A key of another kind, or an invalid one.
        """
        key = self._memo.key
        if key is None:
            key = load_issuer_key(self.spki, id=self._id, what=self.what)
            self._memo.key = key
        return key

    @property
    def is_ca(self) -> bool:
        """The CA flag of the basic constraints; ``False`` where they are absent.

        Raises:
            MalformedEvidence: The extensions are malformed (so for all properties below).
        """
        return self._profile().ca

    @property
    def path_length(self) -> int | None:
        """How many intermediate certificates may follow this one; ``None`` is any number."""
        return self._profile().path_length

    @property
    def key_usage(self) -> frozenset[str]:
        """Key usages, named as in ``cryptography``: ``key_cert_sign``, ``crl_sign``, ...

        Empty where the extension is absent.
        """
        return self._profile().key_usage

    @property
    def critical_extensions(self) -> frozenset[str]:
        """Dotted OIDs of the extensions marked critical."""
        return self._profile().critical

    def extension(self, oid: str) -> bytes | None:
        """The DER value of an extension, or ``None`` where it is absent.

        Args:
            oid: Dotted OID.

        Raises:
            MalformedEvidence: The extensions are malformed.
        """
        value = self._profile().values.get(oid)
        if isinstance(value, x509.UnrecognizedExtension):
            return value.value
        try:
            if value is not None:
                return value.public_bytes()
            ObjectIdentifier(oid)  # what is no OID is refused, not absent
        except FOREIGN_ERRORS:
            raise self._malformed(f"extension {oid} cannot be read") from None
        return None

    def _profile(self) -> _Profile:
        profile = self._memo.profile
        if profile is None:
            try:
                profile = _read_profile(self._x509.extensions)
            except FOREIGN_ERRORS:
                raise self._malformed("the extensions cannot be read") from None
            self._memo.profile = profile
        return profile

    def _malformed(self, problem: str) -> MalformedEvidence:
        return MalformedEvidence(f"{self.what}: {problem}", id=self._id, field=self.what)


def parse_certificate(der: bytes, *, id: str, what: str) -> Certificate:
    """Read exactly one certificate.

    Args:
        der: The certificate; nothing may follow it.
        id: Check id for the errors, also for those of the certificate's properties.
        what: What is read, for the errors.

    Raises:
        MalformedEvidence: Larger than 32 KiB, not DER, trailing data, not version 3, a serial
            number that is not positive or too long, or two different signature algorithms.
    """
    signed = parse_signed(der, id=id, what=what, max_bytes=MAX_CERTIFICATE_BYTES)
    serial, issuer, subject, spki = _walk(signed, id, what)
    try:
        loaded = x509.load_der_x509_certificate(der)
        dates = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    except FOREIGN_ERRORS:
        raise MalformedEvidence(
            f"{what}: not a certificate that can be read", id=id, field=what
        ) from None
    return Certificate(
        der, what, serial, issuer, subject, spki, *dates, signed, loaded, id, _Memo()
    )


def _read_profile(extensions: x509.Extensions) -> _Profile:
    values: dict[str, x509.ExtensionType] = {}
    critical: set[str] = set()
    constraints: tuple[bool, int | None] = (False, None)
    usage: frozenset[str] = frozenset()
    for extension in extensions:
        oid, value = extension.oid.dotted_string, extension.value
        values[oid] = value
        if extension.critical:
            critical.add(oid)
        if oid == _BASIC_CONSTRAINTS and isinstance(value, x509.BasicConstraints):
            constraints = value.ca, value.path_length
        elif oid == _KEY_USAGE and isinstance(value, x509.KeyUsage):
            usage = frozenset(name for name in _KEY_USAGES if getattr(value, name))
    return _Profile(values, frozenset(critical), *constraints, usage)


def _walk(signed: Signed, id: str, what: str) -> tuple[int, bytes, bytes, bytes]:
    """Serial number and the exact bytes of names and key (RFC 5280 section 4.1)."""
    tbs = DerReader(signed.tbs, name=what, id=id).nested(SEQUENCE, "tbs")
    version = tbs.optional(CONTEXT_0, "version")
    if version is None or version.integer("version") != _VERSION_3:
        raise tbs.error("not an X.509 version 3 certificate", "version")
    version.finish()
    # Before the library loads it, because the library warns about such a serial number, and a
    # warning is either noise or (where warnings are errors) an exception of another kind.
    serial = tbs.integer("serial")
    if serial <= 0 or serial.bit_length() > _MAX_SERIAL_BITS:
        raise tbs.error(
            "a serial number that RFC 5280 does not allow", "serial", got=hex(serial)[:64]
        )
    require_algorithm(tbs, signed)
    issuer = tbs.encoded(SEQUENCE, "issuer")
    tbs.encoded(SEQUENCE, "validity")
    subject = tbs.encoded(SEQUENCE, "subject")
    return serial, issuer, subject, tbs.encoded(SEQUENCE, "spki")


def _common_name(name: bytes, id: str, what: str) -> str:
    """``CN`` of a distinguished name (RFC 5280 section 4.1.2.4)."""
    relative_names = DerReader(name, name=what, id=id).nested(SEQUENCE, "name")
    found: list[str] = []
    while relative_names.remaining:
        attributes = relative_names.nested(SET, "rdn")
        while attributes.remaining:
            kind, tag, value = attributes.pair("attribute")
            if kind != _COMMON_NAME:
                continue
            try:
                found.append(value.decode(_TEXT[tag]))
            except (KeyError, UnicodeDecodeError):
                raise attributes.error("a common name that is not text", "value") from None
    if len(found) > 1:
        raise relative_names.error("more than one common name", "name")
    return found[0] if found else ""


def parse_pem_chain(
    pem: bytes | str,
    *,
    id: str,
    what: str,
    max_certificates: int = 8,
    trailing_nul: bool = False,
    known: Sequence[Certificate] = (),
) -> tuple[Certificate, ...]:
    """Read certificates in PEM (RFC 7468 section 5), in the order of the text.

    Args:
        pem: Blocks labelled ``CERTIFICATE``, and nothing but white space around them.
        id: Check id for the errors.
        what: What is read, for the errors.
        max_certificates: Most certificates accepted.
        trailing_nul: Whether one final NUL is skipped, as quotes often carry it.
        known: Certificates read before; where the same bytes come again, they are given.

    Returns:
        The certificates; at least one.

    Raises:
        MalformedEvidence: No block, too many, other text, or a certificate that is malformed.
    """
    nul: bytes | str = "\0" if isinstance(pem, str) else b"\0"
    if trailing_nul and pem[-1:] == nul:
        pem = pem[:-1]
    blocks = pem_blocks(pem, "CERTIFICATE", id=id, what=what, max_blocks=max_certificates)
    before = {certificate.der: certificate for certificate in known}
    return tuple(
        before.get(block) or parse_certificate(block, id=id, what=f"{what}[{index}]")
        for index, block in enumerate(blocks)
    )
