"""Is this evidence of what was asked, under the right roots, at the right time?"""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.clock import RELEASED, from_unix, show_time
from teeverify.errors import AppraisalFailed

__all__ = ["clock", "kind", "roots", "time"]

_RANK = {"evidence": 0, "endpoint": 1, "answer": 2}
_WORDS = {
    "evidence": "a bare component",
    "endpoint": "the report of an endpoint, without an answer",
    "answer": "an answer",
}


def kind(subject: Subject) -> Iterator[Observation]:
    """A bare component is no evidence of an endpoint, unless that was asked for."""
    if _RANK[subject.scope_asked or "evidence"] > _RANK[subject.scope]:
        yield Observation.absent(
            "kind",
            f"You asked to have {_WORDS[subject.scope_asked or 'evidence']} appraised, and this is "
            f"{_WORDS[subject.scope]}.",
            got=subject.scope,
            want=subject.scope_asked,
        )
        return
    if subject.scope == "evidence":
        if subject.scope_asked == "evidence":
            text = "You asked for the evidence alone: it is tied to no answer and no endpoint."
            yield Observation.proven("kind", text, concern=True)
            return
        provider = subject.examined.evidence.provider
        yield Observation.absent(
            "kind",
            f"Tied to nothing: {provider} without your nonce, a key or an answer.",
            got=provider,
            want="the report of an endpoint, or an answer with its signature",
            hint="Type --for evidence if the component alone is what you want appraised.",
        )
        return
    if subject.scope == "endpoint" and not subject.model_machines and subject.front is None:
        yield Observation.absent("kind", "There is no machine in this evidence.")
        return
    yield Observation.proven("kind", f"Recognised: {subject.examined.evidence.provider}.")


def roots(subject: Subject) -> Iterator[Observation]:
    """Only the embedded roots say anything about hardware."""
    kind_of_roots = subject.examined.question.roots.kind
    if kind_of_roots == "embedded":
        yield Observation.proven("roots", "All chains lead to roots that ship with teeverify.")
        return
    yield Observation.asserted(
        "roots",
        "The chains lead to roots that anyone may hold.",
        by=f"{kind_of_roots} roots",
        got=f"{kind_of_roots} roots",
    )


def clock(subject: Subject) -> Iterator[Observation]:
    """A clock that is behind makes old evidence look current; only 'now' rests on it."""
    question = subject.examined.question
    if question.at_by != "now":
        return
    least = max([RELEASED, *map(from_unix, subject.examined.newest.values())])
    if question.at >= least:
        yield Observation.proven("clock.behind", "Your clock is not behind what was signed before.")
        return
    yield Observation.failed(
        AppraisalFailed(
            "your clock is behind: something that was verified here before, or this version of "
            "teeverify, is younger than 'now'",
            id="clock.behind",
            got=show_time(question.at),
            want=f"{show_time(least)} or later",
            hint="Set your clock.",
        ),
        hard=True,
    )


def time(subject: Subject) -> Iterator[Observation]:
    """A time that the source names itself proves nothing about when."""
    question = subject.examined.question
    if subject.time_is_bounded:
        yield Observation.proven("time", "A timestamp lies in the time in which all of it held.")
        return
    if question.at_by == "recorder":
        yield Observation.asserted(
            "time",
            "The time of the appraisal is the one recorded beside the evidence: the recorder's "
            "word.",
            by="the recorder",
        )
        return
    text = {"caller": "The time was given by you.", "now": "The time is now."}[question.at_by]
    yield Observation.proven("time", text)
