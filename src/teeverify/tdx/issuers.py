"""Intel's authorities: the root's revocation list, PCK chains, and who signed a document.

Each function verifies one piece under one trust anchor and says until when that holds. The rules of
roles are those of the Intel SGX PCK Certificate and CRL Profile Specification, section 1.2: a role
is a common name, so that a stolen key of one role cannot act in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.clock import show_time
from teeverify.crypto.certificates import (
    Certificate,
    LoadedAnchor,
    foreign_root_hint,
    parse_pem_chain,
    verify_path,
    verify_signed_by,
)
from teeverify.crypto.crl import Crl, require_not_revoked, verify_crl
from teeverify.crypto.ecdsa import verify_raw
from teeverify.crypto.signed import is_on_curve, verify_signed
from teeverify.endorsements.remembered import Dated
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    SignatureInvalid,
)
from teeverify.roots import TrustAnchor
from teeverify.tdx.documents import EvaluationNumbers, QeIdentity, TcbInfo
from teeverify.tdx.pck import SGX_EXTENSION, PckExtension, parse_pck_extension

__all__ = [
    "PckCa",
    "PckChain",
    "Root",
    "verify_document",
    "verify_pck_chain",
    "verify_pck_crl",
    "verify_root_crl",
    "verify_signer",
]

PckCa: TypeAlias = Literal["platform", "processor"]
ROOT_CRL = "tdx.root-crl"
PCK_CHAIN = "tdx.pck-chain"
PCK_CRL = "tdx.pck-crl"
_LEAF = "Intel SGX PCK Certificate"
_CAS: dict[str, PckCa] = {
    "Intel SGX PCK Platform CA": "platform",
    "Intel SGX PCK Processor CA": "processor",
}
_SIGNER = "Intel SGX TCB Signing"
_HINT = "Fetch fresh endorsements, or verify at the time when the evidence was recorded."


class PckChain(NamedTuple):
    """A verified PCK chain.

    Attributes:
        leaf: The platform's certificate.
        ca: The CA that issued it.
        root: The root's own certificate.
        kind: Which of Intel's two CAs that is.
        key: The platform's key.
        extension: What Intel says of the platform.
    """

    leaf: Certificate
    ca: Certificate
    root: Certificate
    kind: PckCa
    key: ec.EllipticCurvePublicKey
    extension: PckExtension


@dataclass(frozen=True, slots=True, eq=False)
class Root:
    """The trust anchor that everything leads to; what was verified under it is remembered by it.

    Attributes:
        anchor: The anchor.
        loaded: The same, with its key.
    """

    anchor: TrustAnchor
    loaded: LoadedAnchor


def verify_root_crl(crl: Crl, anchors: Sequence[TrustAnchor], at: datetime) -> Dated[Root]:
    """Verify that a trust anchor signed a revocation list that is in force.

    Returns:
        The anchor. Everything else must then lead to this one.

    Raises:
        EndorsementInvalid: The list of another authority, or without its required extensions.
        SignatureInvalid: The anchor did not sign it.
        EndorsementUnavailable: Outside its dates.
    """
    what = "Intel's root revocation list"
    named = [anchor for anchor in anchors if anchor.subject == crl.issuer]
    if not named:
        raise EndorsementInvalid(
            f"{what} is of another authority, which is no trust anchor",
            id=ROOT_CRL,
            got="an issuer of another name",
            want=" or ".join(anchor.name for anchor in anchors),
            hint=foreign_root_hint(crl.issuer),
        )
    root = _signing_anchor(crl, named, what)
    _require_extensions(crl, ROOT_CRL, what)
    _require_current((crl.this_update, crl.next_update), at, ROOT_CRL, what)
    return Dated(root, crl.this_update, crl.next_update)


def _signing_anchor(crl: Crl, named: Sequence[TrustAnchor], what: str) -> Root:
    """Which of the anchors of this name signed the list; nearly always there is one."""
    for anchor in named:
        loaded = LoadedAnchor.load(anchor, id=ROOT_CRL)
        try:
            verify_signed(crl.signed, loaded.public_key, id=ROOT_CRL, what=what)
        except SignatureInvalid:
            if anchor is named[-1]:
                raise
        else:
            return Root(anchor, loaded)
    raise EndorsementInvalid(f"{what}: no anchor signed it", id=ROOT_CRL)


def _require_extensions(crl: Crl, id: str, what: str) -> None:
    """PCK CRL profile, section 1.4: number and authority key identifier are mandatory."""
    if crl.number is None or crl.key_identifier is None:
        raise EndorsementInvalid(
            f"{what}: it has no CRL number or no authority key identifier", id=id
        )


def _require_current(
    dates: tuple[datetime, datetime],
    at: datetime,
    id: str,
    what: str,
) -> None:
    start, end = dates
    if not start <= at <= end:
        raise EndorsementUnavailable(
            f"{what} is {'out of date' if at > end else 'not in force yet'} at {show_time(at)}",
            id=id,
            got=f"in force from {show_time(start)} to {show_time(end)}",
            want=f"in force at {show_time(at)}",
            hint=_HINT,
        )


def verify_pck_chain(pem: bytes, trusted: Root, root_crl: Crl, at: datetime) -> Dated[PckChain]:
    """Verify a PCK chain: leaf, Platform or Processor CA, root.

    Args:
        pem: The chain, as the quote carries it or as supplied aside.
        trusted: The trust anchor that must be its root.
        root_crl: That anchor's verified revocation list.
        at: The time at which all must be valid.

    Raises:
        MalformedEvidence: Not such a chain, or the leaf's Intel extension cannot be read.
        ChainInvalid: Not these roles, another root, or not a path.
        SignatureInvalid: A certificate is not signed by the one above.
        EndorsementInvalid: The CA or the root is revoked.
        EndorsementUnavailable: A certificate is outside its dates.
    """
    what = "PCK chain"
    chain = parse_pem_chain(
        pem, id=PCK_CHAIN, what="tdx.pck_chain", max_certificates=8, trailing_nul=True
    )
    names = _require_roles(chain, (_LEAF, " or ".join(_CAS)), PCK_CHAIN, what)
    leaf, ca, root = chain
    kind = _CAS[names[1]]
    _verify_path(chain, trusted, at, (PCK_CHAIN, what))
    for authority in (ca, root):
        require_not_revoked(authority, root_crl, id=PCK_CHAIN, what=what)
    value = leaf.extension(SGX_EXTENSION)
    if value is None:
        raise ChainInvalid(f"{what}: the certificate of the CPU does not describe it", id=PCK_CHAIN)
    extension = parse_pck_extension(value, platform=kind == "platform")
    key = _p256(leaf, PCK_CHAIN, what)
    found = PckChain(leaf=leaf, ca=ca, root=root, kind=kind, key=key, extension=extension)
    return Dated(found, *_validity(chain))


def verify_pck_crl(crl: Crl, chain: PckChain, at: datetime) -> Dated[None]:
    """Verify that a PCK chain's CA signed a revocation list that is in force.

    Raises:
        EndorsementInvalid: The list of another CA, or without its required extensions.
        SignatureInvalid: The CA did not sign it.
        EndorsementUnavailable: Outside its dates.
    """
    what = f"the revocation list of Intel's {chain.kind} CA"
    verify_crl(crl, chain.ca, at=at, id=PCK_CRL, what=what)
    _require_extensions(crl, PCK_CRL, what)
    return Dated(None, crl.this_update, crl.next_update)


def verify_signer(
    pem: bytes | None,
    trusted: Root,
    root_crl: Crl,
    at: datetime,
    names: tuple[str, str],
    root: Certificate | None = None,
) -> Dated[ec.EllipticCurvePublicKey]:
    """Verify the chain of Intel's TCB signing certificate.

    Args:
        pem: The chain that came with the document: signer and root.
        trusted: The trust anchor that must be its root.
        root_crl: That anchor's verified revocation list.
        at: The time at which all must be valid.
        names: Check id, and what the document is, for the errors.
        root: The root's certificate where it was verified already under the same anchor, so that
            its signature over itself need not be verified again.

    Raises:
        MalformedEvidence: Not such a chain.
        ChainInvalid: Not these roles, another root, or not a path.
        SignatureInvalid: A certificate is not signed by the one above.
        EndorsementInvalid: The signer or the root is revoked.
        EndorsementUnavailable: There is no chain, or a certificate is outside its dates.
    """
    check, what = names
    if pem is None:
        raise EndorsementUnavailable(f"{what} came without its issuer chain", id=check, hint=_HINT)
    known = () if root is None else (root,)
    chain = parse_pem_chain(
        pem, id=check, what=f"{check}.issuer_chain", trailing_nul=True, known=known
    )
    _require_roles(chain, (_SIGNER,), check, f"{what}: issuer chain")
    _verify_path(chain, trusted, at, (check, f"{what}: issuer chain"), root)
    for certificate in chain:
        require_not_revoked(certificate, root_crl, id=check, what=f"{what}: issuer chain")
    return Dated(_p256(chain[0], check, what), *_validity(chain))


def verify_document(
    document: TcbInfo | QeIdentity | EvaluationNumbers,
    signer: Dated[ec.EllipticCurvePublicKey],
    at: datetime,
    names: tuple[str, str],
) -> Dated[None]:
    """Verify the signature over a document's exact text, and that it is in force.

    Raises:
        SignatureInvalid: The signer did not sign this text.
        EndorsementUnavailable: Outside its dates.
    """
    check, what = names
    verify_raw(signer.value, document.signature, document.signed, id=check, what=what)
    dates = document.issue_date, document.next_update
    _require_current(dates, at, check, what)
    return Dated(
        None,
        max(document.issue_date, signer.not_before),
        min(document.next_update, signer.not_after),
    )


def _require_roles(
    chain: Sequence[Certificate],
    roles: Sequence[str],
    id: str,
    what: str,
) -> Sequence[str]:
    """Demand one certificate a role, no CA as a leaf, and one more: the root. Give the names."""
    names = [certificate.common_name for certificate in chain[: len(roles)]]
    matches = len(chain) == len(roles) + 1 and all(
        name in role.split(" or ") for name, role in zip(names, roles, strict=True)
    )
    if not matches or chain[0].is_ca:
        raise ChainInvalid(
            f"{what}: not the certificates that must be there",
            id=id,
            got=", ".join(repr(certificate.common_name)[:60] for certificate in chain)
            + (" (a CA as its leaf)" if chain[0].is_ca else ""),
            want=", ".join([*roles, "the root"]),
        )
    return names


def _verify_path(
    chain: Sequence[Certificate],
    trusted: Root,
    at: datetime,
    names: tuple[str, str],
    known_root: Certificate | None = None,
) -> None:
    """Verify a path that ends with the root's own certificate, just as the root signed it.

    Only its name and key are trusted; but its serial number is looked up in its revocation list.
    """
    check, what = names
    last, anchor = chain[-1], trusted.anchor
    verify_path(chain, (trusted.loaded,), at=at, id=check, what=what)
    if (last.subject, last.spki) != (anchor.subject, anchor.spki):
        raise ChainInvalid(
            f"{what}: the chain does not end with the root",
            id=check,
            got=ascii(last.common_name[:60]),
            want=anchor.name,
        )
    if last is not known_root and last.sha256 != anchor.certificate_sha256:
        verify_signed_by(last, last, id=check, what=what)


def _p256(certificate: Certificate, id: str, what: str) -> ec.EllipticCurvePublicKey:
    """The certificate's key, which Intel only makes on P-256."""
    key = certificate.public_key
    if is_on_curve(key) and key.curve.name == "secp256r1":
        return key
    raise ChainInvalid(f"{what}: {certificate.common_name!a} has no P-256 key", id=id)


def _validity(chain: Sequence[Certificate]) -> tuple[datetime, datetime]:
    return (
        max(certificate.not_before for certificate in chain),
        min(certificate.not_after for certificate in chain),
    )
