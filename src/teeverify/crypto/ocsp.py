"""Whether a certificate is revoked, by its issuer's word of the day (OCSP, RFC 6960).

An answer counts for the certificate that its CertID names, when the issuer of that certificate, or
whoever that issuer appointed, signed it, and while it is current.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta

from teeverify.clock import parse_time, show_time
from teeverify.crypto.certificates import Certificate, verify_dates, verify_signed_by
from teeverify.crypto.der import OID, SEQUENCE, DerReader
from teeverify.crypto.ocsp_form import (
    HOLD,
    OcspResponse,
    OcspStatus,
    build_request,
    key_bits,
    parse_response,
)
from teeverify.crypto.signed import verify_signed
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    StaleEvidence,
)

__all__ = [
    "MAX_AGE",
    "OcspResponse",
    "OcspStatus",
    "build_request",
    "parse_response",
    "require_nonce",
    "verify_ocsp",
]

RESPONDER = "ocsp.responder"
CURRENT = "ocsp.current"
STATUS = "ocsp.status"
MAX_AGE = timedelta(hours=24)
_SIGNING = bytes.fromhex("2b06010505070309")  # id-kp-OCSPSigning
_EXTENDED_KEY_USAGE = "2.5.29.37"
_SIGNER_CRITICAL = {"2.5.29.15", "2.5.29.19", _EXTENDED_KEY_USAGE}


def require_nonce(response: OcspResponse, nonce: bytes) -> None:
    """Demand that an answer to a question of ours carries no other nonce than the question.

    A responder may leave it out (RFC 9654 section 2.1): then the answer's dates alone count.

    Raises:
        StaleEvidence: It carries another nonce.
    """
    if response.nonce is not None and not hmac.compare_digest(nonce, response.nonce):
        raise StaleEvidence(
            f"{response.what}: it answers another nonce",
            id=CURRENT,
            got=response.nonce.hex()[:80],
            want=nonce.hex(),
        )


def verify_ocsp(
    response: OcspResponse, certificate: Certificate, issuer: Certificate, *, at: datetime
) -> OcspStatus:
    """Verify that an answer says, with authority and now, that a certificate is not revoked.

    Args:
        response: The answer.
        certificate: The certificate, of a path that was verified.
        issuer: The one above it.
        at: The time at which the answer must be current, and not older than a day.

    Raises:
        EndorsementInvalid: About other certificates; or it is revoked, on hold or unknown.
        ChainInvalid: Answered by somebody whom the issuer did not appoint.
        SignatureInvalid: The answer, or the appointment, is not signed by that key.
        EndorsementUnavailable: Outside its dates, or older than a day.
        MalformedEvidence: A certificate in it cannot be read.
    """
    what, moment = response.what, parse_time(at)
    status = response.about(certificate, issuer)
    if status is None:
        raise EndorsementInvalid(
            f"{what}: the answer is about another certificate",
            id=RESPONDER,
            got=", ".join(f"serial {one.cert_id.serial:x}" for one in response.statuses)[:200],
            want=f"serial {certificate.serial:x} of {issuer.common_name!a}",
        )
    _verify_responder(response, issuer, moment)
    _verify_current(status, what, moment)
    if status.status != "good":
        since = "" if status.revoked_at is None else f" since {show_time(status.revoked_at)}"
        held = status.reason == HOLD
        raise EndorsementInvalid(
            f"{what}: the certificate {certificate.common_name!a} is "
            f"{'on hold' if held else status.status}",
            id=STATUS,
            got=f"{status.status}{since}, {status.reason or 'no reason given'}",
            want="good",
            hint="Its issuer may release it again; until then do not use it." if held else None,
        )
    return status


def _verify_current(status: OcspStatus, what: str, at: datetime) -> None:
    """RFC 6960 section 3.2 (5) and (6); and a day, where no nonce shows more."""
    end = status.this_update + MAX_AGE
    if status.next_update is not None:
        end = min(end, status.next_update)
    if status.next_update is None or not status.this_update <= at <= end:
        raise EndorsementUnavailable(
            f"{what}: the answer about revocation is not current at {show_time(at)}",
            id=CURRENT,
            got=f"current from {show_time(status.this_update)} to {show_time(end)}"
            if status.next_update is not None
            else "no next update, so it would never end",
            want=f"current at {show_time(at)}, and not older than a day",
            hint="Ask the responder again, or verify at the time of the recording.",
        )


def _verify_responder(response: OcspResponse, issuer: Certificate, at: datetime) -> None:
    """RFC 6960 section 4.2.2.2: the issuer, or a delegate that the issuer itself certified.

    Whether a delegate is revoked in turn is not asked (section 4.2.2.2.1 leaves it to us).
    """
    what = f"{response.what}: responder"
    candidates = [issuer, *response.certificates]
    signer = next((one for one in candidates if _is_responder(response, one)), None)
    if signer is None:
        raise ChainInvalid(f"{what}: its certificate is not at hand", id=RESPONDER)
    if (signer.subject, signer.spki) != (issuer.subject, issuer.spki):
        verify_signed_by(signer, issuer, id=RESPONDER, what=what)
        verify_dates(signer, at=at, id=RESPONDER, what=what)
        if not _may_answer(signer):
            raise ChainInvalid(
                f"{what}: {signer.common_name!a} may not answer for {issuer.common_name!a}",
                id=RESPONDER,
                got=f"key usage {', '.join(sorted(signer.key_usage)) or 'none'}",
                want="a signing certificate with the extended key usage OCSPSigning",
            )
    verify_signed(response.signed, signer.public_key, id=RESPONDER, what=response.what)


def _is_responder(response: OcspResponse, certificate: Certificate) -> bool:
    kind, value = response.responder
    if kind == "name":
        return certificate.subject == value
    return hashlib.sha1(key_bits(certificate), usedforsecurity=False).digest() == value


def _may_answer(signer: Certificate) -> bool:
    """Whether a certificate is one of a delegate: it signs, and answers are what it signs."""
    raw = signer.extension(_EXTENDED_KEY_USAGE)
    if raw is None or signer.is_ca or signer.extensions.critical - _SIGNER_CRITICAL:
        return False
    outer = DerReader(raw, name=signer.what, id=RESPONDER)
    usages = outer.nested(SEQUENCE, "extended_key_usage")
    outer.finish()
    found: list[bytes] = []
    while usages.remaining:
        found.append(usages.value(OID, "usage"))
    return _SIGNING in found and "digital_signature" in signer.key_usage
