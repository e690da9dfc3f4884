"""AMD SEV-SNP: attestation reports, and AMD's endorsements of a chip.

::

    endorsements = snp.Endorsements.load("endorsements/")
    claims = snp.verify_report(raw, endorsements, at="2026-09-01T00:00:00Z")
"""

from teeverify.snp.azure import (
    AZURE_CHECKS,
    HCL_CHECKS,
    AzureEvidence,
    HclClaims,
    HclReport,
    TpmQuote,
    VtpmClaims,
    parse_azure_evidence,
    parse_hcl_report,
    parse_tpm_quote,
    verify_hcl,
    verify_vtpm,
)
from teeverify.snp.certificates import Leaf, parse_leaf
from teeverify.snp.claims import Claims, CrlState
from teeverify.snp.containers import Unwrapped, looks_like_report, unwrap_report
from teeverify.snp.endorsements import Endorsements
from teeverify.snp.flags import GuestPolicy, PlatformInfo
from teeverify.snp.google import (
    GOOGLE_CHECKS,
    FirmwareClaims,
    FirmwareEndorsement,
    parse_firmware_endorsement,
    verify_firmware,
)
from teeverify.snp.id_block import (
    IdAuth,
    IdBlock,
    IdBlockClaims,
    id_key_digest,
    parse_id_auth,
    parse_id_block,
    verify_id_block,
)
from teeverify.snp.product import Product, TcbVersion
from teeverify.snp.recorded import Found
from teeverify.snp.report import FirmwareVersion, Report, Signer, parse_report
from teeverify.snp.table import CertificateTable, parse_certificate_table
from teeverify.snp.verify import CHECKS, SEPARATE_CHECKS, verify_report

__all__ = [
    "AZURE_CHECKS",
    "CHECKS",
    "GOOGLE_CHECKS",
    "HCL_CHECKS",
    "SEPARATE_CHECKS",
    "AzureEvidence",
    "CertificateTable",
    "Claims",
    "CrlState",
    "Endorsements",
    "FirmwareClaims",
    "FirmwareEndorsement",
    "FirmwareVersion",
    "Found",
    "GuestPolicy",
    "HclClaims",
    "HclReport",
    "IdAuth",
    "IdBlock",
    "IdBlockClaims",
    "Leaf",
    "PlatformInfo",
    "Product",
    "Report",
    "Signer",
    "TcbVersion",
    "TpmQuote",
    "Unwrapped",
    "VtpmClaims",
    "id_key_digest",
    "looks_like_report",
    "parse_azure_evidence",
    "parse_certificate_table",
    "parse_firmware_endorsement",
    "parse_hcl_report",
    "parse_id_auth",
    "parse_id_block",
    "parse_leaf",
    "parse_report",
    "parse_tpm_quote",
    "unwrap_report",
    "verify_firmware",
    "verify_hcl",
    "verify_id_block",
    "verify_report",
    "verify_vtpm",
]
