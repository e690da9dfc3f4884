"""Is the answer signed by an attested key, whole, in time, and by the model that was asked?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.encoding.text import counted
from teeverify.errors import AppraisalFailed, ResponseNotVerified

__all__ = [
    "attested_later",
    "fresh",
    "http_semantics",
    "key_attested",
    "session_age",
    "signer_role",
]


def key_attested(subject: Subject) -> Iterator[Observation]:
    """The signer must be a key that a verified quote binds."""
    signer = subject.answer.signer if subject.answer else None
    if signer is None:
        yield Observation.absent("key.attested", "No valid signature names a key.")
        return
    keys = [key for key, _ in subject.attested_keys]
    if signer in keys:
        yield Observation.proven(
            "key.attested", "The signer is the key that the evidence binds.", got=str(signer)
        )
        return
    shown = ", ".join(str(key) for key in keys) or "no key"
    # Who attested the endpoint just now knows all its keys; who reads files may lack evidence.
    refusal = ResponseNotVerified if subject.examined.evidence.live else AppraisalFailed
    yield Observation.failed(
        refusal(
            "the signature is right, but nothing here attests its key",
            id="key.attested",
            got=str(signer),
            want=f"a key of the evidence ({shown})",
            hint="Anyone can make a key and sign with it; give the report of the machine that "
            "signed.",
        )
    )


def signer_role(subject: Subject) -> Iterator[Observation]:
    """A gateway's signature says nothing of the model's machine."""
    answer = subject.answer
    if answer is None or answer.signer is None:
        return
    roles = {m.machine.role for key, m in subject.attested_keys if key == answer.signer}
    if "gateway" in roles or answer.by_gateway:
        text = (
            "Signed by the gateway, which has no GPU: what the model's machine did is the "
            "gateway code's word."
        )
        yield Observation.asserted("answer.signer-role", text, by="the gateway's code")
    elif "model" in roles:
        yield Observation.proven("answer.signer-role", "Signed by the model's own machine.")
    else:
        yield Observation.absent("answer.signer-role", "Whose machine signed is not known.")


def fresh(subject: Subject) -> Iterator[Observation]:
    """The two- and three-part signed texts name no challenge."""
    if subject.answer is None or subject.answer.says("answer.fresh"):
        return
    if subject.answer.salted:
        yield Observation.asserted(
            "answer.fresh",
            "The request whose hash was signed holds a random value made for it; that the enclave "
            "hashed it itself is the endpoint's word.",
            by="the endpoint",
        )
        return
    yield Observation.absent(
        "answer.fresh",
        "The signed text names no challenge of yours: it could be an earlier answer to the same "
        "request.",
    )


def attested_later(subject: Subject) -> Iterator[Observation]:
    """Evidence made after the answer shows the key then, not when it signed."""
    answer = subject.answer
    if answer is None or answer.signer is None or not subject.attested_keys:
        return
    if answer.created is None:
        yield Observation.absent(
            "answer.attested-later",
            "The answer does not say when it was made, so nothing shows that its key was attested "
            "by then.",
        )
        return
    skew = timedelta(seconds=subject.policy["session.clock_skew_seconds"])
    later = subject.evidence_time - answer.created
    if later <= skew:
        yield _dated(
            subject, "answer.attested-later", "The evidence is not younger than the answer."
        )
        return
    days = math.ceil(later / timedelta(days=1))
    shown = counted(days, "day")
    allowed = subject.policy["answer.allow_attested_later_days"]
    if later <= timedelta(days=allowed):
        yield Observation.proven(
            "answer.attested-later",
            f"The evidence was made {shown} after the answer; you allow {allowed}.",
            got=shown,
            concern=True,
        )
        return
    yield Observation.failed(
        AppraisalFailed(
            f"the evidence was made {shown} after the answer: it shows that this key is in a "
            "genuine VM then, not that it already was when it signed",
            id="answer.attested-later",
            got=shown,
            want=f"at most {allowed} days",
            hint="If you accept that, pass --allow-attested-later DAYS.",
        )
    )


def session_age(subject: Subject) -> Iterator[Observation]:
    """Evidence may only be so old when the answer is made."""
    answer = subject.answer
    if answer is None or answer.signer is None or not subject.attested_keys:
        return
    if answer.created is None:
        yield Observation.absent("session.age", "The answer does not say when it was made.")
        return
    age = answer.created - subject.evidence_time
    limit = timedelta(seconds=subject.policy["session.max_age_seconds"])
    if age <= limit:
        yield _dated(subject, "session.age", "The evidence is young enough.")
        return
    yield Observation.failed(
        AppraisalFailed(
            "the evidence was old when the answer was made",
            id="session.age",
            got=f"{age.total_seconds():.0f} s",
            want=f"at most {limit.total_seconds():.0f} s",
        )
    )


def _dated(subject: Subject, check_id: str, text: str) -> Observation:
    """What follows from the evidence's own time is no better known than that time."""
    if subject.examined.evidence.recorded_at is None:
        return Observation.proven(check_id, text)
    return Observation.asserted(
        check_id, f"{text} When it was made is the recorder's word.", by="the recorder"
    )


def http_semantics(subject: Subject) -> Iterator[Observation]:
    """The two- and three-part signed texts do not cover the HTTP exchange."""
    if subject.answer is not None and not subject.answer.says("http.semantics"):
        yield Observation.absent(
            "http.semantics", "Method, target, status and content type are not signed."
        )
