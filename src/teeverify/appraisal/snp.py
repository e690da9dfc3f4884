"""Examine an AMD report with whatever of AMD's is at hand."""

from __future__ import annotations

from datetime import datetime

from teeverify import snp, tdx
from teeverify.appraisal.evidence import Machine
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.steps import not_reached, ordered
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementUnavailable,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.roots import Roots

__all__ = ["examine_firmware_maker", "examine_hcl", "examine_snp", "examine_vtpm"]

_CRL = "snp.crl"


def examine_snp(
    machine: Machine,
    endorsements: snp.Endorsements | None,
    into: list[Observation],
    *,
    at: datetime,
    roots: Roots,
) -> snp.Claims | None:
    """Verify a machine's report.

    That AMD's revocation list is absent is an observation of its own, which a policy may accept;
    one that is wrong, or that revokes, refuses.

    Args:
        machine: The machine.
        endorsements: What of AMD's was found beside the evidence, or given.
        into: Where the observations go.
        at: The time of the appraisal.
        roots: The trust anchors.

    Returns:
        What was proved; ``None`` where something is wrong or missing.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    report = machine.snp_report or b""

    def verify() -> snp.Claims:
        snp.parse_report(report)  # what is malformed is wrong, whatever is missing beside it
        known = _known(machine, endorsements)
        claims = snp.verify_report(report, known, at=at, roots=roots, unsafe_without_crl=True)
        if machine.layout and claims.report.made_by_host:
            raise BindingMismatch(
                "the host asked for this report, so what it binds is the host's choice",
                id="snp.report",
                got=f"VMPL {claims.report.vmpl:#x}",
                want="a report that the guest asked for",
            )
        return claims

    claims = ordered(into, machine.label, snp.CHECKS, verify)
    if claims is not None and claims.crl_missing is not None:
        error = claims.crl_missing
        missing = EndorsementUnavailable(
            f"{error.message}, so whether AMD revoked the CA above the report's key is not known",
            id=_CRL,
            got=error.got,
            want=error.want,
            hint="Pass --endorsements PATH with AMD's list of that time or a later one; a policy "
            "may accept its absence (require.snp.crl).",
        )
        told = [
            Observation.failed(missing, subject=machine.label) if _is_crl(o, machine) else o
            for o in into
        ]
        into[:] = told
    return claims


def _known(machine: Machine, endorsements: snp.Endorsements | None) -> snp.Endorsements:
    """What was given or found beside the evidence, and what came with the report."""
    parts = [] if endorsements is None else [endorsements]
    if machine.snp_certificates is not None:
        parts.append(snp.Endorsements.load(machine.snp_certificates))
    return parts[0] if len(parts) == 1 else snp.Endorsements.union(*parts)


def examine_firmware_maker(
    machine: Machine,
    endorsements: snp.Endorsements | None,
    claims: snp.Claims,
    *,
    at: datetime,
    roots: Roots,
) -> snp.FirmwareClaims | TeeVerifyError | None:
    """Verify Google's endorsement of a report's firmware, where there is one of its measurement.

    Args:
        machine: The machine.
        endorsements: What was given, or found beside the evidence.
        claims: What was proved of its report.
        at: The time of the appraisal.
        roots: The trust anchors.

    Returns:
        What was proved, or what is wrong or missing; ``None`` where there is no endorsement.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    found = _known(machine, endorsements).found
    error: TeeVerifyError | None = None
    for raw in found.firmware:
        try:
            endorsement = snp.parse_firmware_endorsement(raw)
            if claims.measurement not in endorsement.measurements.values():
                continue  # of other firmware: one folder may serve many machines
            return snp.verify_firmware(
                endorsement, claims, at=at, certificates=found.firmware_roots, roots=roots
            )
        except ConfigurationError:
            raise
        except TeeVerifyError as problem:
            error = error or problem
    return error


def examine_hcl(
    machine: Machine, claims: snp.Claims | None, into: list[Observation], *, nonce: bytes | None
) -> snp.HclClaims | None:
    """Verify what Azure's envelope adds to a report, where it came without a TPM's quote.

    Args:
        machine: The machine.
        claims: What was proved of the report; ``None`` where that failed.
        into: Where the observations go.
        nonce: The nonce that was asked for; without one nothing is said of freshness.

    Returns:
        What was proved; ``None`` where something is wrong or missing.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    checks = snp.HCL_CHECKS if nonce is not None else snp.HCL_CHECKS[:-1]
    if claims is None:
        into += not_reached([check.id for check in checks], machine.label)
        return None
    hcl = snp.parse_hcl_report(machine.hcl or b"")
    return ordered(into, machine.label, checks, lambda: snp.verify_hcl(hcl, claims, nonce=nonce))


def _is_crl(observation: Observation, machine: Machine) -> bool:
    return observation.id == _CRL and observation.subject == machine.label


def examine_vtpm(
    azure: snp.AzureEvidence,
    claims: snp.Claims | tdx.Claims | None,
    into: list[Observation],
    label: str,
    *,
    nonce: bytes | None,
    bound: bool,
) -> snp.VtpmClaims | None:
    """Verify an Azure VM's TPM quote; without a nonce of somebody's it shows nothing.

    Args:
        azure: The evidence.
        claims: What was proved of the report or quote; ``None`` where that failed.
        into: Where the observations go.
        label: The machine.
        nonce: The nonce that was asked for.
        bound: Whether the nonce is compared by the caller, as a binding in which another one is.

    Returns:
        What was proved; ``None`` where something is wrong or missing.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    checks = [one for one in snp.AZURE_CHECKS if not (bound and one.id == "azure.nonce")]
    if claims is None:
        into += not_reached([check.id for check in checks], label)
        return None

    def verify() -> snp.VtpmClaims:
        carried = snp.parse_tpm_quote(azure.message).extra_data
        answered = carried if bound else nonce
        if answered is None:
            raise StaleEvidence(
                "an Azure VM's report is from its boot: without the nonce that its TPM was asked "
                "for, nothing shows when the quote was made",
                id="azure.nonce",
                got=carried.hex() or "none",
                want="the nonce that you asked for",
                hint="Pass --nonce HEX.",
            )
        if isinstance(claims, tdx.Claims):
            return tdx.verify_vtpm(
                tdx.parse_hcl_report(azure.hcl),
                claims,
                message=azure.message,
                signature=azure.signature,
                pcrs=azure.pcrs,
                nonce=answered,
            )
        return snp.verify_vtpm(
            snp.parse_hcl_report(azure.hcl),
            claims,
            message=azure.message,
            signature=azure.signature,
            pcrs=azure.pcrs,
            nonce=answered,
        )

    return ordered(into, label, checks, verify)
