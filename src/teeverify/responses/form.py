"""What a dialect's signed answers are: how a signature, an answer and a request are examined."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.binding import Process
from teeverify.errors import AppraisalFailed, ResponseNotVerified
from teeverify.responses.body import Body
from teeverify.responses.diagnosis import diagnose
from teeverify.responses.signed_text import NO_KEYS, KnownKeys

__all__ = [
    "CALLER_CHOOSES",
    "NO_SIGNATURE",
    "UNSIGNED",
    "Carrying",
    "Context",
    "Form",
    "Given",
    "complete",
    "mismatch",
    "request_hash",
]

CALLER_CHOOSES = (
    "the endpoint: in this dialect whoever calls the enclave may choose the request hash"
)
NO_SIGNATURE = "the signature did not verify"
"""Why what is signed with an answer was not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is known of an exchange beside its bytes, for forms that sign it. ``None``: not known.

    Attributes:
        processes: What the processes bind that the evidence is of.
        method: Method of the request that was sent.
        target: Its path and query.
        status: Status of the answer that came.
        request_type: Content type of the request.
        response_type: Content type of the answer.
        challenge: The challenge that was sent.
        challenge_by: Who says so, where it was not sent here and now.
        at: When the answer came, where that was here and now.
    """

    processes: tuple[Process, ...] = ()
    method: str | None = None
    target: str | None = None
    status: int | None = None
    request_type: str | None = None
    response_type: str | None = None
    challenge: bytes | None = None
    challenge_by: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is at hand of one exchange. Nothing here is verified.

    Attributes:
        signature: What the signature route returned; for a form whose signature stands in the
            answer, what names its key.
        answer: The answer's bytes exactly as received.
        request: The request's bytes exactly as sent.
        keys: Public keys that are known, by the name under which they sign (``known_keys``).
        body: What the answer says of itself, where it was read already.
        model: The model that the request names, where it was read already.
        context: What else is known of it.
    """

    signature: bytes | str | None
    answer: bytes | None = field(repr=False)
    request: bytes | None = field(repr=False)
    keys: KnownKeys = field(default_factory=lambda: NO_KEYS)
    body: Body | None = None
    model: str | None = None
    context: Context = field(default_factory=Context)


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrying:
    """How an answer carries its signature, in forms where it does.

    Attributes:
        split: From an answer's body and headers (names in lower case) to its content, and what the
            signature's route would return; ``None`` where it must be asked for.
        instance: The name of the process that a signature is of.
        id: From the headers to the name under which the signature is kept.
    """

    split: Callable[[bytes, Mapping[str, str]], tuple[bytes, bytes | None]]
    instance: Callable[[bytes], bytes]
    id: Callable[[Mapping[str, str]], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form of signed answers.

    Attributes:
        id: Its name.
        signs: What is signed, and how, in one line.
        examine: Examines an exchange; what is wrong is an observation in what it returns.
        carrying: For forms whose answers carry their signature, and whose requests a challenge.
    """

    id: str
    signs: str
    examine: Callable[[Given], SignedAnswer]
    carrying: Carrying | None = None


def complete(body: Body | None) -> Observation:
    """Say whether an answer has the end that its form must have."""
    if body is None:
        return Observation.absent("answer.complete", "The answer's bytes were not given.")
    if body.complete:
        how = "The stream ran to its end." if body.form == "stream" else "One whole JSON answer."
        return Observation.proven("answer.complete", how)
    if body.form == "stream":
        error = ResponseNotVerified(
            "the stream broke off before its end",
            id="answer.complete",
            want="data: [DONE] and a blank line",
            hint="What was signed is a part of an answer; ask again.",
        )
        return Observation.failed(error)
    return Observation.absent(
        "answer.complete", "The answer is neither a stream of events nor one JSON object."
    )


def request_hash(want: str | None, request: bytes | None, *, response_hash: str) -> Observation:
    """Compare a request with the hash that was signed with the answer.

    Args:
        want: The signed hash; ``None`` where the signature did not verify.
        request: The request's exact bytes.
        response_hash: The answer's signed hash, to tell when the two were mixed up.
    """
    if request is None:
        return Observation.absent("request.bound", "The request was not given (--request).")
    if want is None:
        return Observation.not_reached("request.bound", NO_SIGNATURE)
    digest = hashlib.sha256(request).hexdigest()
    if hmac.compare_digest(digest, want):
        return Observation.asserted(
            "request.bound",
            f"{len(request)} bytes, exactly those whose hash was signed; that the enclave read "
            "this request is the endpoint's word.",
            by=CALLER_CHOOSES,
            got=digest,
        )
    return Observation.failed(mismatch("request", request, digest, want, response_hash))


def mismatch(what: str, raw: bytes, digest: str, want: str, other: str) -> ResponseNotVerified:
    """The error for bytes that are not those whose hash was signed, with a likely cause."""
    difference = diagnose(raw, want)
    if digest == other:
        hint = "Request and answer were given in each other's place."
    elif difference is not None:
        hint = f"They differ {difference}."
    else:
        hint = "Give the exact bytes as received, not text copied from a screen."
    return ResponseNotVerified(
        f"the signature is real but belongs to another {what}: it signs sha256 {want[:8]}…, "
        f"yours is {digest[:8]}…",
        id="response.hash-equal" if what == "answer" else "request.bound",
        got=digest,
        want=want,
        hint=hint,
    )


def _unsigned(given: Given) -> SignedAnswer:
    """An answer that only its channel authenticated, which nobody can show to somebody else."""
    error = AppraisalFailed(
        "answers of this dialect carry no signature by the enclave: only the one who was there "
        "knows what it answered",
        id="answer.signature",
        hint="Leave the answer out to have the evidence appraised.",
    )
    return SignedAnswer(
        observations=(Observation.failed(error),),
        signer=None,
        size=None if given.answer is None else len(given.answer),
        sha256=None if given.answer is None else hashlib.sha256(given.answer).hexdigest(),
    )


UNSIGNED = Form(id="unsigned", signs="nothing", examine=_unsigned)
