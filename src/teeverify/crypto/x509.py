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

from teeverify.crypto.der import contents_of, ends_of, oid_bytes
from teeverify.crypto.extensions import Extensions, read_extensions
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.names import common_name
from teeverify.crypto.pem import pem_blocks
from teeverify.crypto.signed import (
    Frame,
    IssuerKey,
    Signed,
    cut_signed,
    load_issuer_key,
    require_algorithm,
)
from teeverify.errors import MalformedEvidence

__all__ = ["Certificate", "parse_certificate", "parse_pem_chain"]

MAX_CERTIFICATE_BYTES = 32 * 1024
_VERSION_3 = bytes.fromhex("a003020102")
# Intel uses all bits of 20 bytes, one more than RFC 5280 section 4.1.2.2 gives a positive number.
_MAX_SERIAL_BITS = 160


class _Memo:
    """What was worked out of a certificate; it only ever depends on the certificate's bytes."""

    __slots__ = ("common_name", "extensions", "key")

    def __init__(self) -> None:
        self.common_name: str | None = None
        self.key: IssuerKey | None = None
        self.extensions: Extensions | None = None


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
    _extensions: bytes = field(compare=False, repr=False)
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
            name = common_name(self.subject, id=self._id, what=f"{self.what}.subject")
            self._memo.common_name = name
        return name

    @property
    def issuer_common_name(self) -> str:
        """``CN`` of the issuer; empty where there is none.

        Raises:
            MalformedEvidence: The name is malformed, or has more than one ``CN``.
        """
        return common_name(self.issuer, id=self._id, what=f"{self.what}.issuer")

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
    def extensions(self) -> Extensions:
        """What the extensions say, read once.

        Raises:
            MalformedEvidence: They are malformed (so for all that is read from them).
        """
        found = self._memo.extensions
        if found is None:
            try:
                found = read_extensions(self._extensions)
            except (MalformedEvidence, LookupError, ValueError):
                raise self._malformed("the extensions cannot be read") from None
            self._memo.extensions = found
        return found

    @property
    def is_ca(self) -> bool:
        """The CA flag of the basic constraints; ``False`` where they are absent."""
        return self.extensions.is_ca

    @property
    def key_usage(self) -> frozenset[str]:
        """Key usages (RFC 5280 section 4.2.1.3): ``key_cert_sign``, ``crl_sign``, ...

        Empty where the extension is absent.
        """
        return self.extensions.key_usage

    def extension(self, oid: str | bytes) -> bytes | None:
        """The DER value of an extension, or ``None`` where it is absent.

        Args:
            oid: The object identifier: dotted, or the contents of its DER.

        Raises:
            MalformedEvidence: The extensions are malformed.
        """
        if isinstance(oid, str):
            oid = oid_bytes(oid, name=self.what, id=self._id)
        return self.extensions.values.get(oid)

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
    parts = cut_signed(der, _cut, id=id, what=what, max_bytes=MAX_CERTIFICATE_BYTES)
    try:
        # This is the strict reader: exactly one certificate in DER, each field of its own type.
        loaded = x509.load_der_x509_certificate(der)
        dates = loaded.not_valid_before_utc, loaded.not_valid_after_utc
    except FOREIGN_ERRORS:
        raise MalformedEvidence(
            f"{what}: not a certificate that can be read", id=id, field=what, offset=0
        ) from None
    return Certificate(
        der,
        what,
        parts.serial,
        parts.issuer,
        parts.subject,
        parts.spki,
        *dates,
        parts.signed,
        parts.extensions,
        id,
        _Memo(),
    )


class _Parts(NamedTuple):
    """The exact bytes of a certificate's parts (RFC 5280 section 4.1)."""

    signed: Signed
    serial: int
    issuer: bytes
    subject: bytes
    spki: bytes
    extensions: bytes


def _cut(der: bytes, frame: Frame) -> _Parts:
    """Cut the signed bytes, and look at what the library does not, or only warns of."""
    ends = ends_of(der, frame.start, 7)
    serial, algorithm, issuer, validity, subject, spki, extensions = ends
    if der[frame.start : serial] != _VERSION_3:
        raise ValueError("not an X.509 version 3 certificate")
    number = int.from_bytes(der[contents_of(der, serial) : algorithm], "big", signed=True)
    if number <= 0 or number.bit_length() > _MAX_SERIAL_BITS:
        raise ValueError("a serial number that RFC 5280 does not allow")
    require_algorithm(der[algorithm:issuer], frame.signed)
    return _Parts(
        frame.signed,
        number,
        der[issuer:validity],
        der[subject:spki],
        der[spki:extensions],
        der[extensions : frame.end],
    )


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
