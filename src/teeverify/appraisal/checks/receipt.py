"""When was a receipt made, and does what is known today speak against it?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.hindsight import Hindsight
from teeverify.appraisal.observation import Observation
from teeverify.clock import show_time
from teeverify.encoding.text import counted
from teeverify.errors import AppraisalFailed, EndorsementInvalid

__all__ = ["since", "time"]

_HOLDER = "the receipt's holder"


def time(subject: Subject) -> Iterator[Observation]:
    """Only a trusted timestamp says when; the rest is the holder's word."""
    known = subject.hindsight
    if known is None:
        return
    if known.wrong is not None:
        yield Observation.failed(known.wrong)
        return
    contradiction = _contradiction(subject, known)
    if contradiction is not None:
        yield Observation.failed(contradiction, hard=True)
        return
    if known.not_after is None:
        stamps = counted(known.unknown, "timestamp")
        more = f" It has {stamps} of authorities that you did not name."
        yield Observation.asserted(
            "receipt.time",
            "When it was made is its holder's word; what else is proven here holds if he is right."
            + (more if known.unknown else ""),
            by=_HOLDER,
            got=show_time(known.stated),
        )
        return
    yield Observation.proven(
        "receipt.time",
        f"It was there by {show_time(known.not_after)}: timestamp of {known.by}.",
        got=show_time(known.not_after),
    )


def _contradiction(subject: Subject, known: Hindsight) -> AppraisalFailed | None:
    """What the receipt's times say against each other, whoever's word they are."""
    skew = timedelta(seconds=subject.policy["session.clock_skew_seconds"])
    later = timedelta(days=subject.policy["answer.allow_attested_later_days"])
    attested = subject.examined.evidence.recorded_at or known.stated
    if known.not_after is not None and known.stated > known.not_after + skew:
        return _wrong(
            "the receipt says that it was made after it was timestamped",
            known.stated,
            f"at most {show_time(known.not_after)}",
        )
    if known.stated > known.at + skew:
        return _wrong(
            "the receipt says that it was made in the future",
            known.stated,
            f"at most {show_time(known.at)}, if your clock is right",
        )
    if known.stated + skew + later < attested:
        return _wrong(
            "the receipt says that the answer came before the evidence of its machine",
            known.stated,
            f"at least {show_time(attested)}",
        )
    return None


def _wrong(message: str, stated: datetime, want: str) -> AppraisalFailed:
    return AppraisalFailed(message, id="receipt.time", got=show_time(stated), want=want)


def since(subject: Subject) -> Iterator[Observation]:
    """A key, platform or TCB that is revoked by now counts, unless a timestamp is older."""
    known = subject.hindsight
    if known is None:
        return
    found = False
    for part, error in known.compromises():
        found = True
        day = show_time(known.at)[:10]
        yield Observation.failed(
            EndorsementInvalid(
                f"what was genuine then is revoked by now ({day}): {error.message}",
                id="receipt.since",
                got=error.got,
                want=error.want,
                hint="Only a timestamp older than the revocation could show that it was made "
                "before.",
            ),
            subject=part,
        )
    if found:
        return
    if known.compared:
        yield Observation.proven(
            "receipt.since",
            f"Compared with the endorsements of {show_time(known.at)[:10]}: not revoked.",
        )
        return
    text = "Not compared with today's revocation lists; only with what ships with teeverify."
    if known.cpus_compared:
        text = "The CPUs were compared with today's revocations; the GPUs' certificates were not."
    yield Observation.absent(
        "receipt.since",
        text,
        hint="Verify it online, or pass today's lists with --endorsements PATH.",
    )
