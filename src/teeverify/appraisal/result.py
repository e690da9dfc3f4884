"""The attestation result: what was found, what the policy says of it, and until when."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from datetime import datetime
from typing import Any, Literal, NoReturn, TypeAlias

from teeverify.appraisal.evidence import Scope
from teeverify.appraisal.observation import CLAIM_NAMES, Outcome, Severity
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.reference import Identity
from teeverify.binding import SigningKey
from teeverify.clock import show_time
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import AppraisalFailed, ConfigurationError, TeeVerifyError
from teeverify.roots.anchors import RootsKind

__all__ = ["AttestationResult", "Claim", "Finding", "ReceiptTimes", "Tier"]

Tier: TypeAlias = Literal["affirming", "warning", "contraindicated", "none"]
_SCHEMA = "teeverify.result/1"
_SCHEMA_SUFFIX = {"embedded": "", "custom": "-custom-roots", "simulated": "-simulated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The answer to one of the twelve questions that people ask.

    Attributes:
        name: Which question.
        outcome: How the answer is known; the least certain of the findings that decide it.
        text: The answer in a few words.
        by: Who asserts it, when ``asserted``.
    """

    name: str
    outcome: Outcome
    text: str
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptTimes:
    """When a receipt was made, and with what of today it was compared.

    Attributes:
        id: The receipt's id, in hex.
        stated: When the answer had arrived, says its holder.
        not_after: The earliest trusted timestamp, if there is one.
        by: Whose timestamp that is.
        compared_at: When it was compared with the endorsements of that time; ``None`` if it was
            not.
    """

    id: str
    stated: datetime
    not_after: datetime | None
    by: str | None
    compared_at: datetime | None

    @property
    def sentence(self) -> str:
        """Then and now, in two sentences."""
        if self.not_after is None:
            then = f"Made at {show_time(self.stated)}, says its holder."
        else:
            then = f"Made before {show_time(self.not_after)} (timestamp of {self.by})."
        if self.compared_at is None:
            return f"{then} Not compared with today's revocations."
        return f"{then} Compared with the revocations of {show_time(self.compared_at)[:10]}."

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON shows it."""
        return {
            "id": self.id,
            "stated": show_time(self.stated),
            "not_after": None if self.not_after is None else show_time(self.not_after),
            "by": self.by,
            "compared_at": None if self.compared_at is None else show_time(self.compared_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check that ran.

    Attributes:
        id: Stable id of the check; also what ``teeverify explain`` takes.
        claim: The claim that it belongs to.
        outcome: How it is known.
        severity: What the policy in force does with it.
        message: A sentence for people.
        subject: Which part it is about; empty for all.
        by: Who asserts it.
        got: What was found.
        want: What was expected.
        hint: What to do, as a sentence.
        exit_code: The exit code that it asks for; 0 unless it refuses.
        error: The exception that belongs to it, if it failed.
    """

    id: str
    claim: str
    outcome: Outcome
    severity: Severity
    message: str
    subject: str = ""
    by: str | None = None
    got: str | None = None
    want: str | None = None
    hint: str | None = None
    exit_code: int = 0
    error: TeeVerifyError | None = field(default=None, repr=False, compare=False)

    @property
    def docs(self) -> str:
        """Where the docs explain this check."""
        return f"checks.html#{self.id.replace('.', '-')}"

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON shows it."""
        return {
            "id": self.id,
            "claim": self.claim,
            "subject": self.subject,
            "outcome": self.outcome.value,
            "severity": self.severity.value,
            "by": self.by,
            "message": self.message,
            "got": self.got,
            "want": self.want,
            "hint": self.hint,
            "docs": self.docs,
        }


SEAL = Seal("appraisal")


@dataclass(frozen=True, kw_only=True)
class AttestationResult(Sealed):
    """What an appraisal found. It cannot be ignored: it has no truth value of its own.

    Attributes:
        summary: The first sentence, which every face shows first.
        tier: ``affirming``, ``warning``, ``contraindicated`` or ``none``.
        exit_code: 0 satisfied, 1 the policy says no, 2 wrong, 3 undecided.
        scope: What was appraised: ``answer``, ``endpoint`` or ``evidence``.
        kind: What was recognised in the source.
        source: Where the evidence came from.
        claims: The twelve claims, in their fixed order.
        findings: Every check that ran.
        policy: The policy in force.
        roots_kind: Which roots anchored the chains.
        as_of: The time of the appraisal.
        verified_at: When this ran.
        expires_at: Until when nothing it rests on runs out; ``None`` if nothing was verified.
        signer: The attested key, once the evidence binds one.
        identities: The measurements of the verified machines.
        model: The model, as far as it is known.
        receipt: For a receipt: when it was made, and what it was compared with.
        encrypts_to: The attested key that requests are encrypted to, with its kind, where the
            appraiser's own client encrypts them.
    """

    summary: str
    tier: Tier
    exit_code: int
    scope: Scope
    kind: str
    source: str
    claims: Mapping[str, Claim]
    findings: tuple[Finding, ...]
    policy: Policy
    roots_kind: RootsKind
    as_of: datetime
    verified_at: datetime
    expires_at: datetime | None
    signer: SigningKey | None
    identities: tuple[Identity, ...]
    model: str | None
    receipt: ReceiptTimes | None = None
    encrypts_to: tuple[str, bytes] | None = None
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction anywhere but in the appraisal."""
        self._check_seal(seal, SEAL)

    @property
    def satisfied(self) -> bool:
        """Whether the policy is satisfied."""
        return self.exit_code == 0

    @property
    def simulated(self) -> bool:
        """Whether any chain leads to test roots: derived from the anchors, never read."""
        return self.roots_kind == "simulated"

    @property
    def schema(self) -> str:
        """Name of the JSON form; another one when the roots are not the embedded ones."""
        return _SCHEMA + _SCHEMA_SUFFIX[self.roots_kind]

    def require(self) -> AttestationResult:
        """Return this result if it satisfies the policy.

        Raises:
            TeeVerifyError: The class that belongs to the worst finding, with ``result`` set.
        """
        if self.satisfied:
            return self
        raise self.error()

    def error(self) -> TeeVerifyError:
        """The exception that belongs to the worst finding.

        Raises:
            ConfigurationError: The policy is satisfied, so there is none.
        """
        if self.satisfied:
            raise ConfigurationError("the policy is satisfied", id="usage.result")
        worst = next((f for f in self.findings if f.exit_code == self.exit_code), None)
        cause = worst.error if worst else None
        error: TeeVerifyError
        if cause is None or cause.exit_code != self.exit_code:
            error = AppraisalFailed(
                self.summary,
                id=worst.id if worst else "verdict.tier",
                got=worst.got if worst else self.tier,
                want=worst.want if worst else self.policy["verdict.accept"],
            )
        else:
            error = cause
        error.result = self
        return error

    def finding(self, id: str, subject: str | None = None) -> Finding:
        """The finding of a check.

        Raises:
            ConfigurationError: No such check ran.
        """
        for found in self.findings:
            if found.id == id and subject in (None, found.subject):
                return found
        raise ConfigurationError("no such check ran", id="usage.result", got=id)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON shows it."""
        return {
            "schema": self.schema,
            "summary": self.summary,
            "tier": self.tier,
            "satisfied": self.satisfied,
            "exit_code": self.exit_code,
            "scope": self.scope,
            "kind": self.kind,
            "source": self.source,
            "claims": {
                name: {
                    "outcome": self.claims[name].outcome.value,
                    "text": self.claims[name].text,
                    "by": self.claims[name].by,
                }
                for name in CLAIM_NAMES
            },
            "findings": [finding.to_dict() for finding in self.findings],
            "policy": {"name": self.policy.name, "hash": self.policy.hash},
            "signer": _signer_dict(self.signer),
            "machines": [{"role": i.role, **i.registers} for i in self.identities],
            "model": self.model,
            "receipt": None if self.receipt is None else self.receipt.to_dict(),
            "as_of": show_time(self.as_of),
            "verified_at": show_time(self.verified_at),
            "expires_at": show_time(self.expires_at) if self.expires_at else None,
            "simulated": self.simulated,
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        """The result as JSON text; control characters in evidence are escaped by JSON itself."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=True)

    def __str__(self) -> str:
        """The first sentence."""
        return self.summary

    def __repr__(self) -> str:
        """The first sentence."""
        return f"<AttestationResult: {self.summary}>"

    def _repr_html_(self) -> str:
        """The card that notebooks show."""
        from teeverify.render.html import render_card  # noqa: PLC0415 -- a face of this

        return render_card(self)

    def __bool__(self) -> NoReturn:
        """Refuse: ``if result:`` would hide a warning or a refusal."""
        raise ConfigurationError(
            "a result has no truth value",
            id="usage.result",
            hint="Call result.require(), or read result.satisfied and result.tier.",
        )


def _signer_dict(key: SigningKey | None) -> dict[str, str] | None:
    return None if key is None else {"algorithm": key.algorithm, "address": str(key)}
