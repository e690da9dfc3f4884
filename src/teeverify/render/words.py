"""What every face needs to know of a result: states, signs, and their order."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from teeverify.appraisal import AttestationResult, Finding, Outcome, Severity
from teeverify.appraisal.result import Claim

__all__ = [
    "FANCY",
    "PLAIN",
    "claim_state",
    "ends",
    "finding_state",
    "reservations",
    "verdict_state",
]

# The year by which certificates say that they have no end (RFC 5280 section 4.1.2.5).
_NO_END = 9999

FANCY = {"good": "✔", "asserted": "~", "warned": "!", "bad": "✘", "none": "-"}
PLAIN = {"good": "OK", "asserted": "~", "warned": "!", "bad": "XX", "none": "-"}
_OF_TIER = {"affirming": "good", "warning": "warned", "contraindicated": "bad", "none": "none"}
_OF_OUTCOME = {
    Outcome.PROVEN: "good",
    Outcome.ASSERTED: "asserted",
    Outcome.ABSENT: "none",
    Outcome.FAILED: "bad",
}


def verdict_state(result: AttestationResult) -> str:
    """The state of the whole result: a good sign for nothing less than 'Verified'."""
    if result.simulated and result.tier == "affirming":
        return "warned"
    return _OF_TIER[result.tier]


def claim_state(claim: Claim, findings: Iterable[Finding]) -> str:
    """The state of a claim; a warning takes the good sign from one that is proven."""
    state = _OF_OUTCOME[claim.outcome]
    warned = any(f.severity is not Severity.INFORMS for f in findings)
    return "warned" if state == "good" and warned else state


def reservations(findings: Iterable[Finding]) -> list[str]:
    """Why a claim that is proven has no good sign, each reason once."""
    return list(dict.fromkeys(f.message for f in findings if f.severity is Severity.WARNS))


def finding_state(finding: Finding) -> str:
    """The state of a finding."""
    state = _OF_OUTCOME[finding.outcome]
    return "warned" if state == "good" and finding.severity is Severity.WARNS else state


def ends(moment: datetime) -> bool:
    """Whether that a verdict ends then says anything: certificates without an end name a year."""
    return moment.year < _NO_END
