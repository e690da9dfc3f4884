"""RA-TLS: a certificate whose key a TDX quote inside it vouches for.

dstack's form: X.509 extension ``1.3.6.1.4.1.62397.1.1`` holds the quote in an OCTET STRING, and
``report_data`` is SHA-512 of ``ratls-cert:`` and the certificate's SubjectPublicKeyInfo. Extension
``.2`` holds the event log in the same way. What newer guests write instead (``.8``: both in a
binary form with versions of its own) is recognised and refused: it is documented nowhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass
from datetime import datetime

from teeverify.clock import parse_time
from teeverify.crypto.certificates import Certificate, parse_certificate, verify_dates
from teeverify.crypto.der import OCTET_STRING, DerReader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import BindingMismatch, MalformedEvidence
from teeverify.roots import RootsInput
from teeverify.tdx.claims import Claims
from teeverify.tdx.collateral import Endorsements
from teeverify.tdx.eventlog import AppIdentity, verify_runtime_log
from teeverify.tdx.verify import verify_quote

__all__ = ["RatlsClaims", "verify_ratls"]

QUOTE_EXTENSION = "1.3.6.1.4.1.62397.1.1"
LOG_EXTENSION = "1.3.6.1.4.1.62397.1.2"
NEWER_EXTENSION = "1.3.6.1.4.1.62397.1.8"
CHECK = "tdx.ra-tls"
_TAG = b"ratls-cert:"
_SEAL = Seal("teeverify.tdx.verify_ratls")


@dataclass(frozen=True, slots=True, kw_only=True)
class RatlsClaims(Sealed):
    """What an RA-TLS certificate proves: whoever has its key runs in this TD.

    Attributes:
        tdx: What the quote proves. Whether its TCB and its code are acceptable is for a policy.
        spki: DER of the certificate's SubjectPublicKeyInfo. A TLS connection ends in the TD only
            if the other side proved that it has this key: compare with the connection's own.
        certificate_sha256: Which certificate it was, in hex.
        app: What dstack's OS wrote about the application before it started it, from the event log
            in the certificate, which RTMR3 of the quote proves; ``None`` where there is no log.
    """

    tdx: Claims
    spki: bytes
    certificate_sha256: str
    app: AppIdentity | None
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, _SEAL)

    @property
    def spki_sha256(self) -> str:
        """SHA-256 of the key, in hex, as connections are pinned."""
        return hashlib.sha256(self.spki).hexdigest()


def verify_ratls(
    certificate: bytes,
    endorsements: Endorsements,
    *,
    at: datetime | str,
    roots: RootsInput = None,
    unsafe_allow_debug: bool = False,
) -> RatlsClaims:
    """Verify an RA-TLS certificate: its quote, and that the quote binds its key.

    Who signed the certificate is not looked at: the quote is what vouches for the key.

    Args:
        certificate: The certificate in DER.
        endorsements: What Intel signed about the platform.
        at: The time for which all is verified.
        roots: See :func:`~teeverify.tdx.verify_quote`.
        unsafe_allow_debug: See :func:`~teeverify.tdx.verify_quote`.

    Raises:
        MalformedEvidence: No certificate, or one without a quote; or an event log that cannot be
            read.
        BindingMismatch: The quote is for another key, or of an SGX enclave; or the event log does
            not give the quote's registers.
        EndorsementUnavailable: The certificate is outside its dates.
        TeeVerifyError: What :func:`~teeverify.tdx.verify_quote` raises.
    """
    moment = parse_time(at)
    parsed = parse_certificate(bytes(certificate), id=CHECK, what="RA-TLS certificate")
    quote = _octets(parsed, QUOTE_EXTENSION, "quote")
    if quote is None:
        newer = parsed.extension(NEWER_EXTENSION) is not None
        raise MalformedEvidence(
            "the certificate carries its TDX quote only in dstack's newer form, which is not read "
            "here"
            if newer
            else "the certificate carries no TDX quote",
            id=CHECK,
            field="certificate",
            got=f"an extension {NEWER_EXTENSION}" if newer else None,
            want=f"an extension {QUOTE_EXTENSION}",
        )
    claims = verify_quote(
        quote, endorsements, at=moment, roots=roots, unsafe_allow_debug=unsafe_allow_debug
    )
    want = hashlib.sha512(_TAG + parsed.spki).digest()
    if not claims.is_td or claims.quote.report_data != want:
        raise BindingMismatch(
            "the quote in the certificate does not vouch for the certificate's key",
            id=CHECK,
            got=claims.quote.report_data.hex(),
            want=want.hex(),
            hint="Do not use this connection: the certificate was put together from parts.",
        )
    verify_dates(parsed, at=moment, id=CHECK, what="RA-TLS")
    log = _octets(parsed, LOG_EXTENSION, "event_log")
    return RatlsClaims(
        tdx=claims,
        spki=parsed.spki,
        certificate_sha256=parsed.sha256,
        app=verify_runtime_log(log, claims.quote) if log else None,
        seal=_SEAL,
    )


def _octets(certificate: Certificate, oid: str, name: str) -> bytes | None:
    """The octets in an extension's value; ``None`` where there is no such extension."""
    value = certificate.extension(oid)
    if value is None:
        return None
    outer = DerReader(value, name=f"certificate.{name}", id=CHECK)
    octets = outer.value(OCTET_STRING, "octets")
    outer.finish()
    return octets
