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

from teeverify.crypto.der import (
    BIT_STRING,
    CONTEXT_3,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    DerReader,
    contents_of,
    end_of,
    ends_of,
    oid_bytes,
    oid_text,
    span_of,
)
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.pem import pem_blocks
from teeverify.crypto.signed import (
    IssuerKey,
    Signed,
    algorithm_problem,
    load_issuer_key,
)
from teeverify.errors import MalformedEvidence

__all__ = ["Certificate", "parse_certificate", "parse_pem_chain"]

MAX_CERTIFICATE_BYTES = 32 * 1024
_VERSION_3 = bytes.fromhex("a003020102")
# Intel uses all bits of 20 bytes, one more than RFC 5280 section 4.1.2.2 gives a positive number.
_MAX_SERIAL_BITS = 160
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_KEY_USAGE = bytes.fromhex("551d0f")
_NAMES = {_BASIC_CONSTRAINTS: "2.5.29.19", _KEY_USAGE: "2.5.29.15"}
_WHOLE_BYTES = b"\x00"
_NO_CA = bytes.fromhex("3000")
_ANY_CA = bytes.fromhex("30030101ff")
_CA_OF_LENGTH = bytes.fromhex("30060101ff0201")
_TRUE = bytes.fromhex("0101ff")
_COMMON_NAME = bytes.fromhex("550403")
_SHORT_NAME = 0x7F + 2
_SET_OF_SEQUENCE = bytes((SET, SEQUENCE))
_X520 = bytes.fromhex("06035504")
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_MAX_UNUSED_BITS = 7
_LONG_FORM = 0x80


class _Profile(NamedTuple):
    """What the extensions say, read once; an absent extension is the zero value."""

    values: dict[bytes, bytes]
    critical: frozenset[str] = frozenset()
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
        """Key usages (RFC 5280 section 4.2.1.3): ``key_cert_sign``, ``crl_sign``, ...

        Empty where the extension is absent.
        """
        return self._profile().key_usage

    @property
    def critical_extensions(self) -> frozenset[str]:
        """Dotted OIDs of the extensions marked critical."""
        return self._profile().critical

    def extension(self, oid: str | bytes) -> bytes | None:
        """The DER value of an extension, or ``None`` where it is absent.

        Args:
            oid: The object identifier: dotted, or the contents of its DER.

        Raises:
            MalformedEvidence: The extensions are malformed.
        """
        if isinstance(oid, str):
            oid = oid_bytes(oid, name=self.what, id=self._id)
        return self._profile().values.get(oid)

    def _profile(self) -> _Profile:
        profile = self._memo.profile
        if profile is None:
            try:
                profile = _read_profile(self._extensions)
            except (MalformedEvidence, LookupError, ValueError):
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
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise MalformedEvidence(
            f"{what}: too large",
            id=id,
            field=what,
            need=f"at most {MAX_CERTIFICATE_BYTES}",
            have=len(der),
        )
    try:
        parts = _cut(der)
        if end_of(der, 0) < len(der):
            raise MalformedEvidence(
                f"{what}: trailing data", id=id, field=what, offset=end_of(der, 0)
            )
    except IndexError:
        raise MalformedEvidence(f"{what}: truncated", id=id, field=what, offset=len(der)) from None
    problem = parts.problem()
    if problem:
        raise MalformedEvidence(f"{what}: {problem}", id=id, field=what)
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
    signature_bits: bytes
    version: bytes
    serial: int
    algorithm: bytes
    issuer: bytes
    subject: bytes
    spki: bytes
    extensions: bytes

    def problem(self) -> str | None:
        """What is wrong with what the library does not look at, or only warns of."""
        if self.signature_bits != _WHOLE_BYTES:
            return "a signature with unused bits"
        if self.version != _VERSION_3:
            return "not an X.509 version 3 certificate"
        if not 0 < self.serial.bit_length() <= _MAX_SERIAL_BITS or self.serial < 0:
            return "a serial number that RFC 5280 does not allow"
        return algorithm_problem(self.algorithm, self.signed)


def _cut(der: bytes) -> _Parts:
    """Cut a certificate into parts, which are right only where it is well-formed."""
    tbs = contents_of(der, 0)
    tbs_end, algorithm_end = ends_of(der, tbs, 2)
    signature = contents_of(der, algorithm_end) + 1  # after the number of unused bits
    version = contents_of(der, tbs)
    serial, algorithm, issuer, validity, subject, spki, rest = ends_of(der, version, 7)
    return _Parts(
        Signed(
            tbs=der[tbs:tbs_end], algorithm=der[tbs_end:algorithm_end], signature=der[signature:]
        ),
        der[signature - 1 : signature],
        der[version:serial],
        int.from_bytes(der[contents_of(der, serial) : algorithm], "big", signed=True),
        der[algorithm:issuer],
        der[issuer:validity],
        der[subject:spki],
        der[spki:rest],
        der[rest:tbs_end],
    )


def _read_profile(raw: bytes) -> _Profile:
    """Read the extensions, and the meaning of the two that every path needs.

    RFC 5280 section 4.2. That each is an identifier, a flag and octets, the strict reader saw.
    """
    values: dict[bytes, bytes] = {}
    critical: set[str] = set()
    position, end = 0, len(raw)
    while position < end and raw[position] != CONTEXT_3:
        position = end_of(raw, position)  # unique identifiers of issuer and subject
    if position < end:
        position = contents_of(raw, contents_of(raw, position))
    while position < end:
        if raw[position] != SEQUENCE:
            raise ValueError
        start, position = span_of(raw, position)
        value = start + 2 + raw[start + 1]
        oid = raw[start + 2 : value]
        if raw[value : value + 3] == _TRUE:
            critical.add(_NAMES.get(oid) or oid_text(oid))
            value += 3
        contents, finish = span_of(raw, value)
        if raw[start] != OID or raw[value] != OCTET_STRING or finish != position:
            raise ValueError
        if oid in values or len(oid) >= _LONG_FORM:
            raise ValueError
        values[oid] = raw[contents:position]
    constraints, usage = values.get(_BASIC_CONSTRAINTS), values.get(_KEY_USAGE)
    return _Profile(
        values,
        frozenset(critical),
        *((False, None) if constraints is None else _constraints(constraints)),
        frozenset() if usage is None else _usage(usage),
    )


def _constraints(value: bytes) -> tuple[bool, int | None]:
    """RFC 5280 section 4.2.1.9; DER leaves out what is false."""
    if value == _NO_CA:
        return False, None
    if value == _ANY_CA:
        return True, None
    # A CA with a path length, which takes one byte.
    if value[:-1] == _CA_OF_LENGTH and value[-1] < 0x80:  # noqa: PLR2004 -- X.690 section 8.3
        return True, value[-1]
    raise ValueError


def _usage(value: bytes) -> frozenset[str]:
    """RFC 5280 section 4.2.1.3: a string of bits, whose unused ones are zero (X.690 11.2)."""
    if value[0] != BIT_STRING or end_of(value, 0) != len(value):
        raise ValueError
    unused, bits = value[2], int.from_bytes(value[3:], "big")
    size = 8 * (len(value) - 3) - unused
    wrong = unused > _MAX_UNUSED_BITS or not 0 <= size <= len(_KEY_USAGES)
    if wrong or bits % (1 << unused):
        raise ValueError
    bits >>= unused
    return frozenset(
        [name for at, name in enumerate(_KEY_USAGES[:size]) if bits >> (size - 1 - at) & 1]
    )


def _usual_common_name(name: bytes) -> str | None:
    """``CN`` of a short name whose attributes are all of the usual form; else ``None``.

    That is a set of one attribute of X.520 (2.5.4.x) in one of the usual kinds of text.
    """
    position, end = 2, len(name)
    if not 0 < end <= _SHORT_NAME or name[:2] != bytes((SEQUENCE, end - 2)):
        return None
    found: list[bytes] = []
    while position < end:
        text = position + 11
        head = name[position:text]
        if len(head) < 11 or head[::2][:2] != _SET_OF_SEQUENCE or head[4:8] != _X520:  # noqa: PLR2004
            return None
        size = head[10]
        if head[1] != size + 9 or head[3] != size + 7 or head[9] not in _TEXT:
            return None
        position = text + size
        if head[8] == _COMMON_NAME[2]:
            found.append(name[text:position])
    usual = position == end and len(found) == 1 and found[0].isascii()
    return found[0].decode("ascii") if usual else None


def _common_name(name: bytes, id: str, what: str) -> str:
    """``CN`` of a distinguished name (RFC 5280 section 4.1.2.4)."""
    usual = _usual_common_name(name)
    if usual is not None:
        return usual
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
