"""What the checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.encryption import Encryption
from teeverify.appraisal.evidence import Scope
from teeverify.appraisal.examined import Examined, ExaminedMachine
from teeverify.appraisal.hindsight import Hindsight
from teeverify.appraisal.policy import Policy
from teeverify.binding import SigningKey

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Everything that was examined, and the policy to hold it against.

    Attributes:
        examined: The machines and the question.
        answer: The signed answer, if there is one.
        policy: The policy.
        scope: What is appraised.
        scope_asked: What the caller asked to have appraised (``--for``), if anything.
        model: The model that the caller named, if any.
        hindsight: For a receipt: what is known of it later.
        expires_at: Until when nothing that was verified runs out.
        encryption: How the caller's own client encrypts what it sends, if it does.
    """

    examined: Examined
    answer: SignedAnswer | None
    policy: Policy
    scope: Scope
    scope_asked: Scope | None
    model: str | None
    hindsight: Hindsight | None = None
    expires_at: datetime | None = None
    encryption: Encryption | None = None

    @property
    def time_is_bounded(self) -> bool:
        """Whether a timestamp of a receipt shows the time of the appraisal to be a true one."""
        known, at = self.hindsight, self.examined.question.at
        return known is not None and known.bounds(at, self.expires_at)

    @property
    def machines(self) -> tuple[ExaminedMachine, ...]:
        """All machines."""
        return self.examined.machines

    @property
    def front(self) -> ExaminedMachine | None:
        """The machine at which the caller's connection ends: the gateway, or else the model's."""
        for role in ("gateway", "model"):
            for machine in self.machines:
                if machine.machine.role == role:
                    return machine
        return None

    @property
    def model_machines(self) -> tuple[ExaminedMachine, ...]:
        """The machines that run the model."""
        return tuple(m for m in self.machines if m.machine.role == "model")

    @property
    def attested_keys(self) -> tuple[tuple[SigningKey, ExaminedMachine], ...]:
        """Every key that a verified quote binds, with its machine."""
        return self.examined.attested_keys

    @property
    def evidence_time(self) -> datetime:
        """When the evidence was made: recorded beside it, or the time of the appraisal."""
        return self.examined.evidence.recorded_at or self.examined.question.at
