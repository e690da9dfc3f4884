"""Has NVIDIA revoked a certificate of a device, or of the signer of a manifest?

NVIDIA's responder answers for the certificates between the leaf of a device and the root, and for
all certificates below the root of a manifest's signer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import TypeAlias

from teeverify.clock import parse_time
from teeverify.crypto.certificates import Certificate
from teeverify.crypto.crl import Crl, parse_crl, require_not_revoked, verify_crl
from teeverify.crypto.ocsp import MAX_AGE, OcspResponse, parse_response, verify_ocsp
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.endorsements.remembered import Dated, Remembering
from teeverify.errors import ConfigurationError, EndorsementUnavailable
from teeverify.nvidia.claims import DeviceClaims
from teeverify.nvidia.measurements import MeasurementClaims
from teeverify.roots.anchors import RootsKind

__all__ = [
    "CertificateStatus",
    "RevocationClaims",
    "certificates_to_ask",
    "verify_crls",
    "verify_revocation",
]

PRESENT = "ocsp.present"
CRL = "gpu.crl"
_SHOWN = 4
_SEAL = Seal("nvidia.verify_revocation")
_Answer: TypeAlias = "tuple[bytes, OcspResponse]"


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateStatus:
    """One certificate that its issuer says is good.

    Attributes:
        common_name: Whose it is.
        serial: Its serial number.
        this_update: When that was known to be so.
        until: Until when the answer counts.
    """

    common_name: str
    serial: int
    this_update: datetime
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationClaims(Sealed):
    """No certificate was revoked or on hold when its issuer was asked, within the last day.

    Attributes:
        certificates: What was said about each.
        signers_included: Whether the signers of manifests are among them.
        expires_at: Until when the first answer counts.
        roots_kind: Which kind of roots the devices lead to.
    """

    certificates: tuple[CertificateStatus, ...]
    signers_included: bool
    expires_at: datetime
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`verify_revocation` makes it."""
        self._check_seal(seal, _SEAL)


def certificates_to_ask(
    devices: Sequence[DeviceClaims], measurements: MeasurementClaims | None = None
) -> tuple[tuple[Certificate, Certificate], ...]:
    """The certificates to ask about, each once and with its issuer.

    Args:
        devices: The devices; NVIDIA's responder does not know their leaves.
        measurements: The manifests that were used, if any.
    """
    paths: list[tuple[Certificate, ...]] = [device.issuers for device in devices]
    if measurements is not None:
        paths += [rim.signers for rim in measurements.rims.values()]
    pairs = {child.der: (child, issuer) for path in paths for child, issuer in pairwise(path)}
    return tuple(pairs.values())


def verify_revocation(
    devices: Sequence[DeviceClaims],
    responses: Iterable[bytes],
    *,
    at: datetime | str,
    measurements: MeasurementClaims | None = None,
    memory: Remembering | None = None,
) -> RevocationClaims:
    """Verify that NVIDIA's responder says of every certificate that it is good.

    Of several answers about one certificate the newest counts.

    Args:
        devices: The devices, as verified here.
        responses: OCSP answers (RFC 6960), in any order. Untrusted.
        at: The time at which they must be current; none may be older than a day.
        measurements: The manifests that were used: their signers are asked about too.
        memory: What was read before.

    Raises:
        ConfigurationError: No devices, or a wrong argument.
        EndorsementUnavailable: No answer about a certificate, or none that is current.
        EndorsementInvalid: A certificate is revoked, on hold, or not known to its issuer.
        MalformedEvidence: An answer that cannot be read.
        ChainInvalid: An answer of somebody whom the issuer did not appoint.
        SignatureInvalid: An answer was changed.
    """
    moment = parse_time(at)
    if not devices or not all(isinstance(device, DeviceClaims) for device in devices):
        raise ConfigurationError("devices are nvidia.DeviceClaims", id="usage.evidence")
    kept = Remembering() if memory is None else memory
    answers = _answers(responses, kept, moment)
    asked = certificates_to_ask(devices, measurements)
    chosen = [(pair, _newest(answers, *pair, moment)) for pair in asked]
    missing = [f"{pair[0].common_name!a}" for pair, answer in chosen if answer is None]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise EndorsementUnavailable(
            "whether NVIDIA revoked a certificate is not known: there is no answer about it",
            id=PRESENT,
            got=f"answers about {len(asked) - len(missing)} of {len(asked)} certificates",
            want=f"{', '.join(missing[:_SHOWN])}{more}",
            hint="Ask NVIDIA's OCSP responder, and pass --endorsements DIR.",
        )
    found = [_status(answer, *pair, kept, moment) for pair, answer in chosen if answer is not None]
    return RevocationClaims(
        certificates=tuple(found),
        signers_included=measurements is not None,
        expires_at=min(one.until for one in found),
        roots_kind=devices[0].roots_kind,
        seal=_SEAL,
    )


def _answers(responses: Iterable[bytes], memory: Remembering, at: datetime) -> list[_Answer]:
    """Read the answers, each once; an error of the responder is none."""
    found = [
        (raw, memory.remember(("nvidia.ocsp", raw), at, partial(_parsed, raw, index)).value)
        for index, raw in enumerate(dict.fromkeys(responses))
    ]
    return [(raw, answer) for raw, answer in found if answer is not None]


def _parsed(raw: bytes, index: int) -> Dated[OcspResponse | None]:
    try:
        return Dated.always(parse_response(raw, what=f"OCSP answer[{index}]"))
    except EndorsementUnavailable:
        return Dated.always(None)


def _newest(
    answers: Sequence[_Answer], certificate: Certificate, issuer: Certificate, at: datetime
) -> _Answer | None:
    """The answer that counts; one of the future only where there is no other."""
    about = [
        (status.this_update <= at, status.this_update, index)
        for index, (_, answer) in enumerate(answers)
        if (status := answer.about(certificate, issuer)) is not None
    ]
    return answers[max(about)[-1]] if about else None


def _status(
    answer: _Answer,
    certificate: Certificate,
    issuer: Certificate,
    memory: Remembering,
    at: datetime,
) -> CertificateStatus:
    """Verify an answer, or know that it was: whatever has dates in it is looked at again."""
    raw, response = answer

    def verify() -> Dated[CertificateStatus]:
        status = verify_ocsp(response, certificate, issuer, at=at)
        until = status.this_update + MAX_AGE
        until = min(until, status.next_update or until)
        found = CertificateStatus(
            common_name=certificate.common_name,
            serial=certificate.serial,
            this_update=status.this_update,
            until=until,
        )
        # Those of a delegate whom the answer names: what it does not use only shortens the span.
        sent = response.certificates
        return Dated(
            found,
            not_before=max([status.this_update, *(one.not_before for one in sent)]),
            not_after=min([until, *(one.not_after for one in sent)]),
        )

    key = ("nvidia.ocsp-status", raw, certificate.der, issuer.der)
    return memory.remember(key, at, verify).value


def verify_crls(
    devices: Sequence[DeviceClaims],
    lists: Iterable[bytes],
    *,
    at: datetime | str,
    measurements: MeasurementClaims | None = None,
    memory: Remembering | None = None,
) -> tuple[Crl, ...]:
    """Verify that no revocation list that is at hand names one of the certificates.

    A list is no substitute for an answer: NVIDIA lists only its own CAs, not the devices.

    Args:
        devices: The devices, as verified here.
        lists: CRLs in DER; those of other issuers are left alone.
        at: The time at which they must be current.
        measurements: The manifests that were used, if any.
        memory: What was read before.

    Returns:
        The lists that speak about a certificate.

    Raises:
        EndorsementInvalid: A list names a certificate.
        EndorsementUnavailable: A list is outside its dates.
        MalformedEvidence: A list cannot be read.
        ChainInvalid: Its issuer may not sign lists.
        SignatureInvalid: It was changed.
    """
    moment = parse_time(at)
    kept = Remembering() if memory is None else memory
    asked = certificates_to_ask(devices, measurements)
    used: list[Crl] = []
    for raw in lists:
        crl = kept.remember(("nvidia.crl", raw), moment, partial(_parsed_list, raw)).value
        pairs = [pair for pair in asked if pair[0].issuer == crl.issuer]
        for certificate, issuer in pairs:
            verify_crl(crl, issuer, at=moment, id=CRL, what=crl.what)
            require_not_revoked(certificate, crl, id=CRL, what=crl.what)
        if pairs:
            used.append(crl)
    return tuple(used)


def _parsed_list(raw: bytes) -> Dated[Crl]:
    return Dated.always(parse_crl(raw, id=CRL, what="NVIDIA's revocation list"))
