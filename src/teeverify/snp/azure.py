"""Azure confidential VMs on AMD's CPUs: the report in the paravisor's envelope.

The report is made at boot and binds the paravisor's claims, which name the TPM's attestation key
(AK). So the report says which machine, and the quote by that key says when, and what was booted.
"""

from __future__ import annotations

from collections.abc import Sequence

from teeverify.azure import envelope, vtpm
from teeverify.azure.envelope import AZURE_CHECKS, HCL_CHECKS, HclClaims, HclReport
from teeverify.azure.vtpm import AzureEvidence, TpmQuote, VtpmClaims, parse_tpm_quote
from teeverify.encoding.fields import JsonObject
from teeverify.errors import BindingMismatch
from teeverify.snp.claims import Claims

__all__ = [
    "AZURE_CHECKS",
    "HCL_CHECKS",
    "AzureEvidence",
    "HclClaims",
    "HclReport",
    "TpmQuote",
    "VtpmClaims",
    "parse_azure_evidence",
    "parse_hcl_report",
    "parse_tpm_quote",
    "verify_hcl",
    "verify_vtpm",
]

_MAX_CERTIFICATE = 8 * 1024


def parse_hcl_report(raw: bytes) -> HclReport:
    """Read the envelope (NV index 0x01400001).

    Raises:
        MalformedEvidence: Another form, of another TEE, or sizes that do not fit.
    """
    return envelope.parse_hcl_report(raw, "snp")


def parse_azure_evidence(form: JsonObject) -> AzureEvidence:
    """Read evidence as attestation agents send it.

    Args:
        form: ``report``, ``quote`` and ``vcek`` in PEM, with bytes as lists of numbers; since
            version 1 of the form ``hcl_report``, ``tpm_quote`` and ``vcek`` in DER, as text.

    Raises:
        MalformedEvidence: A member is missing or of another form.
    """
    if "hcl_report" in form:
        vcek = form.raw("vcek")
        certificate = None if vcek is None else vtpm.read_bytes(vcek, "vcek", _MAX_CERTIFICATE)
        return vtpm.read_evidence(form.raw("hcl_report"), form.object("tpm_quote"), certificate)
    certificates = form.text("vcek").encode("utf-8") if "vcek" in form else None
    return vtpm.read_evidence(form.raw("report"), form.object("quote"), certificates)


def verify_hcl(hcl: HclReport, claims: Claims, *, nonce: bytes | None) -> HclClaims:
    """Verify that the report binds the paravisor's claims, and that they answer a nonce.

    A guest writes 64 bytes to the NV index 0x01400002; the envelope that it then reads has a new
    report, and these bytes in its claims as ``user-data``.

    Args:
        hcl: The envelope in which the report came.
        claims: What :func:`teeverify.snp.verify_report` proved of its report.
        nonce: The nonce that you asked for, up to 64 bytes; zeros follow it. ``None`` where there
            is none: then nothing shows when the report was made.

    Raises:
        MalformedEvidence: The claims cannot be read.
        BindingMismatch: The report does not bind the claims.
        StaleEvidence: They answer another nonce, or none.
    """
    _require_report(hcl, claims)
    return envelope.prove_hcl(hcl, claims.report_data, nonce=nonce)


def verify_vtpm(
    hcl: HclReport,
    claims: Claims,
    *,
    message: bytes,
    signature: bytes,
    pcrs: Sequence[bytes],
    nonce: bytes,
) -> VtpmClaims:
    """Verify that the TPM of a genuine VM quoted exactly these PCRs for this nonce.

    Args:
        hcl: The envelope in which the report came.
        claims: What :func:`teeverify.snp.verify_report` proved of its report.
        message: What the TPM signed.
        signature: Its signature (RSASSA-PKCS1-v1_5 with SHA-256).
        pcrs: Values of PCR 0 and following; all of them must be quoted, and no others.
        nonce: The nonce that you asked for; there is no verification without one.

    Raises:
        MalformedEvidence: The claims or the quote cannot be read.
        BindingMismatch: The report does not bind the claims, or the PCRs are not those quoted.
        SignatureInvalid: The quote is not signed by the key in the claims.
        StaleEvidence: The quote answers another nonce, or none.
    """
    _require_report(hcl, claims)
    return vtpm.prove_vtpm(
        hcl,
        claims.report_data,
        message=message,
        signature=signature,
        pcrs=pcrs,
        nonce=nonce,
    )


def _require_report(hcl: HclReport, claims: Claims) -> None:
    if claims.report.raw != hcl.report:
        raise BindingMismatch(
            "the report that was verified is not the one in the paravisor's envelope",
            id=envelope.CLAIMS,
            got=f"a report of {len(hcl.report)} other bytes",
            want=claims.report_data.hex(),
        )
