"""Azure's evidence of a TD: envelope, TPM quote, and Intel's quote, as agents send it."""

from __future__ import annotations

from typing import Any

from teeverify import tdx
from teeverify.appraisal import evidence as neutral
from teeverify.appraisal.evidence import Machine
from teeverify.binding import Bound
from teeverify.encoding.fields import JsonObject

__all__ = ["from_azure", "is_azure"]

_AZURE = frozenset({"hcl_report", "td_quote", "tpm_quote"})


def is_azure(value: Any) -> bool:  # noqa: ANN401 -- decoded JSON
    """Whether decoded JSON is an Azure TD's evidence."""
    return isinstance(value, dict) and value.keys() >= _AZURE


def from_azure(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401 -- decoded JSON
    """Evidence of an Azure TD, whose virtual TPM quoted what was booted.

    Raises:
        MalformedEvidence: It cannot be read.
    """
    azure, quote = tdx.parse_azure_evidence(JsonObject(value, path="azure", id="azure.hcl"))
    hcl = tdx.parse_hcl_report(azure.hcl)
    machine = Machine(
        role="component",
        label="quote",
        quote=quote,
        azure=azure,
        layout="hcl",
        commits=Bound(runtime_claims=hcl.claims, runtime_hash=hcl.hash_name),
    )
    return neutral.Evidence(
        kind="component",
        provider="an Azure confidential VM's evidence",
        source=name,
        machines=(machine,),
    )
