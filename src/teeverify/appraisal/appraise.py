"""Hold what was found against a policy, and give the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.checks import CATALOG, run_checks
from teeverify.appraisal.checks.code import identity_of
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.claims import claims_of
from teeverify.appraisal.evidence import Evidence, Scope
from teeverify.appraisal.examine import Examined
from teeverify.appraisal.observation import CLAIM_NAMES, Observation, Outcome, Severity
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.presets import Level
from teeverify.appraisal.result import SEAL, AttestationResult, Finding, Tier
from teeverify.appraisal.summary import summarise
from teeverify.binding import SigningKey
from teeverify.encoding.text import printable
from teeverify.errors import (
    EXIT_POLICY,
    EXIT_SATISFIED,
    EXIT_UNDECIDED,
    EXIT_WRONG,
    AppraisalFailed,
)

__all__ = ["appraise_examined"]

_WORST_FIRST = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY, EXIT_SATISFIED)
_REFUSALS = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY)
_CLAIM_ORDER = {name: index for index, name in enumerate(CLAIM_NAMES)}


def appraise_examined(
    examined: Examined,
    answer: SignedAnswer | None,
    policy: Policy,
    *,
    scope_asked: Scope | None = None,
    model: str | None = None,
    verified_at: datetime,
) -> AttestationResult:
    """Appraise examined evidence, and a signed answer if there is one.

    Args:
        examined: What verification proved and what it refused.
        answer: The answer, after its signature was checked.
        policy: The policy in force.
        scope_asked: What the caller asked to have appraised (``--for``).
        model: The model that the caller named.
        verified_at: When this runs.

    Returns:
        The result, whether the policy is satisfied or not.
    """
    scope = _scope(examined.evidence, answer)
    findings = _findings(examined, answer, policy, scope, scope_asked, model)
    proof = _findings(examined, answer, policy.for_tier(), scope, scope_asked, model)
    worst = next(c for c in _WORST_FIRST if c in {0, *(f.exit_code for f in findings)})
    clean = all(f.severity is Severity.INFORMS for f in proof)
    exit_code, tier = _verdict(worst, clean=clean, accept=policy["verdict.accept"])
    signer = _signer(examined, answer)
    claims = claims_of(findings, examined, answer)
    return AttestationResult(
        summary=summarise(
            examined=examined,
            answer=answer,
            policy=policy,
            scope=scope,
            exit_code=exit_code,
            tier=tier,
            findings=findings,
        ),
        tier=tier,
        exit_code=exit_code,
        scope=scope,
        kind=examined.evidence.provider,
        source=examined.evidence.source,
        claims=claims,
        findings=findings,
        policy=policy,
        roots_kind=examined.question.roots.kind,
        as_of=examined.question.at,
        verified_at=verified_at,
        expires_at=_expires_at(examined),
        signer=signer,
        identities=tuple(i for m in examined.machines if (i := identity_of(m)) is not None),
        model=claims["model"].text if claims["model"].outcome is not Outcome.ABSENT else None,
        seal=SEAL,
    )


def _scope(evidence: Evidence, answer: SignedAnswer | None) -> Scope:
    if answer is not None:
        return "answer"
    return "endpoint" if evidence.kind == "endpoint" else "evidence"


def _verdict(worst: int, *, clean: bool, accept: str) -> tuple[int, Tier]:
    """The exit code and the tier; a warning is a refusal where only 'affirming' is accepted."""
    if worst == EXIT_UNDECIDED:
        return worst, "none"
    if worst != EXIT_SATISFIED:
        return worst, "contraindicated"
    if clean:
        return EXIT_SATISFIED, "affirming"
    if accept == "affirming":
        return EXIT_POLICY, "contraindicated"
    return EXIT_SATISFIED, "warning"


def _findings(
    examined: Examined,
    answer: SignedAnswer | None,
    policy: Policy,
    scope: Scope,
    scope_asked: Scope | None,
    model: str | None,
) -> tuple[Finding, ...]:
    subject = Subject(
        examined=examined,
        answer=answer,
        policy=policy,
        scope=scope,
        scope_asked=scope_asked,
        model=model,
    )
    found = [_finding(seen, policy.level(seen.id)) for seen in run_checks(subject)]
    return tuple(_in_order(found))


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By claim, in the fixed order; within a claim as the checks ran."""
    return sorted(findings, key=lambda finding: _CLAIM_ORDER[finding.claim])


def _finding(seen: Observation, level: Level) -> Finding:
    severity, exit_code = _severity(seen, level)
    return Finding(
        id=seen.id,
        claim=CATALOG[seen.id].claim,
        outcome=seen.outcome,
        severity=severity,
        message=printable(seen.message),
        subject=printable(seen.subject),
        by=_plain(seen.by),
        got=_plain(seen.got),
        want=_plain(seen.want),
        hint=_plain(seen.hint),
        exit_code=exit_code,
        error=seen.error,
    )


def _plain(text: str | None) -> str | None:
    """What evidence says, with nothing in it that steers whatever shows the result."""
    return None if text is None else printable(text)


def _severity(seen: Observation, level: Level) -> tuple[Severity, int]:
    """What the policy does with an observation, and the exit code that it asks for.

    Evidence that is wrong refuses at any level: a level says how much must be shown, never that
    what was shown may be false.
    """
    if seen.outcome is Outcome.FAILED and (
        seen.hard or not isinstance(seen.error, AppraisalFailed)
    ):
        return Severity.REFUSES, _refusal(seen, EXIT_WRONG)
    if seen.hard and level != "note":
        return Severity.REFUSES, _refusal(seen, EXIT_UNDECIDED)
    enough: Mapping[Outcome, tuple[Level, ...]] = {
        Outcome.PROVEN: ("note", "warn", "asserted", "proven"),
        Outcome.ASSERTED: ("note", "warn", "asserted"),
        Outcome.ABSENT: ("note", "warn"),
        Outcome.FAILED: ("note", "warn"),
    }
    if level not in enough[seen.outcome]:
        return Severity.REFUSES, _refusal(seen, EXIT_POLICY)
    good = seen.outcome is Outcome.PROVEN and not seen.concern
    if good or level == "note":
        return Severity.INFORMS, EXIT_SATISFIED
    return Severity.WARNS, EXIT_SATISFIED


def _refusal(seen: Observation, otherwise: int) -> int:
    """The exit code of what refuses: never one that a verdict does not know, or it would pass."""
    if seen.error is None:
        return otherwise
    return seen.error.exit_code if seen.error.exit_code in _REFUSALS else EXIT_WRONG


def _signer(examined: Examined, answer: SignedAnswer | None) -> SigningKey | None:
    """The key that a verified quote binds: of the answer, or of the model's machine."""
    bound = [
        (m.machine.role, m.machine.key)
        for m in examined.machines
        if m.layout is not None and m.machine.key is not None
    ]
    keys = [key for _, key in bound]
    if answer is not None:
        return answer.signer if answer.signer in keys else None
    by_role = dict(bound)
    return by_role.get("model") or by_role.get("gateway")


def _expires_at(examined: Examined) -> datetime | None:
    bounds = [m.cpu.expires_at for m in examined.machines if m.cpu is not None]
    bounds += [m.snp.expires_at for m in examined.machines if m.snp is not None]
    bounds += [m.gpus.expires_at for m in examined.machines if m.gpus is not None]
    bounds += [m.nras.expires_at for m in examined.machines if m.nras is not None]
    for found in (m.firmware for m in examined.machines):
        bounds += [x.expires_at for x in (found.measurements, found.revocation) if x is not None]
    return min(bounds, default=None)
