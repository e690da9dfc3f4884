"""Choosing and verifying the endorsements that one quote needs."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from teeverify.crypto.certificates import Certificate
from teeverify.crypto.crl import Crl, require_not_revoked
from teeverify.endorsements.remembered import Dated
from teeverify.errors import EndorsementInvalid, EndorsementUnavailable
from teeverify.roots import Roots
from teeverify.tdx import issuers
from teeverify.tdx.collateral import Endorsements
from teeverify.tdx.documents import (
    QE_IDENTITY,
    TCB_INFO,
    EvaluationNumbers,
    QeIdentity,
    TcbInfo,
    Tee,
)
from teeverify.tdx.issuers import PckChain, Root
from teeverify.tdx.pool import Wanted, choose
from teeverify.tdx.quote import TEE_TDX, Quote

__all__ = [
    "Documents",
    "Platform",
    "verify_documents",
    "verify_platform",
    "verify_root",
    "verify_signed_document",
]

_PCK_CHAIN_IN_QUOTE = 5


class Platform(NamedTuple):
    """The verified authorities over one CPU.

    Attributes:
        root: The trust anchor that everything leads to.
        root_crl: Its revocation list.
        chain: The CPU's certificates.
        pck_crl: The revocation list of the CA above the CPU.
        expires_at: When the first of the CPU's certificates expires.
    """

    root: Root
    root_crl: Crl
    chain: PckChain
    pck_crl: Crl
    expires_at: datetime


class Documents(NamedTuple):
    """The verified TCB info and QE identity.

    Attributes:
        info: The TCB info.
        identity: The QE identity.
        expires_at: When the first of them, or of their signer's certificates, expires.
    """

    info: TcbInfo
    identity: QeIdentity
    expires_at: datetime


def _crl_dates(crl: Crl) -> tuple[datetime, datetime, int]:
    return crl.this_update, crl.next_update, crl.number or 0


def verify_platform(
    quote: Quote, endorsements: Endorsements, trusted: Roots, at: datetime
) -> Platform:
    """Checks tdx.root-crl, tdx.pck-chain and tdx.pck-crl."""
    root_crl, root = verify_root(endorsements, trusted, at)
    pem = _pck_pem(quote, endorsements)
    chain = endorsements.remember(
        ("pck-chain", root, root_crl.der, pem),
        at,
        lambda: issuers.verify_pck_chain(pem, root, root_crl, at),
    )
    ca = chain.value.ca
    wanted_pck: Wanted[Crl] = Wanted(
        id=issuers.PCK_CRL,
        what=f"the revocation list of Intel's {chain.value.kind} CA",
        address=chain.value.kind,
        matches=lambda crl: crl.issuer == ca.subject,
        dates=_crl_dates,
    )
    pck_crl = choose(endorsements.pool.pck_crls, wanted_pck, at)
    endorsements.remember(
        ("pck-crl", ca.der, pck_crl.der),
        at,
        lambda: issuers.verify_pck_crl(pck_crl, chain.value, at),
    )
    require_not_revoked(chain.value.leaf, pck_crl, id=issuers.PCK_CRL, what="PCK chain")
    return Platform(
        root=root,
        root_crl=root_crl,
        chain=chain.value,
        pck_crl=pck_crl,
        expires_at=chain.not_after,
    )


def verify_root(endorsements: Endorsements, trusted: Roots, at: datetime) -> tuple[Crl, Root]:
    """Make the check tdx.root-crl; see :func:`verify_platform`."""
    subjects = {anchor.subject for anchor in trusted.intel}
    wanted_root: Wanted[Crl] = Wanted(
        id=issuers.ROOT_CRL,
        what="Intel's root revocation list",
        address="root",
        matches=lambda crl: crl.issuer in subjects,
        dates=_crl_dates,
    )
    root_crl = choose(endorsements.pool.root_crls, wanted_root, at)
    root = endorsements.remember(
        ("root-crl", trusted.intel, root_crl.der),
        at,
        lambda: issuers.verify_root_crl(root_crl, trusted.intel, at),
    ).value
    return root_crl, root


def _pck_pem(quote: Quote, endorsements: Endorsements) -> bytes:
    """The PCK chain: the one supplied aside, or else the quote's own.

    Whose chain it is need not be trusted: its key must have signed this quote's QE report.
    """
    aside = set(endorsements.pool.pck_chains)
    if len(aside) == 1:
        return aside.pop()
    if quote.certification_type == _PCK_CHAIN_IN_QUOTE:
        return quote.certification_data
    raise EndorsementUnavailable(
        "the quote does not carry its PCK chain, and it was not supplied beside it",
        id=issuers.PCK_CHAIN,
        got=f"certification data of type {quote.certification_type}, {len(aside)} chains beside it",
        want="type 5, or one chain beside it",
    )


def verify_documents(
    quote: Quote, platform: Platform, endorsements: Endorsements, at: datetime
) -> Documents:
    """Make the checks tdx.tcb-info and tdx.qe-identity.

    Args:
        quote: The quote, untrusted; only its kind of TEE is used.
        platform: The verified authorities over its CPU.
        endorsements: What Intel signed.
        at: The time at which all must be valid.

    Raises:
        TeeVerifyError: See :func:`teeverify.tdx.verify_quote`.
    """
    tee: Tee = "TDX" if quote.tee_type == TEE_TDX else "SGX"
    fmspc = platform.chain.extension.fmspc
    wanted_info: Wanted[TcbInfo] = Wanted(
        id=TCB_INFO,
        what=f"Intel's TCB information for this CPU (FMSPC {fmspc.hex()})",
        address=f"{tee}:{fmspc.hex()}",
        matches=lambda info: info.tee == tee and info.fmspc == fmspc,
        dates=lambda info: (info.issue_date, info.next_update, info.evaluation_data_number),
    )
    info = choose(endorsements.pool.tcb_infos, wanted_info, at)
    info_dates = _verify_document(info, tee, platform, endorsements, at)
    wanted_identity: Wanted[QeIdentity] = Wanted(
        id=QE_IDENTITY,
        what=f"Intel's identity of its {tee} quoting enclave",
        address=tee,
        matches=lambda identity: identity.tee == tee,
        dates=lambda item: (item.issue_date, item.next_update, item.evaluation_data_number),
    )
    identity = choose(endorsements.pool.qe_identities, wanted_identity, at)
    identity_dates = _verify_document(identity, tee, platform, endorsements, at)
    return Documents(
        info=info,
        identity=identity,
        expires_at=min(info_dates.not_after, identity_dates.not_after),
    )


def _verify_document(
    document: TcbInfo | QeIdentity,
    tee: Tee,
    platform: Platform,
    endorsements: Endorsements,
    at: datetime,
) -> Dated[None]:
    check, what = (
        (TCB_INFO, "Intel's TCB information")
        if isinstance(document, TcbInfo)
        else (QE_IDENTITY, "Intel's QE identity")
    )
    if document.tee != tee:
        raise EndorsementInvalid(
            f"{what} is for another kind of TEE", id=check, got=document.tee, want=tee
        )
    authority = platform.root_crl, platform.root
    return verify_signed_document(
        document, (check, what), authority, endorsements, at, platform.chain.root
    )


def verify_signed_document(
    document: TcbInfo | QeIdentity | EvaluationNumbers,
    names: tuple[str, str],
    authority: tuple[Crl, Root],
    endorsements: Endorsements,
    at: datetime,
    known_root: Certificate | None = None,
) -> Dated[None]:
    """Verify that Intel's TCB signing key signed a document, which is in force.

    Args:
        document: The document.
        names: Check id, and what it is, for the errors.
        authority: The root and its revocation list, both verified.
        endorsements: Where what is verified is remembered.
        at: The time at which all must be valid.
        known_root: The root's certificate, where it was verified already.

    Raises:
        TeeVerifyError: See :func:`teeverify.tdx.verify_quote`.
    """
    (root_crl, root), pem = authority, document.issuer_chain
    signer = endorsements.remember(
        ("signer", root, root_crl.der, pem),
        at,
        lambda: issuers.verify_signer(pem, root, root_crl, at, names, known_root),
    )
    return endorsements.remember(
        ("document", root, root_crl.der, pem, document.signature, document.signed),
        at,
        lambda: issuers.verify_document(document, signer, at, names),
    )
