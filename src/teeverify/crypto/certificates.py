"""Certificate paths (RFC 5280 section 6.1), narrowed to what attestation vendors issue.

There is one path and it is the one that was sent: nothing is built, searched or fetched. A trust
anchor is a name and a key that the caller wrote down.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import NoReturn, TypeVar

from teeverify.clock import parse_time, show_time
from teeverify.crypto.signed import Anchor, LoadedAnchor, anchor_key, is_on_curve, verify_signed
from teeverify.crypto.x509 import Certificate, parse_certificate, parse_pem_chain
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementUnavailable,
    SignatureInvalid,
)

__all__ = [
    "Anchor",
    "Certificate",
    "LoadedAnchor",
    "foreign_root_hint",
    "parse_certificate",
    "parse_pem_chain",
    "verify_dates",
    "verify_path",
    "verify_signed_by",
]

MAX_DEPTH = 8
_CRITICAL = frozenset({"2.5.29.19", "2.5.29.15"})  # basic constraints, key usage
_SIMULATOR = b"teeverify simulator"


AnchorT = TypeVar("AnchorT", bound=Anchor)


def verify_path(
    chain: Sequence[Certificate],
    anchors: Sequence[AnchorT],
    *,
    at: datetime,
    id: str,
    what: str,
    critical: frozenset[str] = frozenset(),
) -> AnchorT:
    """Verify a path, leaf first, up to one of the anchors.

    The last certificate is either an anchor itself (the same subject and the same key) or was
    issued by one. Of a certificate that is an anchor only the name and the key are trusted; its
    dates and constraints must hold like those of any other.

    Args:
        chain: The path as sent: leaf first, each issued by the next.
        anchors: The anchors that may end it.
        at: The time at which every certificate must be valid.
        id: Check id for the errors.
        what: What the path is, for the errors.
        critical: Dotted OIDs of critical extensions that the caller handles, besides basic
            constraints and key usage.

    Returns:
        The anchor that ends the path.

    Raises:
        ConfigurationError: There are no anchors, or ``at`` has no zone.
        ChainInvalid: Empty, too long, a certificate twice, no anchor at its end, something after
            the anchor, an issuer that is not the next one's subject, that is no CA, that may not
            sign certificates or not so many, or a critical extension that nobody handles.
        SignatureInvalid: A certificate is not signed by the key above it.
        MalformedEvidence: A certificate's extensions or key cannot be read.
        EndorsementUnavailable: A certificate is expired or not yet valid.
    """
    moment = parse_time(at)
    if not anchors:
        raise ConfigurationError(
            f"{what}: there is no trust anchor to compare with",
            id="usage.roots",
            hint="Give at least one root for this vendor.",
        )
    _check_shape(chain, id, what)
    anchor = _presented(chain, anchors, id, what)
    for index, certificate in enumerate(chain):
        _check_extensions(certificate, critical, id, what)
        if index:
            _check_names(chain[index - 1], certificate, id, what)
            _check_issuer(certificate, index - 1, id, what)
    below = chain if anchor is None else chain[:-1]
    for child, issuer in pairwise(below):
        key = issuer.public_key
        if not is_on_curve(key):
            _refuse(id, what, issuer, "has an RSA key, which only a trust anchor may have")
        verify_signed(child.signed, key, id=id, what=_title(what, child))
    if anchor is None:
        anchor = _above(chain[-1], anchors, id, what)
    else:
        _verify_by_anchor(below[-1], anchor, id, what)
    for certificate in chain:
        verify_dates(certificate, at=moment, id=id, what=what)
    return anchor


def verify_signed_by(
    child: Certificate,
    issuer: Certificate,
    *,
    id: str,
    what: str,
) -> None:
    """Verify that one certificate names another as its issuer and is signed by its key.

    Nothing else is looked at: neither dates nor whether the issuer is a CA.

    Raises:
        ChainInvalid: The issuer's name is not the other's subject.
        SignatureInvalid: The signature does not verify.
        MalformedEvidence: The issuer's key cannot be read.
    """
    _check_names(child, issuer, id, what)
    verify_signed(child.signed, issuer.public_key, id=id, what=_title(what, child))


def verify_dates(
    certificate: Certificate,
    *,
    at: datetime,
    id: str,
    what: str,
) -> None:
    """Verify that a certificate is valid at a time; both its dates belong to it.

    Raises:
        EndorsementUnavailable: Expired, or not yet valid.
        ConfigurationError: ``at`` has no zone.
    """
    moment = parse_time(at)
    if moment > certificate.not_after:
        problem, got = "has expired", f"valid until {show_time(certificate.not_after)}"
    elif moment < certificate.not_before:
        problem, got = "is not valid yet", f"valid from {show_time(certificate.not_before)}"
    else:
        return
    raise EndorsementUnavailable(
        f"{_title(what, certificate)} {problem} at {show_time(moment)}",
        id=id,
        got=got,
        want=f"valid at {show_time(moment)}",
        hint="Fetch fresh endorsements, or verify at the time when the evidence was recorded.",
    )


def _check_shape(chain: Sequence[Certificate], id: str, what: str) -> None:
    if not 0 < len(chain) <= MAX_DEPTH:
        raise ChainInvalid(
            f"{what}: a path of {len(chain)} certificates",
            id=id,
            got=str(len(chain)),
            want=f"1 to {MAX_DEPTH}",
        )
    seen: set[tuple[bytes, bytes]] = set()
    for index, certificate in enumerate(chain):
        # The same name and key again is the same certificate, or a loop through cross-signing.
        identity = certificate.subject, certificate.spki
        if identity in seen:
            _refuse(id, what, certificate, "is in the path twice")
        seen.add(identity)
        if certificate.subject == certificate.issuer and index < len(chain) - 1:
            _refuse(id, what, certificate, "is self-issued and not at the end of the path")


def _presented(
    chain: Sequence[Certificate],
    anchors: Sequence[AnchorT],
    id: str,
    what: str,
) -> AnchorT | None:
    """The anchor that the last certificate is; ``None`` where no certificate is one."""
    for index, certificate in enumerate(chain):
        for anchor in anchors:
            if (certificate.subject, certificate.spki) != (anchor.subject, anchor.spki):
                continue
            if index == 0:
                _refuse(id, what, certificate, "is a trust anchor, and nothing is below it")
            if index < len(chain) - 1:
                _refuse(id, what, chain[index + 1], "comes after the trust anchor")
            return anchor
    return None


def _check_extensions(
    certificate: Certificate,
    critical: frozenset[str],
    id: str,
    what: str,
) -> None:
    """RFC 5280 section 6.1.4 (o) and 6.1.5 (f)."""
    unknown = certificate.extensions.critical - critical - _CRITICAL
    if unknown:
        _refuse(
            id, what, certificate, f"has an unknown critical extension {', '.join(sorted(unknown))}"
        )


def _check_issuer(certificate: Certificate, below: int, id: str, what: str) -> None:
    """RFC 5280 section 6.1.4 (k) to (n); ``below`` counts the intermediates beneath."""
    says = certificate.extensions
    if not says.is_ca:
        _refuse(id, what, certificate, "issued a certificate but is not a CA")
    if "key_cert_sign" not in says.key_usage:
        _refuse(id, what, certificate, "issued a certificate but may not (key usage)")
    if says.path_length is not None and below > says.path_length:
        _refuse(id, what, certificate, f"allows {says.path_length} CAs below it, not {below}")


def _check_names(child: Certificate, issuer: Certificate, id: str, what: str) -> None:
    if child.issuer != issuer.subject:
        raise ChainInvalid(
            f"{_title(what, child)} was not issued by the certificate above it",
            id=id,
            got=f"the certificate above is {_quoted(issuer.common_name)}",
            want=f"its issuer {_quoted(child.issuer_common_name)}",
        )


def _above(
    last: Certificate,
    anchors: Sequence[AnchorT],
    id: str,
    what: str,
) -> AnchorT:
    """The anchor that issued the last certificate of a path in which no anchor is sent."""
    candidates = [anchor for anchor in anchors if anchor.subject == last.issuer]
    if last.subject == last.issuer or not candidates:
        _refuse_root(last, anchors, id, what)
    # Anchors may share a name: the last one's failure is the one that is told.
    for anchor in candidates[:-1]:
        with contextlib.suppress(SignatureInvalid):
            _verify_by_anchor(last, anchor, id, what)
            return anchor
    _verify_by_anchor(last, candidates[-1], id, what)
    return candidates[-1]


def _verify_by_anchor(last: Certificate, anchor: Anchor, id: str, what: str) -> None:
    if last.sha256 in anchor.issued_sha256:
        return  # the signature of these very bytes was verified when they were written down
    key = anchor_key(anchor, id=id)
    verify_signed(last.signed, key, id=id, what=_title(what, last))


def _refuse_root(
    last: Certificate,
    anchors: Sequence[Anchor],
    id: str,
    what: str,
) -> NoReturn:
    wanted = ", ".join(
        f"{anchor.name} (key sha256:{hashlib.sha256(anchor.spki).hexdigest()})"
        for anchor in anchors
    )
    ends = "ends with" if last.subject == last.issuer else "ends below an unknown issuer, with"
    raise ChainInvalid(
        f"{what}: the path {ends} {_quoted(last.common_name)}, which is no trust anchor",
        id=id,
        got=f"{_quoted(last.common_name)} "
        f"(key sha256:{hashlib.sha256(last.spki).hexdigest()}), "
        f"issued by {_quoted(last.issuer_common_name)}",
        want=wanted,
        hint=foreign_root_hint(last.subject + last.issuer),
    )


def foreign_root_hint(names: bytes) -> str:
    """What to tell somebody whose evidence leads to a root that is no trust anchor.

    Args:
        names: The DER of the names in question; only to say so where they name the simulator.
    """
    hint = "A root that comes with the evidence is compared with the trust anchors, never trusted."
    if _SIMULATOR in names:
        hint += (
            " This one says that it is simulated: it is accepted only in a command that names its"
            " roots with --unsafe-test-roots, and then proves nothing about hardware."
        )
    return hint


def _refuse(id: str, what: str, certificate: Certificate, problem: str) -> NoReturn:
    raise ChainInvalid(f"{_title(what, certificate)} {problem}", id=id)


def _title(what: str, certificate: Certificate) -> str:
    return f"{what}: the certificate {_quoted(certificate.common_name)}"


def _quoted(name: str) -> str:
    """A name out of a certificate as it may be shown: short, and without control characters."""
    return ascii(name[:80]) if name else "without a common name"
