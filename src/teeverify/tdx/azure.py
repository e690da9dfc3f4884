"""Azure confidential VMs on Intel's CPUs: the quote beside the paravisor's envelope.

The envelope holds a TDREPORT, which only its own CPU can check. Azure's host turns it into Intel's
quote, with the same report data: the hash of the paravisor's claims, which name the virtual TPM's
attestation key (AK). So the quote says which machine, from its boot on, and the TPM's quote by that
key says when, and what was booted.
"""

from __future__ import annotations

from collections.abc import Sequence

from teeverify.azure import envelope, vtpm
from teeverify.azure.envelope import HclReport
from teeverify.azure.vtpm import AzureEvidence, VtpmClaims
from teeverify.encoding.fields import JsonObject
from teeverify.errors import BindingMismatch
from teeverify.tdx.claims import Claims

__all__ = ["parse_azure_evidence", "parse_hcl_report", "verify_vtpm"]

_MAX_QUOTE = 16 * 1024
# REPORTMACSTRUCT of the TDREPORT (Intel TDX module ABI): REPORTDATA, which nobody signed here.
_REPORT_DATA = slice(128, 192)


def parse_hcl_report(raw: bytes) -> HclReport:
    """Read the envelope (NV index 0x01400001) of a TD.

    Raises:
        MalformedEvidence: Another form, of another TEE, or sizes that do not fit.
    """
    return envelope.parse_hcl_report(raw, "tdx")


def parse_azure_evidence(form: JsonObject) -> tuple[AzureEvidence, bytes]:
    """Read evidence as attestation agents send it: envelope, TPM quote, and Intel's quote.

    Args:
        form: ``hcl_report``, ``tpm_quote`` and ``td_quote``; bytes are lists of numbers, or
            text since version 1 of the form.

    Raises:
        MalformedEvidence: A member is missing or of another form.
    """
    evidence = vtpm.read_evidence(form.raw("hcl_report"), form.object("tpm_quote"), None)
    return evidence, vtpm.read_bytes(form.raw("td_quote"), "td_quote", _MAX_QUOTE)


def verify_vtpm(
    hcl: HclReport,
    claims: Claims,
    *,
    message: bytes,
    signature: bytes,
    pcrs: Sequence[bytes],
    nonce: bytes,
) -> VtpmClaims:
    """Verify that the TPM of a genuine TD quoted exactly these PCRs for this nonce.

    Args:
        hcl: The envelope that came beside the quote.
        claims: What :func:`teeverify.tdx.verify_quote` proved of the quote.
        message: What the TPM signed.
        signature: Its signature (RSASSA-PKCS1-v1_5 with SHA-256).
        pcrs: Values of PCR 0 and following; all of them must be quoted, and no others.
        nonce: The nonce that you asked for; there is no verification without one.

    Raises:
        ConfigurationError: The quote is of an SGX enclave, which is no VM.
        MalformedEvidence: The claims or the TPM's quote cannot be read.
        BindingMismatch: The quote does not bind the claims, or is of another report than the one
            in the envelope; or the PCRs are not those quoted.
        SignatureInvalid: The TPM's quote is not signed by the key in the claims.
        StaleEvidence: The TPM's quote answers another nonce, or none.
    """
    report_data = claims.td.report_data
    if hcl.report[_REPORT_DATA] != report_data:
        raise BindingMismatch(
            "Intel's quote is not of the report in the paravisor's envelope",
            id=envelope.CLAIMS,
            got=report_data.hex(),
            want=hcl.report[_REPORT_DATA].hex(),
        )
    return vtpm.prove_vtpm(
        hcl, report_data, message=message, signature=signature, pcrs=pcrs, nonce=nonce
    )
