"""Verifying a quote: the order of the checks is that of :data:`CHECKS`.

Intel SGX DCAP Quote Verification Library, reference flow; what each step demands beyond it is said
where it is demanded.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from datetime import datetime

from teeverify.clock import parse_time
from teeverify.crypto.ecdsa import p256_key, verify_raw
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    DebugEnabled,
    EndorsementInvalid,
    TcbRejected,
)
from teeverify.roots import RootsInput, as_roots
from teeverify.roots.anchors import RootsKind
from teeverify.tdx.checks import CHECKS, SEPARATE_CHECKS
from teeverify.tdx.claims import SEAL, Claims, TdAttributes
from teeverify.tdx.collateral import Endorsements
from teeverify.tdx.documents import QeIdentity, TcbInfo
from teeverify.tdx.endorsed import Documents, Platform, verify_documents, verify_platform
from teeverify.tdx.issuers import PckChain
from teeverify.tdx.quote import Quote, TdReport, parse_quote
from teeverify.tdx.tcb import Machine, TcbEvaluation, evaluate, gap, module_identity, relaunch

__all__ = ["CHECKS", "SEPARATE_CHECKS", "verify_quote"]


_SGX_DEBUG = 0x02


def verify_quote(
    raw: bytes | Quote,
    endorsements: Endorsements,
    *,
    at: datetime | str,
    roots: RootsInput = None,
    unsafe_allow_debug: bool = False,
) -> Claims:
    """Verify a quote and everything that it rests on.

    Args:
        raw: The quote.
        endorsements: What Intel signed about the platform. What is verified of it is kept on the
            object, so use one object for many quotes.
        at: The time for which the quote is verified: an aware datetime, or ISO text with a zone.
        roots: Certificates of other roots than Intel's, for tests and private authorities. The
            claims then say so.
        unsafe_allow_debug: Accept a VM in debug mode, which protects nothing from its host.

    Returns:
        What cryptography proved. An old TCB is a claim, not an error.

    Raises:
        MalformedEvidence: The quote or its certificates cannot be read.
        ChainInvalid: A certificate path that Intel could not have issued, or to another root.
        SignatureInvalid: A signature does not verify.
        EndorsementInvalid: Revoked, or an endorsement of another platform.
        EndorsementUnavailable: An endorsement is absent, or outside its dates.
        BindingMismatch: Attestation key, quoting enclave and QE report do not belong together.
        TcbRejected: The TCB is revoked, or Intel does not describe it.
        DebugEnabled: The VM runs in debug mode.
        ConfigurationError: A wrong argument.
    """
    if not isinstance(endorsements, Endorsements):
        raise ConfigurationError(
            "endorsements must be tdx.Endorsements", id="usage.tdx", got=type(endorsements).__name__
        )
    moment = parse_time(at)
    trusted = as_roots(roots)
    quote = parse_quote(_canonical(raw) if isinstance(raw, Quote) else raw)
    platform = verify_platform(quote, endorsements, trusted, moment)
    documents = verify_documents(quote, platform, endorsements, moment)
    _require_signatures(quote, platform.chain, documents.identity)
    _require_same_platform(documents.info, platform.chain)
    machines = _machines(quote, platform.chain)
    _require_module(quote, documents.info, machines)
    evaluations = [evaluate(documents.info, documents.identity, one) for one in machines]
    if unsafe_allow_debug is not True:
        _require_no_debug(quote)
    return _claims(quote, moment, trusted.kind, platform, documents, (machines[0], evaluations))


def _canonical(quote: Quote) -> bytes:
    """The bytes of a parsed quote, built from its fields, so that those are what is verified."""
    try:
        return quote.to_bytes()
    except (TypeError, ValueError, AttributeError, struct.error):
        raise ConfigurationError("this Quote was not made by parse_quote", id="usage.tdx") from None


def _require_signatures(quote: Quote, chain: PckChain, identity: QeIdentity) -> None:
    """The four checks that lead from the CPU's key to every byte of the quote's body."""
    verify_raw(
        chain.key,
        quote.qe_report_signature,
        quote.qe_report_bytes,
        id="tdx.qe-report-signature",
        what="QE report",
    )
    check = "tdx.attestation-key"
    digest = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    # Intel's enclave leaves the second half zero; other verifiers do not look at it.
    if quote.qe_report.report_data != digest + bytes(32):
        raise BindingMismatch(
            "the attestation key is not the one that the quoting enclave vouches for",
            id=check,
            got=digest.hex(),
            want=quote.qe_report.report_data.hex(),
        )
    key = p256_key(quote.attestation_key, id=check, what="attestation key")
    _require_qe_identity(quote, identity)
    verify_raw(key, quote.signature, quote.signed_bytes, id="tdx.quote-signature", what="quote")


def _require_qe_identity(quote: Quote, identity: QeIdentity) -> None:
    report = quote.qe_report
    pairs = (
        ("MRSIGNER", report.mr_signer.hex(), identity.mr_signer.hex()),
        ("ISVPRODID", str(report.isv_prod_id), str(identity.isv_prod_id)),
        (
            "MISCSELECT",
            _masked(report.misc_select, identity.misc_select_mask).hex(),
            identity.misc_select.hex(),
        ),
        (
            "ATTRIBUTES",
            _masked(report.attributes, identity.attributes_mask).hex(),
            identity.attributes.hex(),
        ),
    )
    for name, got, want in pairs:
        if got != want:
            raise BindingMismatch(
                f"the quoting enclave is not Intel's: {name} differs",
                id="tdx.qe-identity-match",
                got=got,
                want=want,
            )


def _masked(value: bytes, mask: bytes) -> bytes:
    kept = int.from_bytes(value, "big") & int.from_bytes(mask, "big")
    return kept.to_bytes(len(value), "big")


def _require_same_platform(info: TcbInfo, chain: PckChain) -> None:
    pairs = (
        ("FMSPC", info.fmspc, chain.extension.fmspc),
        ("PCEID", info.pce_id, chain.extension.pce_id),
    )
    for name, got, want in pairs:
        if got != want:
            raise EndorsementInvalid(
                f"Intel's TCB information is for another platform: {name} differs",
                id="tdx.fmspc",
                got=got.hex(),
                want=want.hex(),
                hint="Supply the TCB information of this FMSPC.",
            )


def _machines(quote: Quote, chain: PckChain) -> tuple[Machine, ...]:
    """The machine with its TCB at launch and, where the body states it, with the current one."""
    svns: tuple[bytes | None, ...] = (None,)
    if isinstance(quote.body, TdReport):
        launch, current = quote.body.tee_tcb_svn, quote.body.tee_tcb_svn_2
        svns = (launch,) if current is None else (launch, current)
    return tuple(
        Machine(cpu=chain.extension.tcb, tee_tcb_svn=svn, qe_isv_svn=quote.qe_report.isv_svn)
        for svn in svns
    )


def _require_module(quote: Quote, info: TcbInfo, machines: Sequence[Machine]) -> None:
    if not isinstance(quote.body, TdReport):
        return
    for machine in machines:
        identity = module_identity(info, machine.module_major)
        if identity is None:
            continue
        attributes = quote.body.seam_attributes
        # Intel demands attributes of zero whatever the mask says.
        same = _masked(attributes, identity.attributes_mask) == identity.attributes
        if quote.body.mr_signer_seam != identity.mr_signer or not same or any(attributes):
            raise TcbRejected(
                "the TDX module is not one that Intel made",
                id="tdx.module",
                got=f"signer {quote.body.mr_signer_seam.hex()}, attributes {attributes.hex()}",
                want=f"signer {identity.mr_signer.hex()}, attributes {identity.attributes.hex()}",
            )


def _require_no_debug(quote: Quote) -> None:
    if isinstance(quote.body, TdReport):
        debug = TdAttributes.from_bytes(quote.body.td_attributes).debug
        attributes = quote.body.td_attributes
    else:
        attributes = quote.body.attributes
        debug = bool(attributes[0] & _SGX_DEBUG)
    if debug:
        raise DebugEnabled(
            "the VM runs in debug mode: its host can read and change everything in it",
            id="tdx.debug-disabled",
            got=f"attributes {attributes.hex()}",
            want="the DEBUG bit clear",
        )


def _claims(
    quote: Quote,
    at: datetime,
    kind: RootsKind,
    platform: Platform,
    documents: Documents,
    appraised: tuple[Machine, Sequence[TcbEvaluation]],
) -> Claims:
    machine, evaluations = appraised
    launch = evaluations[0]
    current = evaluations[1] if len(evaluations) > 1 else None
    levels = [level for found in evaluations for level in found.levels]
    info, identity = documents.info, documents.identity
    extension = platform.chain.extension
    crls = (platform.root_crl, platform.pck_crl)
    return Claims(
        quote=quote,
        at=at,
        fmspc=extension.fmspc,
        pce_id=extension.pce_id,
        ppid=extension.ppid,
        platform_instance_id=extension.platform_instance_id,
        dynamic_platform=extension.dynamic_platform,
        cached_keys=extension.cached_keys,
        smt_enabled=extension.smt_enabled,
        sgx_type=extension.sgx_type,
        tcb_status=launch.status if current is None else relaunch(launch.status, current.status),
        launch_tcb_status=launch.status,
        current_tcb_status=None if current is None else current.status,
        platform_tcb_status=launch.platform.status,
        module_tcb_status=None if launch.module is None else launch.module.status,
        qe_tcb_status=launch.qe.status,
        advisory_ids=tuple(dict.fromkeys(name for level in levels for name in level.advisory_ids)),
        tcb_date=min(level.tcb_date for level in levels),
        tcb_gap=gap(launch, info, identity, machine),
        tcb_info_number=info.evaluation_data_number,
        qe_identity_number=identity.evaluation_data_number,
        root_crl_number=platform.root_crl.number,
        pck_crl_number=platform.pck_crl.number,
        pck_ca=platform.chain.kind,
        issued_at=max(info.issue_date, identity.issue_date, *(crl.this_update for crl in crls)),
        expires_at=min(
            platform.expires_at,
            documents.expires_at,
            *(crl.next_update for crl in crls),
        ),
        roots_kind=kind,
        anchor=platform.root.anchor.name,
        anchor_fingerprint=platform.root.anchor.fingerprint,
        seal=SEAL,
    )
