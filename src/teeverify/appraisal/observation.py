"""What a check saw, before any policy has an opinion about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from teeverify.errors import TeeVerifyError

__all__ = ["CLAIM_NAMES", "CLAIM_QUESTIONS", "Observation", "Outcome", "Severity"]

CLAIM_QUESTIONS = {
    "answer": "Is this the whole answer, unchanged, and who signed it?",
    "request": "Is it the answer to this request?",
    "key": "Is the signing key inside the attested machine?",
    "fresh": "Was the evidence made for this question, and when?",
    "cpu": "Is the CPU a genuine TEE that runs this VM?",
    "cpu_firmware": "Is the CPU's firmware up to date?",
    "gpu": "Are the GPUs genuine confidential NVIDIA GPUs?",
    "gpu_firmware": "Is the GPUs' firmware NVIDIA's, and not revoked?",
    "gpu_link": "Do the GPUs belong to this machine?",
    "code": "Which code runs inside?",
    "model": "Which model answered?",
    "channel": "Who else could read the request?",
}
CLAIM_NAMES = tuple(CLAIM_QUESTIONS)


class Outcome(str, Enum):
    """How something is known (verdicts.md)."""

    PROVEN = "proven"
    ASSERTED = "asserted"
    ABSENT = "absent"
    FAILED = "failed"

    def __str__(self) -> str:
        """The word itself, on every version of Python."""
        return self.value


class Severity(str, Enum):
    """What the policy in force does with a finding."""

    REFUSES = "refuses"
    WARNS = "warns"
    INFORMS = "informs"

    def __str__(self) -> str:
        """The word itself, on every version of Python."""
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One thing that a check saw.

    Attributes:
        id: The check's id.
        outcome: How it is known.
        message: A sentence for people, without got and want.
        subject: Which part it is about (``gateway``, ``model``, ``gpu[3]``...); empty for all.
        by: Who says so, when ``asserted``.
        got: What was found.
        want: What was expected.
        error: The exception that belongs to a failure.
        hint: What to do, as a sentence.
        concern: The check itself asks for a warning although it passed.
        hard: A failure that refuses whatever level the policy sets: it contradicts what the user
            said. Or something missing that could be had now, and so is needed at any level but
            ``note``.
        reached: Whether the check was made at all.
    """

    id: str
    outcome: Outcome
    message: str
    subject: str = ""
    by: str | None = None
    got: str | None = None
    want: str | None = None
    error: TeeVerifyError | None = None
    hint: str | None = None
    concern: bool = False
    hard: bool = False
    reached: bool = True

    @classmethod
    def proven(
        cls,
        id: str,
        message: str,
        *,
        subject: str = "",
        got: str | None = None,
        concern: bool = False,
    ) -> Observation:
        """Cryptography, or the caller, ties it."""
        return cls(
            id=id,
            outcome=Outcome.PROVEN,
            message=message,
            subject=subject,
            got=got,
            concern=concern,
        )

    @classmethod
    def asserted(
        cls,
        id: str,
        message: str,
        *,
        by: str,
        subject: str = "",
        got: str | None = None,
    ) -> Observation:
        """Somebody says so."""
        return cls(
            id=id, outcome=Outcome.ASSERTED, message=message, by=by, subject=subject, got=got
        )

    @classmethod
    def absent(
        cls,
        id: str,
        message: str,
        *,
        subject: str = "",
        got: str | None = None,
        want: str | None = None,
        hint: str | None = None,
    ) -> Observation:
        """Nobody says so."""
        return cls(
            id=id,
            outcome=Outcome.ABSENT,
            message=message,
            subject=subject,
            got=got,
            want=want,
            hint=hint,
        )

    @classmethod
    def not_reached(cls, id: str, why: str, *, subject: str = "") -> Observation:
        """Something earlier, which is reported itself, kept the check from being made."""
        text = f"Not reached: {why}."
        return cls(id=id, outcome=Outcome.ABSENT, message=text, subject=subject, reached=False)

    @classmethod
    def failed(cls, error: TeeVerifyError, *, subject: str = "", hard: bool = False) -> Observation:
        """It is not so; or, for what could not be had, it is not known."""
        outcome = Outcome.ABSENT if error.retryable else Outcome.FAILED
        return cls(
            id=error.id,
            outcome=outcome,
            message=error.message + error.where,
            subject=subject,
            got=error.got,
            want=error.want,
            error=error,
            hint=error.hint,
            hard=hard,
        )
