"""What is known of a receipt beyond its evidence: when it was made, and what became known since.

Nothing but a timestamp of somebody who is trusted says when a receipt was made. And what was
genuine *then* may have been revoked by *now*, which counts against it unless a timestamp is older
than the trouble; plain expiry does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from teeverify.appraisal.examined import Examined, ExaminedMachine
from teeverify.errors import EndorsementInvalid, TcbRejected, TeeVerifyError

__all__ = ["Hindsight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """What the reader knows of a receipt later.

    Attributes:
        id: The receipt's id, in hex.
        stated: When the answer had arrived, says its holder.
        not_after: The earliest trusted timestamp; by then the receipt was there.
        by: Whose timestamp that is.
        unknown: How many timestamps are of authorities that the reader does not know.
        wrong: Why a timestamp is wrong, if one is.
        at: When this was looked up: now.
        now: The evidence, examined now with the endorsements of today; ``None`` if they are not
            at hand.
    """

    id: str
    stated: datetime
    not_after: datetime | None = None
    by: str | None = None
    unknown: int = 0
    wrong: TeeVerifyError | None = None
    at: datetime
    now: Examined | None = None

    @property
    def compared(self) -> bool:
        """Whether every CPU and every GPU was held against the revocations of today."""
        return self.cpus_compared and all(
            m.firmware.revocation is not None for m in self._machines if m.machine.gpus is not None
        )

    @property
    def cpus_compared(self) -> bool:
        """Whether every CPU was: an AMD report also verifies without the list of revoked CAs."""
        with_cpu = [m for m in self._machines if m.machine.quote or m.machine.snp_report]
        return bool(with_cpu) and all(
            m.cpu is not None or (m.snp is not None and m.snp.crl is not None) for m in with_cpu
        )

    @property
    def _machines(self) -> tuple[ExaminedMachine, ...]:
        return () if self.now is None else self.now.machines

    def compromises(self) -> Iterator[tuple[str, TeeVerifyError]]:
        """What counts against it although it came later: part and error.

        A key that is revoked or a TCB that is; not what merely ran out.
        """
        for machine in self._machines:
            for seen in machine.observations:
                error = seen.error
                if isinstance(error, TcbRejected):
                    yield seen.subject, error
                if isinstance(error, EndorsementInvalid):
                    since = error.invalid_since
                    if since is None or self.not_after is None or since <= self.not_after:
                        yield seen.subject, error

    def bounds(self, at: datetime, until: datetime | None) -> bool:
        """Whether a timestamp shows the time of the appraisal to be a true one.

        Everything held at that time and until ``until``; where the timestamp lies between, it
        held at a time at which the receipt was certainly there.
        """
        return self.not_after is not None and at <= self.not_after <= (until or at)
