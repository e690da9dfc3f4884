"""Sources that hold an AMD report: alone, in a container, or in Azure's evidence."""

from __future__ import annotations

from typing import Any

from teeverify import snp
from teeverify.appraisal import evidence as neutral
from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence

__all__ = ["from_azure", "from_bytes", "is_azure", "is_snp"]

_HCL = b"HCLA"
_AZURE = frozenset({"quote", "report"})
_AZURE_TEXT = frozenset({"hcl_report", "tpm_quote"})
_AZURE_TD = "td_quote"


def is_snp(raw: bytes) -> bool:
    """Whether bytes are a report, in whatever container, or Azure's envelope."""
    if raw.startswith(_HCL):
        return True
    try:
        snp.unwrap_report(raw)
    except MalformedEvidence:
        return False
    return True


def from_bytes(raw: bytes, name: str) -> neutral.Evidence:
    """Evidence of a report that stands alone.

    Raises:
        MalformedEvidence: It cannot be read.
    """
    if raw.startswith(_HCL):
        hcl = snp.parse_hcl_report(raw)
        words = "an AMD SEV-SNP report in Azure's envelope"
        return _evidence(words, name, hcl.report, None, hcl=raw, **_bound(hcl))
    unwrapped = snp.unwrap_report(raw)
    table = unwrapped.table if unwrapped.table and any(unwrapped.table) else None
    return _evidence("an AMD SEV-SNP report", name, unwrapped.report, table)


def is_azure(value: Any) -> bool:  # noqa: ANN401 -- decoded JSON
    """Whether decoded JSON is an Azure VM's evidence: envelope, TPM quote, certificate."""
    if not isinstance(value, dict):
        return False
    if value.keys() >= _AZURE_TEXT:
        return _AZURE_TD not in value
    return (
        value.keys() >= _AZURE
        and isinstance(value["quote"], dict)
        and isinstance(value["report"], list)
    )


def from_azure(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401 -- decoded JSON
    """Evidence of an Azure VM, whose virtual TPM quoted what was booted.

    Raises:
        MalformedEvidence: It cannot be read.
    """
    form = JsonObject(value, path="azure", id="azure.hcl")
    azure = snp.parse_azure_evidence(form)
    hcl = snp.parse_hcl_report(azure.hcl)
    return _evidence(
        "an Azure confidential VM's evidence",
        name,
        hcl.report,
        azure.certificates,
        azure=azure,
        **_bound(hcl),
    )


def _bound(hcl: snp.HclReport) -> dict[str, Any]:
    """What the envelope's report must bind: the claims in the envelope."""
    commits = Bound(runtime_claims=hcl.claims, runtime_hash=hcl.hash_name)
    return {"layout": "hcl", "commits": commits}


def _evidence(
    provider: str,
    name: str,
    report: bytes,
    certificates: bytes | None,
    **parts: Any,  # noqa: ANN401 -- fields of the machine
) -> neutral.Evidence:
    machine = Machine(
        role="component", label="report", snp_report=report, snp_certificates=certificates, **parts
    )
    return neutral.Evidence(kind="component", provider=provider, source=name, machines=(machine,))
