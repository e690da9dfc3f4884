"""NVIDIA GPUs and NVSwitches: their evidence, and what NVIDIA's services say about it.

::

    evidence = nvidia.parse_evidence(nvidia_payload)
    claims = nvidia.verify_evidence(evidence, None, nonce=nonce, at="2026-06-29T02:06:57Z")
"""

from teeverify.nvidia.certificates import Architecture, DeviceType
from teeverify.nvidia.checks import CHECKS, NRAS_CHECKS
from teeverify.nvidia.claims import DeviceClaims, FwidState
from teeverify.nvidia.endorsements import Endorsements
from teeverify.nvidia.evidence import DeviceEvidence, Evidence, RawEvidence, parse_evidence
from teeverify.nvidia.nras import NrasClaims, NrasDevice, verify_answer
from teeverify.nvidia.spdm import FeatureFlag, Measurement, OpaqueField, SpdmReport
from teeverify.nvidia.verify import Claims, verify_device, verify_evidence

__all__ = [
    "CHECKS",
    "NRAS_CHECKS",
    "Architecture",
    "Claims",
    "DeviceClaims",
    "DeviceEvidence",
    "DeviceType",
    "Endorsements",
    "Evidence",
    "FeatureFlag",
    "FwidState",
    "Measurement",
    "NrasClaims",
    "NrasDevice",
    "OpaqueField",
    "RawEvidence",
    "SpdmReport",
    "parse_evidence",
    "verify_answer",
    "verify_device",
    "verify_evidence",
]
