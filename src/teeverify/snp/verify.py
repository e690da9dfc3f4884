"""Verifying a report: the order of the checks is that of :data:`CHECKS`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from teeverify.clock import parse_time
from teeverify.crypto.crl import Crl
from teeverify.crypto.ecdsa import verify_raw
from teeverify.errors import (
    ConfigurationError,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
    TeeVerifyError,
)
from teeverify.roots import RootsInput, as_roots
from teeverify.snp.certificates import Leaf
from teeverify.snp.chain import Authority, verify_authority, verify_crl, verify_leaf
from teeverify.snp.checks import CHECKS, SEPARATE_CHECKS
from teeverify.snp.claims import SEAL, Claims, CrlState
from teeverify.snp.endorsements import Endorsements
from teeverify.snp.product import Product, TcbVersion, name_of_cpu
from teeverify.snp.report import Report, Signer, parse_report

__all__ = ["CHECKS", "SEPARATE_CHECKS", "verify_report"]

_LEAF = "snp.leaf"


def verify_report(
    raw: bytes | Report,
    endorsements: Endorsements,
    *,
    at: datetime | str,
    roots: RootsInput = None,
    unsafe_allow_debug: bool = False,
    unsafe_without_crl: bool = False,
) -> Claims:
    """Verify a report and everything that it rests on.

    Args:
        raw: The report, without a container.
        endorsements: What AMD signed about the chip. What is verified of it is kept on the
            object, so use one object for many reports.
        at: The time for which the report is verified: an aware datetime, or ISO text with a zone.
        roots: Certificates of other roots than AMD's, for tests and private authorities. The
            claims then say so.
        unsafe_allow_debug: Accept a VM whose host may read and change it.
        unsafe_without_crl: Go on where AMD's revocation list is absent or out of its dates; the
            claims then have none. A list that is wrong, or that revokes, still refuses.

    Returns:
        What cryptography proved. Old firmware is a claim, not an error.

    Raises:
        MalformedEvidence: The report or a certificate cannot be read, or it is of a product that
            is not known here.
        ChainInvalid: A certificate that AMD could not have issued, or of another root.
        SignatureInvalid: A signature does not verify, or the report is not signed.
        EndorsementInvalid: Revoked, or an endorsement of another chip, TCB or product.
        EndorsementUnavailable: An endorsement is absent, or outside its dates.
        TcbRejected: The firmware's versions contradict each other.
        DebugEnabled: The VM allows debugging.
        ConfigurationError: A wrong argument.
    """
    if not isinstance(endorsements, Endorsements):
        raise ConfigurationError(
            "endorsements must be snp.Endorsements", id="usage.snp", got=type(endorsements).__name__
        )
    moment = parse_time(at)
    trusted = as_roots(roots)
    # A Report may have been built by hand: what counts are its bytes.
    report = parse_report(raw.raw if isinstance(raw, Report) else raw)
    signer = _signer(report)
    product = _product(report, signer, endorsements)
    tcbs = _tcbs(report, product)
    authorities = verify_authority(product, signer, endorsements, trusted, moment)
    authorities, crls, missing = _in_force(
        authorities, endorsements, moment, required=unsafe_without_crl is not True
    )
    leaf = _choose(report, signer, product, endorsements)
    authority = verify_leaf(leaf, authorities, endorsements, moment)
    _require_same_tcb(tcbs["reported"], leaf)
    _require_same_chip(report, leaf)
    verify_raw(
        leaf.public_key,
        report.signature,
        report.signed_bytes,
        id="snp.report-signature",
        what="report",
    )
    _require_order(report, tcbs)
    if unsafe_allow_debug is not True:
        _require_no_debug(report)
    crl = crls.get(authority.spki)
    ends = [leaf.not_after, authority.not_after, *([crl.next_update] if crl else [])]
    return Claims(
        report=report,
        at=moment,
        product=product,
        signer=signer,
        current_tcb=tcbs["current"],
        reported_tcb=tcbs["reported"],
        committed_tcb=tcbs["committed"],
        launch_tcb=tcbs["launch"],
        chip_id=None if report.chip_id_masked else report.chip_id[: product.chip_id_bytes],
        csp_id=leaf.csp_id,
        crl=_state(crl),
        crl_missing=None if crl else missing,
        issued_at=max(leaf.not_before, crl.this_update) if crl else leaf.not_before,
        expires_at=min(ends),
        roots_kind=trusted.kind,
        anchor=authority.anchor.name,
        anchor_fingerprint=authority.anchor.fingerprint,
        seal=SEAL,
    )


def _tcbs(report: Report, product: Product) -> dict[str, TcbVersion]:
    """The four TCB versions by name; most machines state the same one four times."""
    read: dict[bytes, TcbVersion] = {}
    found: dict[str, TcbVersion] = {}
    for name, raw in (
        ("current", report.current_tcb),
        ("reported", report.reported_tcb),
        ("committed", report.committed_tcb),
        ("launch", report.launch_tcb),
    ):
        if raw not in read:
            read[raw] = report.tcb(name, product)
        found[name] = read[raw]
    return found


def _state(crl: Crl | None) -> CrlState | None:
    if crl is None:
        return None
    return CrlState(number=crl.number, this_update=crl.this_update, next_update=crl.next_update)


def _signer(report: Report) -> Signer:
    """The kind of key, as the report says; never by what certificate happens to be there."""
    if report.chip_key_masked or report.signer is Signer.NONE:
        raise SignatureInvalid(
            "the firmware did not sign this report",
            id="snp.signing-key",
            got="MASK_CHIP_KEY" if report.chip_key_masked else "SIGNING_KEY 7 (none)",
            want="a VCEK or a VLEK",
        )
    if report.signer is None:
        raise MalformedEvidence(
            "the report names a reserved kind of signing key",
            id="snp.signing-key",
            field="snp.report.key_info",
            got=str(report.signing_key),
            want="0 (VCEK) or 1 (VLEK)",
        )
    return report.signer


def _product(report: Report, signer: Signer, endorsements: Endorsements) -> Product:
    """The product by CPUID, or (version 2 has none) by the certificate, whose chain decides."""
    if report.cpuid is not None:
        product = report.product
        if product is None:
            raise MalformedEvidence(
                f"unsupported product: {name_of_cpu(*report.cpuid[:2])}",
                id="snp.product",
                field="snp.report.cpuid",
                got=bytes(report.cpuid).hex(),
                want="Milan, Genoa (also Bergamo, Siena) or Turin",
            )
        return product
    leaves = [leaf for leaf in endorsements.found.leaves if leaf.signer is signer]
    if not leaves:
        raise EndorsementUnavailable(
            f"a report of version 2 does not name its product, and its {signer} certificate, "
            "which does, is not at hand",
            id="snp.product",
            want=f"the {signer} certificate",
            hint="Pass --endorsements PATH.",
        )
    return _best(report, leaves).product


def _in_force(
    authorities: tuple[Authority, ...],
    endorsements: Endorsements,
    at: datetime,
    *,
    required: bool,
) -> tuple[tuple[Authority, ...], dict[bytes, Crl], EndorsementUnavailable | None]:
    """The CAs that AMD's list does not revoke, with that list by the CA's key, or why not."""
    kept: list[Authority] = []
    crls: dict[bytes, Crl] = {}
    errors: list[TeeVerifyError] = []
    missing: EndorsementUnavailable | None = None
    for authority in authorities:
        try:
            crls[authority.spki] = verify_crl(authority, endorsements, at)
        except EndorsementUnavailable as error:
            if required:
                raise
            missing = error
        except EndorsementInvalid as error:
            errors.append(error)
            continue
        kept.append(authority)
    if not kept:
        raise errors[0]
    return tuple(kept), crls, missing


def _choose(report: Report, signer: Signer, product: Product, endorsements: Endorsements) -> Leaf:
    """The certificate of the report's key, among those of its kind and product."""
    supplied = endorsements.found.leaves
    leaves = [leaf for leaf in supplied if leaf.signer is signer and leaf.product is product]
    if leaves:
        return _best(report, leaves)
    want = f"the {signer} certificate of this {product} platform"
    if supplied:
        raise EndorsementInvalid(
            "the certificate that was supplied is not that of the report's key",
            id=_LEAF,
            got=", ".join(sorted({f"{leaf.signer} of {leaf.product}" for leaf in supplied})),
            want=want,
        )
    raise EndorsementUnavailable(
        f"{want} is not at hand",
        id=_LEAF,
        got="none",
        want=want,
        hint="Pass --endorsements PATH with AMD's certificate for this chip and TCB, or the one "
        "that the host gives beside the report.",
    )


def _best(report: Report, leaves: Sequence[Leaf]) -> Leaf:
    """The one that fits best; whether it fits is checked afterwards."""
    if len(leaves) == 1:
        return leaves[0]
    return max(leaves, key=lambda leaf: (
        leaf.hwid is not None and _padded(leaf.hwid) == report.chip_id,
        leaf.tcb.to_bytes() == report.reported_tcb,
        leaf.not_after,
    ))  # fmt: skip


def _padded(hwid: bytes) -> bytes:
    return hwid.ljust(64, b"\0")


def _require_same_tcb(reported: TcbVersion, leaf: Leaf) -> None:
    if reported != leaf.tcb:
        raise EndorsementInvalid(
            f"the {leaf.signer} certificate is for other firmware versions than the report's",
            id="snp.leaf-tcb",
            got=str(leaf.tcb),
            want=str(reported),
            hint="Supply the certificate for this REPORTED_TCB.",
        )


def _require_same_chip(report: Report, leaf: Leaf) -> None:
    """A masked CHIP_ID names no chip; then the signature alone ties the report to the key."""
    if leaf.hwid is None or report.chip_id_masked:
        return
    if _padded(leaf.hwid) != report.chip_id:
        raise EndorsementInvalid(
            "the VCEK certificate is that of another chip",
            id="snp.chip-id",
            got=leaf.hwid.hex(),
            want=report.chip_id[: len(leaf.hwid)].hex(),
            hint="Supply the certificate of this chip.",
        )


def _require_order(report: Report, tcbs: dict[str, TcbVersion]) -> None:
    """Launch is not compared: a guest may have been launched on another machine."""
    for name in ("reported", "committed"):
        if tcbs[name] is tcbs["current"]:
            continue
        current = tcbs["current"].components
        above = [part for part, value in tcbs[name].components.items() if value > current[part]]
        if above:
            raise TcbRejected(
                f"the {name} firmware versions are above those that run: {', '.join(above)}",
                id="snp.tcb-order",
                got=str(tcbs[name]),
                want=f"at most {tcbs['current']}",
            )
    if report.committed > report.current:
        raise TcbRejected(
            "the committed firmware is newer than the one that runs",
            id="snp.tcb-order",
            got=str(report.committed),
            want=f"at most {report.current}",
        )


def _require_no_debug(report: Report) -> None:
    if report.policy.debug:
        raise DebugEnabled(
            "the VM allows debugging: its host can read and change everything in it",
            id="snp.debug-disabled",
            got=f"policy {report.policy.value:#x}",
            want="bit 19 clear",
        )
