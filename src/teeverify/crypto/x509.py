"""X.509 version 3 certificates (RFC 5280): strict reading and typed access.

Their paths are verified in :mod:`teeverify.crypto.certificates`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from teeverify.crypto.der import CONTEXT_0, OID, SEQUENCE, SET, DerReader
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


class _Constraints(NamedTuple):
    """Basic constraints; an absent extension is the zero value."""

    ca: bool = False
    path_length: int | None = None


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
        return _common_name(self.subject, self._id, f"{self.what}.subject")

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
        return load_issuer_key(self.spki, id=self._id, what=self.what)

    @property
    def is_ca(self) -> bool:
        """The CA flag of the basic constraints; ``False`` where they are absent.

        Raises:
            MalformedEvidence: The extensions are malformed (so for all properties below).
        """
        return self._constraints().ca

    @property
    def path_length(self) -> int | None:
        """How many intermediate certificates may follow this one; ``None`` is any number."""
        return self._constraints().path_length

    @property
    def key_usage(self) -> frozenset[str]:
        """Key usages, named as in ``cryptography``: ``key_cert_sign``, ``crl_sign``, ...

        Empty where the extension is absent.
        """
        try:
            usage = self._extensions().get_extension_for_class(x509.KeyUsage).value
        except x509.ExtensionNotFound:
            return frozenset()
        return frozenset(name for name in _KEY_USAGES if getattr(usage, name))

    @property
    def critical_extensions(self) -> frozenset[str]:
        """Dotted OIDs of the extensions marked critical."""
        return frozenset(e.oid.dotted_string for e in self._extensions() if e.critical)

    def extension(self, oid: str) -> bytes | None:
        """The DER value of an extension, or ``None`` where it is absent.

        Args:
            oid: Dotted OID.

        Raises:
            MalformedEvidence: The extensions are malformed.
        """
        try:
            found = self._extensions().get_extension_for_oid(ObjectIdentifier(oid))
            return found.value.public_bytes()
        except x509.ExtensionNotFound:
            return None
        except FOREIGN_ERRORS:
            raise self._malformed(f"extension {oid} cannot be read") from None

    def _constraints(self) -> _Constraints:
        try:
            value = self._extensions().get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            return _Constraints()
        return _Constraints(value.ca, value.path_length)

    def _extensions(self) -> x509.Extensions:
        try:
            return self._x509.extensions
        except FOREIGN_ERRORS:
            raise self._malformed("the extensions cannot be read") from None

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
    return Certificate(der, what, serial, issuer, subject, spki, *dates, signed, loaded, id)


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
            attribute = attributes.nested(SEQUENCE, "attribute")
            kind = attribute.value(OID, "type")
            tag, value = attribute.any("value")
            if kind != _COMMON_NAME:
                continue
            try:
                found.append(value.decode(_TEXT[tag]))
            except (KeyError, UnicodeDecodeError):
                raise attribute.error("a common name that is not text", "value") from None
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
) -> tuple[Certificate, ...]:
    """Read certificates in PEM (RFC 7468 section 5), in the order of the text.

    Args:
        pem: Blocks labelled ``CERTIFICATE``, and nothing but white space around them.
        id: Check id for the errors.
        what: What is read, for the errors.
        max_certificates: Most certificates accepted.
        trailing_nul: Whether one final NUL is skipped, as quotes often carry it.

    Returns:
        The certificates; at least one.

    Raises:
        MalformedEvidence: No block, too many, other text, or a certificate that is malformed.
    """
    nul: bytes | str = "\0" if isinstance(pem, str) else b"\0"
    if trailing_nul and pem[-1:] == nul:
        pem = pem[:-1]
    blocks = pem_blocks(pem, "CERTIFICATE", id=id, what=what, max_blocks=max_certificates)
    return tuple(
        parse_certificate(block, id=id, what=f"{what}[{index}]")
        for index, block in enumerate(blocks)
    )
