"""When was a receipt made, and does what is known today speak against it?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.clock import show_time
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
    if known.not_after is None:
        more = f" It has {known.unknown} timestamps of authorities that you did not name."
        yield Observation.asserted(
            "receipt.time",
            "When it was made is its holder's word: if it was made when it says."
            + (more if known.unknown else ""),
            by=_HOLDER,
            got=show_time(known.stated),
        )
        return
    skew = timedelta(seconds=subject.policy["session.clock_skew_seconds"])
    if known.stated > known.not_after + skew:
        yield Observation.failed(
            AppraisalFailed(
                "the receipt says that it was made after it was timestamped",
                id="receipt.time",
                got=show_time(known.stated),
                want=f"at most {show_time(known.not_after)}",
            ),
            hard=True,
        )
        return
    yield Observation.proven(
        "receipt.time",
        f"It was there by {show_time(known.not_after)}: timestamp of {known.by}.",
        got=show_time(known.not_after),
    )


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
    yield Observation.absent(
        "receipt.since",
        "Not compared with today's revocation lists; only with what ships with teeverify.",
        hint="Verify it online, or pass today's lists with --endorsements PATH.",
    )
