"""NVIDIA GPUs and NVSwitches: their evidence, and what NVIDIA's services say about it.

::

    evidence = nvidia.parse_evidence(nvidia_payload)
    claims = nvidia.verify_evidence(evidence, None, nonce=nonce, at="2026-06-29T02:06:57Z")
"""

from teeverify.nvidia.checks import (
    CHECKS,
    CRL_CHECKS,
    NRAS_CHECKS,
    OCSP_CHECKS,
    RIM_CHECKS,
    TOPOLOGY_CHECKS,
)
from teeverify.nvidia.chips import Architecture, DeviceType
from teeverify.nvidia.claims import DeviceClaims, FwidState
from teeverify.nvidia.endorsements import Endorsements
from teeverify.nvidia.evidence import DeviceEvidence, Evidence, RawEvidence, parse_evidence
from teeverify.nvidia.measurements import (
    DeviceMeasurements,
    MeasurementClaims,
    compare_manifest,
    compare_measurements,
    refute_measurements,
    rim_ids,
)
from teeverify.nvidia.nras import NrasClaims, NrasDevice, verify_answer
from teeverify.nvidia.recorded import RimFile
from teeverify.nvidia.revocation import (
    CertificateStatus,
    RevocationClaims,
    certificates_to_ask,
    verify_crls,
    verify_revocation,
)
from teeverify.nvidia.rim import GoldenValue, RimClaims, rim_signers, verify_rim
from teeverify.nvidia.spdm import FeatureFlag, Measurement, OpaqueField, SpdmReport
from teeverify.nvidia.topology import TopologyClaims, needs_switches, verify_topology
from teeverify.nvidia.verify import Claims, verify_device, verify_evidence

__all__ = [
    "CHECKS",
    "CRL_CHECKS",
    "NRAS_CHECKS",
    "OCSP_CHECKS",
    "RIM_CHECKS",
    "TOPOLOGY_CHECKS",
    "Architecture",
    "CertificateStatus",
    "Claims",
    "DeviceClaims",
    "DeviceEvidence",
    "DeviceMeasurements",
    "DeviceType",
    "Endorsements",
    "Evidence",
    "FeatureFlag",
    "FwidState",
    "GoldenValue",
    "Measurement",
    "MeasurementClaims",
    "NrasClaims",
    "NrasDevice",
    "OpaqueField",
    "RawEvidence",
    "RevocationClaims",
    "RimClaims",
    "RimFile",
    "SpdmReport",
    "TopologyClaims",
    "certificates_to_ask",
    "compare_manifest",
    "compare_measurements",
    "needs_switches",
    "parse_evidence",
    "refute_measurements",
    "rim_ids",
    "rim_signers",
    "verify_answer",
    "verify_crls",
    "verify_device",
    "verify_evidence",
    "verify_revocation",
    "verify_rim",
    "verify_topology",
]
