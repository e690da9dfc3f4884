"""Hold what was found against a policy, and give the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.checks import CATALOG, run_answer_checks, run_evidence_checks
from teeverify.appraisal.checks.code import identity_of
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.claims import claims_of
from teeverify.appraisal.encryption import Encryption, sealed_to
from teeverify.appraisal.evidence import Evidence, Scope
from teeverify.appraisal.examined import Examined
from teeverify.appraisal.hindsight import Hindsight
from teeverify.appraisal.nodes import choose_node
from teeverify.appraisal.observation import CLAIM_NAMES, Observation, Outcome, Severity
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.presets import Level
from teeverify.appraisal.result import SEAL, AttestationResult, Finding, ReceiptTimes, Tier
from teeverify.appraisal.summary import summarise
from teeverify.binding import SigningKey
from teeverify.encoding.text import printable
from teeverify.errors import (
    EXIT_POLICY,
    EXIT_SATISFIED,
    EXIT_UNDECIDED,
    EXIT_WRONG,
    WORST_FIRST,
    AppraisalFailed,
)

__all__ = ["appraise_examined"]

T = TypeVar("T")

_REFUSALS = (EXIT_WRONG, EXIT_UNDECIDED, EXIT_POLICY)
_CLAIM_ORDER = {name: index for index, name in enumerate(CLAIM_NAMES)}


def appraise_examined(  # noqa: PLR0913 -- the question in all its parts
    examined: Examined,
    answer: SignedAnswer | None,
    policy: Policy,
    *,
    scope_asked: Scope | None = None,
    model: str | None = None,
    verified_at: datetime,
    hindsight: Hindsight | None = None,
    encryption: Encryption | None = None,
) -> AttestationResult:
    """Appraise examined evidence, and a signed answer if there is one.

    Args:
        examined: What verification proved and what it refused.
        answer: The answer, after its signature was checked.
        policy: The policy in force.
        scope_asked: What the caller asked to have appraised (``--for``).
        model: The model that the caller named.
        verified_at: When this runs.
        hindsight: For a receipt: what is known of it later.
        encryption: How the caller's own client encrypts what it sends, if it does.

    Returns:
        The result, whether the policy is satisfied or not.
    """
    scope = _scope(examined.evidence, answer)
    subject = Subject(
        examined=examined,
        answer=answer,
        policy=policy,
        scope=scope,
        scope_asked=scope_asked,
        model=model,
        hindsight=hindsight,
        expires_at=examined.expires_at,
        encryption=encryption,
    )
    examined = choose_node(
        examined, answer, lambda part: _findings(replace(subject, examined=part))
    )
    if examined is not subject.examined:
        subject = replace(subject, examined=examined, expires_at=examined.expires_at)
    findings = _findings(subject)
    worst = next(c for c in WORST_FIRST if c in {0, *(f.exit_code for f in findings)})
    clean = _is_clean(replace(subject, policy=_for_tier(examined, policy)))
    exit_code, tier = _verdict(worst, clean=clean, accept=policy["verdict.accept"])
    signer = _signer(examined, answer)
    claims = claims_of(findings, examined, answer)
    to = sealed_to(examined.machines, encryption)
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
        expires_at=subject.expires_at,
        signer=signer,
        identities=tuple(i for m in examined.machines if (i := identity_of(m)) is not None),
        receipt=None if hindsight is None else _times(hindsight),
        encrypts_to=None if to is None else (to.algorithm, to.public),
        model=claims["model"].text if claims["model"].outcome is not Outcome.ABSENT else None,
        seal=SEAL,
    )


def _times(known: Hindsight) -> ReceiptTimes:
    return ReceiptTimes(
        id=known.id,
        stated=known.stated,
        not_after=known.not_after,
        by=known.by,
        compared_at=known.at if known.compared else None,
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


def _findings(subject: Subject) -> tuple[Finding, ...]:
    policy = subject.policy
    of_evidence = _once(
        subject, "findings", lambda: _held_against(policy, run_evidence_checks(subject))
    )
    of_answer = _held_against(policy, run_answer_checks(subject))
    return tuple(_in_order([*of_evidence, *of_answer]))


def _is_clean(subject: Subject) -> bool:
    """Whether nothing that was seen makes this policy refuse, or warn."""
    policy = subject.policy
    of_evidence = _once(subject, "clean", lambda: _informs(policy, run_evidence_checks(subject)))
    return of_evidence and _informs(policy, run_answer_checks(subject))


def _once(subject: Subject, what: str, find: Callable[[], T]) -> T:
    """What holds of the evidence, found once for all answers of an attestation (law 13)."""
    asked, policy = (subject.scope, subject.scope_asked, subject.model), subject.policy
    # A receipt's own timestamp decides whether its time is known.
    key = (what, id(policy), asked, subject.time_is_bounded)
    known = subject.examined.appraised.get(key)
    if known is None:
        known = policy, find()
        subject.examined.appraised[key] = known  # with the policy, so that its id stays its own
    found: T = known[1]
    return found


def _for_tier(examined: Examined, policy: Policy) -> Policy:
    """The policy of the tier: one object for all answers, so that what it found is found again."""
    if id(policy) not in examined.tiers:
        examined.tiers[id(policy)] = policy, policy.for_tier()
    tier: Policy = examined.tiers[id(policy)][1]
    return tier


def _held_against(policy: Policy, observations: Iterable[Observation]) -> list[Finding]:
    return [_finding(seen, policy.level(seen.id)) for seen in observations]


def _informs(policy: Policy, observations: Iterable[Observation]) -> bool:
    return all(
        _severity(seen, policy.level(seen.id))[0] is Severity.INFORMS for seen in observations
    )


def _in_order(findings: Iterable[Finding]) -> list[Finding]:
    """By claim, in the fixed order; within a claim as the checks ran."""
    return sorted(findings, key=lambda finding: _CLAIM_ORDER[finding.claim])


def _finding(seen: Observation, level: Level) -> Finding:
    severity, exit_code = _severity(seen, level)
    check = CATALOG[seen.id]
    hint = seen.hint
    if hint is None and severity is Severity.REFUSES and seen.reached:
        hint = check.fix  # a "no" says what to do
    return Finding(
        id=seen.id,
        claim=check.claim,
        outcome=seen.outcome,
        severity=severity,
        message=printable(seen.message),
        subject=printable(seen.subject),
        by=_plain(seen.by),
        got=_plain(seen.got),
        want=_plain(seen.want),
        hint=_plain(hint),
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
