"""Verify, on your own machine, that an AI answer came from a genuine confidential VM and GPU."""

from teeverify.appraisal import (
    AttestationResult,
    Claim,
    Finding,
    Policy,
    ReferenceValues,
)
from teeverify.client import Evidence, Verifier, appraise, verify
from teeverify.errors import (
    AppraisalFailed,
    ConfigurationError,
    EndorsementUnavailable,
    EndpointUnavailable,
    EvidenceError,
    ResponseNotVerified,
    SignatureUnavailable,
    TeeVerifyError,
    Unavailable,
)
from teeverify.roots import UnsafeTestRoots

__version__ = "0.1.0"

__all__ = [
    "AppraisalFailed",
    "AttestationResult",
    "Claim",
    "ConfigurationError",
    "EndorsementUnavailable",
    "EndpointUnavailable",
    "Evidence",
    "EvidenceError",
    "Finding",
    "Policy",
    "ReferenceValues",
    "ResponseNotVerified",
    "SignatureUnavailable",
    "TeeVerifyError",
    "Unavailable",
    "UnsafeTestRoots",
    "Verifier",
    "appraise",
    "verify",
]
