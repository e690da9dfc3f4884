"""Certificate revocation lists, version 2 (RFC 5280 section 5): complete lists of one CA."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, NoReturn, cast

from cryptography import x509

from teeverify.clock import UTC, parse_time, show_time
from teeverify.crypto.der import (
    GENERALIZED_TIME,
    INTEGER,
    SEQUENCE,
    UTC_TIME,
    end_of,
    ends_of,
    span_of,
)
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.crypto.names import shown_name
from teeverify.crypto.signed import (
    Anchor,
    Frame,
    Signed,
    cut_signed,
    load_issuer_key,
    require_algorithm,
    verify_signed,
)
from teeverify.crypto.x509 import Certificate
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
)

__all__ = [
    "Crl",
    "parse_crl",
    "require_not_revoked",
    "verify_crl",
    "verify_crl_of_anchor",
]

MAX_CRL_BYTES = 8 * 1024 * 1024
_VERSION_2 = bytes.fromhex("020101")
_ALLOWED_IN_ENTRY = (x509.CRLReason, x509.InvalidityDate)
_REMOVE = x509.ReasonFlags.remove_from_crl
_MAX_SERIAL_BYTES = 21
_SHORTEST = rb"(?!\x00[\x00-\x7f]|\xff[\x80-\xff])"
_REASON = bytes.fromhex("300c300a0603551d1504030a01")


def _usual_entry(size: int) -> bytes:
    """The pattern of an entry with a serial number of this many bytes and a reason, no more.

    The number is of the shortest form (X.690 section 8.3.2), so that equal ones have equal bytes.

    RFC 5280 sections 5.1.2.6 and 5.3.1: serial number, UTCTime, and one extension that is not
    critical: a reason, which is not ``removeFromCRL``.
    """
    header = bytes([0x30, 2 + size + 15 + len(_REASON) + 1, 0x02, size])
    date = bytes([0x17, 13])
    serial = (_SHORTEST if size > 1 else b"") + rb".{%d}" % size
    pieces = (header, serial, date, rb"[0-9]{12}Z", _REASON, rb"[\x00-\x06\x09\x0a]")
    fixed = (header, date, _REASON)
    return b"".join(re.escape(piece) if piece in fixed else piece for piece in pieces)


# Long lists have entries of this one form; whatever is not, the library reads.
_USUAL = b"|".join(_usual_entry(size) for size in range(1, _MAX_SERIAL_BYTES + 1))
_USUAL_ENTRIES = re.compile(b"(?:" + _USUAL + b")*", re.DOTALL)
_PARTIAL = (x509.DeltaCRLIndicator.oid, x509.IssuingDistributionPoint.oid)
_CRL_NUMBER = x509.CRLNumber.oid
_KEY_IDENTIFIER = x509.AuthorityKeyIdentifier.oid


@dataclass(frozen=True, slots=True)
class Crl:
    """A revocation list, read strictly and not verified.

    Attributes:
        der: The list as sent.
        what: What it was read as, for messages.
        issuer: DER of the issuer's name, as sent.
        this_update: When it was made.
        next_update: When the next one is due.
        number: The CRL number, where there is one.
        key_identifier: The authority key identifier, where there is one.
        signed: The signed bytes, the algorithm and the signature.
    """

    der: bytes = field(repr=False)
    what: str = field(compare=False)
    issuer: bytes = field(compare=False, repr=False)
    this_update: datetime = field(compare=False)
    next_update: datetime = field(compare=False)
    number: int | None = field(compare=False)
    key_identifier: bytes | None = field(compare=False, repr=False)
    signed: Signed = field(compare=False, repr=False)
    _entries: _Entries = field(compare=False, repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the list, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def revoked(self) -> frozenset[int]:
        """Serial numbers of the certificates that it revokes."""
        return self._entries.serials()

    def revokes(self, serial: int) -> bool:
        """Whether it revokes the certificate with this serial number."""
        return self._entries.may_have(serial) and serial in self._entries.serials()


class _Entries:
    """The entries of a list: as bytes where all have the usual form, else as read.

    Args:
        usual: The bytes of the entries.
        read: The serial numbers, where the bytes are not of the usual form.
    """

    __slots__ = ("_serials", "_usual")

    def __init__(self, usual: bytes, read: frozenset[int] | None) -> None:
        self._usual = usual
        self._serials = read

    def may_have(self, serial: int) -> bool:
        """Whether a search of the bytes leaves the serial number possible."""
        if self._serials is not None:
            return True
        size = (serial if serial >= 0 else ~serial).bit_length() // 8 + 1
        contents = serial.to_bytes(size, "big", signed=True)
        return bytes([INTEGER, size]) + contents in self._usual

    def serials(self) -> frozenset[int]:
        """All serial numbers."""
        if self._serials is None:
            self._serials = _usual_serials(self._usual)
        return self._serials


def parse_crl(der: bytes, *, id: str, what: str) -> Crl:
    """Read exactly one revocation list.

    Args:
        der: The list; nothing may follow it.
        id: Check id for the errors.
        what: What is read, for the errors.

    Raises:
        MalformedEvidence: Larger than 8 MiB, not DER, trailing data, not version 2, without a next
            update, two different signature algorithms, an unknown critical extension, or a list
            that covers only part of what its issuer revoked.
    """
    signed, issuer, entries = cut_signed(der, _cut, id=id, what=what, max_bytes=MAX_CRL_BYTES)
    try:
        loaded = x509.load_der_x509_crl(der)
        this_update, next_update = loaded.last_update_utc, loaded.next_update_utc
        extensions = list(loaded.extensions)
        usual = _USUAL_ENTRIES.fullmatch(entries) is not None
        listed = _Entries(entries, None if usual else frozenset(map(_serial, loaded)))
    except FOREIGN_ERRORS:
        _malformed(id, what, "not a revocation list that can be read")
    if next_update is None:
        _malformed(id, what, "no next update, so it would never end")
    number, key_identifier = _extensions(extensions, id, what)
    return Crl(der, what, issuer, this_update, next_update, number, key_identifier, signed, listed)


class _Parts(NamedTuple):
    """The exact bytes of a list's parts (RFC 5280 section 5.1.2)."""

    signed: Signed
    issuer: bytes
    entries: bytes


def _cut(der: bytes, frame: Frame) -> _Parts:
    version, algorithm, issuer, position = ends_of(der, frame.start, 4)
    if der[frame.start : version] != _VERSION_2:
        raise ValueError("not a version 2 revocation list")
    require_algorithm(der[version:algorithm], frame.signed)
    if position < frame.end and der[position] in (UTC_TIME, GENERALIZED_TIME):
        position = end_of(der, position)  # the next update
    start, end = position, position
    if position < frame.end and der[position] == SEQUENCE:
        start, end = span_of(der, position)
    return _Parts(frame.signed, der[algorithm:issuer], der[start:end])


def _usual_serials(entries: bytes) -> frozenset[int]:
    """The serial numbers of entries that all have the usual form."""
    # The pattern has proved each entry's layout: tag, size, tag, size of the serial number, ...
    serials: list[bytes] = []
    position, end = 0, len(entries)
    while position < end:
        start = position + 4
        serials.append(entries[start : start + entries[position + 3]])
        position += 2 + entries[position + 1]
    return frozenset(int.from_bytes(serial, "big", signed=True) for serial in serials)


def _serial(entry: x509.RevokedCertificate) -> int:
    """The entry's serial number, where the entry says no more than that it is revoked."""
    for extension in entry.extensions:
        value = extension.value
        if extension.critical and not isinstance(value, _ALLOWED_IN_ENTRY):
            raise ValueError
        # RFC 5280 section 5.3.1: only in delta lists, which are not read here.
        if isinstance(value, x509.CRLReason) and value.reason is _REMOVE:
            raise ValueError
    return entry.serial_number


def _extensions(
    extensions: list[x509.Extension[x509.ExtensionType]],
    id: str,
    what: str,
) -> tuple[int | None, bytes | None]:
    number: int | None = None
    key_identifier: bytes | None = None
    for extension in extensions:
        # The oid is compared because the library's classes are abstract ones: asking those for each
        # extension takes longer than reading it.
        oid = extension.oid
        if oid in _PARTIAL:
            _malformed(id, what, "covers only part of what its issuer revoked")
        if oid == _CRL_NUMBER:
            number = cast("x509.CRLNumber", extension.value).crl_number
        elif oid == _KEY_IDENTIFIER:
            key_identifier = cast("x509.AuthorityKeyIdentifier", extension.value).key_identifier
        elif extension.critical:
            _malformed(id, what, f"unknown critical extension {extension.oid.dotted_string}")
    return number, key_identifier


def _malformed(id: str, what: str, problem: str) -> NoReturn:
    raise MalformedEvidence(f"{what}: {problem}", id=id, field=what)


def verify_crl(
    crl: Crl,
    issuer: Certificate,
    *,
    at: datetime,
    id: str,
    what: str,
) -> None:
    """Verify that a CA made this list and that it is current.

    Whether the CA itself is trusted is for :func:`~teeverify.crypto.certificates.verify_path`.

    Args:
        crl: The list.
        issuer: The certificate of the CA that must have signed it.
        at: The time at which it must be current; both its dates belong to it.
        id: Check id for the errors.
        what: What the list is, for the errors.

    Raises:
        EndorsementInvalid: It is the list of another CA.
        ChainInvalid: The CA may not sign lists (RFC 5280 section 6.3.3 (f)).
        SignatureInvalid: The signature does not verify.
        EndorsementUnavailable: It is outdated, or not current yet.
        MalformedEvidence: The CA's certificate cannot be read.
        ConfigurationError: ``at`` has no zone.
    """
    moment = parse_time(at)
    _require_issuer(crl, issuer.subject, id=id, what=what)
    if "crl_sign" not in issuer.key_usage:
        raise ChainInvalid(
            f"{what}: {issuer.common_name!a} may not sign revocation lists (key usage)", id=id
        )
    verify_signed(crl.signed, issuer.public_key, id=id, what=what)
    _require_current(crl, moment, id=id, what=what)


def verify_crl_of_anchor(
    crl: Crl,
    anchor: Anchor,
    *,
    at: datetime,
    id: str,
    what: str,
) -> None:
    """Verify that a trust anchor's own key made this list and that it is current.

    An anchor is a name and a key that somebody wrote down, so there is no key usage to look at.

    Args:
        crl: The list.
        anchor: The anchor whose key must have signed it.
        at: The time at which it must be current; both its dates belong to it.
        id: Check id for the errors.
        what: What the list is, for the errors.

    Raises:
        EndorsementInvalid: It is the list of another CA.
        SignatureInvalid: The signature does not verify.
        EndorsementUnavailable: It is outdated, or not current yet.
        MalformedEvidence: The anchor's key cannot be read.
        ConfigurationError: ``at`` has no zone.
    """
    moment = parse_time(at)
    _require_issuer(crl, anchor.subject, id=id, what=what)
    key = load_issuer_key(anchor.spki, id=id, what=anchor.name)
    verify_signed(crl.signed, key, id=id, what=what)
    _require_current(crl, moment, id=id, what=what)


def _require_issuer(crl: Crl, subject: bytes, *, id: str, what: str) -> None:
    if crl.issuer != subject:
        raise EndorsementInvalid(
            f"{what}: it is the list of another CA",
            id=id,
            got=shown_name(crl.issuer, id=id),
            want=shown_name(subject, id=id),
        )


def _require_current(crl: Crl, moment: datetime, *, id: str, what: str) -> None:
    if not crl.this_update <= moment <= crl.next_update:
        raise EndorsementUnavailable(
            f"{what} is {'outdated' if moment > crl.next_update else 'not current yet'}"
            f" at {show_time(moment)}",
            id=id,
            got=f"current from {show_time(crl.this_update)} to {show_time(crl.next_update)}",
            want=f"current at {show_time(moment)}",
            hint="Fetch a fresh list, or verify at the time when the evidence was recorded.",
        )


def require_not_revoked(
    certificate: Certificate,
    crl: Crl,
    *,
    id: str,
    what: str,
) -> None:
    """Demand that a list which speaks about a certificate does not revoke it.

    Raises:
        EndorsementInvalid: Revoked, or the list is of another CA than the certificate's issuer.
    """
    if certificate.issuer != crl.issuer:
        raise EndorsementInvalid(
            f"{what}: the revocation list is not that of the certificate's issuer",
            id=id,
            got=shown_name(crl.issuer, id=id),
            want=shown_name(certificate.issuer, id=id),
        )
    if crl.revokes(certificate.serial):
        error = EndorsementInvalid(
            f"{what}: the certificate {certificate.common_name!a} is revoked by its issuer",
            id=id,
            got=f"serial {certificate.serial:x} in the list of {show_time(crl.this_update)}",
            want="a serial that is not listed",
        )
        error.invalid_since = _invalid_since(crl, certificate.serial)
        raise error


def _invalid_since(crl: Crl, serial: int) -> datetime | None:
    """When the certificate became invalid, where the list says so (RFC 5280 section 5.3.2)."""
    try:
        entry = x509.load_der_x509_crl(crl.der).get_revoked_certificate_by_serial_number(serial)
        if entry is None:
            return None
        extension = entry.extensions.get_extension_for_class(x509.InvalidityDate)
    except FOREIGN_ERRORS:
        return None
    return extension.value.invalidity_date.replace(tzinfo=UTC)
