"""AMD SEV-SNP: attestation reports, and AMD's endorsements of a chip.

::

    endorsements = snp.Endorsements.load("endorsements/")
    claims = snp.verify_report(raw, endorsements, at="2026-09-01T00:00:00Z")
"""

from teeverify.snp.azure import (
    AZURE_CHECKS,
    AzureEvidence,
    HclReport,
    TpmQuote,
    VtpmClaims,
    parse_azure_evidence,
    parse_hcl_report,
    parse_tpm_quote,
    verify_vtpm,
)
from teeverify.snp.certificates import Leaf, parse_leaf
from teeverify.snp.claims import Claims, CrlState
from teeverify.snp.containers import Unwrapped, looks_like_report, unwrap_report
from teeverify.snp.endorsements import Endorsements
from teeverify.snp.flags import GuestPolicy, PlatformInfo
from teeverify.snp.product import Product, TcbVersion
from teeverify.snp.recorded import Found
from teeverify.snp.report import FirmwareVersion, Report, Signer, parse_report
from teeverify.snp.table import CertificateTable, parse_certificate_table
from teeverify.snp.verify import CHECKS, SEPARATE_CHECKS, verify_report

__all__ = [
    "AZURE_CHECKS",
    "CHECKS",
    "SEPARATE_CHECKS",
    "AzureEvidence",
    "CertificateTable",
    "Claims",
    "CrlState",
    "Endorsements",
    "FirmwareVersion",
    "Found",
    "GuestPolicy",
    "HclReport",
    "Leaf",
    "PlatformInfo",
    "Product",
    "Report",
    "Signer",
    "TcbVersion",
    "TpmQuote",
    "Unwrapped",
    "VtpmClaims",
    "looks_like_report",
    "parse_azure_evidence",
    "parse_certificate_table",
    "parse_hcl_report",
    "parse_leaf",
    "parse_report",
    "parse_tpm_quote",
    "unwrap_report",
    "verify_report",
    "verify_vtpm",
]
