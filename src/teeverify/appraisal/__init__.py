"""The relying party's side: policy, reference values, checks, and the result."""

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.appraise import appraise_examined
from teeverify.appraisal.evidence import Evidence, Machine
from teeverify.appraisal.examine import examine
from teeverify.appraisal.examined import Examined, Question
from teeverify.appraisal.observation import Observation, Outcome, Severity
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.reference import ReferenceValues
from teeverify.appraisal.result import AttestationResult, Claim, Finding

__all__ = [
    "AttestationResult",
    "Claim",
    "Evidence",
    "Examined",
    "Finding",
    "Machine",
    "Observation",
    "Outcome",
    "Policy",
    "Question",
    "ReferenceValues",
    "Severity",
    "SignedAnswer",
    "appraise_examined",
    "examine",
]
