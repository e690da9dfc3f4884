"""Examine one answer: signature, exact bytes, request, end."""

from __future__ import annotations

import hashlib
import hmac

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.errors import ResponseNotVerified, TeeVerifyError
from teeverify.responses.body import Body, read_body, requested_model
from teeverify.responses.diagnosis import diagnose
from teeverify.responses.signed_text import SignedText, parse_signature, verify_signed_text

__all__ = ["examine_answer"]

_CALLER_CHOOSES = (
    "the endpoint: in this dialect whoever calls the enclave may choose the request hash"
)


def examine_answer(
    *, signature: bytes | str | None, answer: bytes | None, request: bytes | None
) -> SignedAnswer:
    """Examine a signature, the answer's exact bytes, and the request's.

    Args:
        signature: The signature endpoint's answer.
        answer: The answer's bytes exactly as received.
        request: The request's bytes exactly as sent.

    Returns:
        What was seen; what is wrong is an observation in it.
    """
    body = read_body(answer) if answer is not None else None
    model = requested_model(request) if request is not None else None
    if signature is None:
        error = ResponseNotVerified(
            "no signature covers this answer",
            id="answer.signature",
            hint="Pass --signature: what the endpoint's signature route returned for this answer.",
        )
        return SignedAnswer(observations=(Observation.failed(error),), signer=None)
    try:
        signed = parse_signature(signature)
        signer = verify_signed_text(signed)
    except TeeVerifyError as error:
        return SignedAnswer(
            observations=(Observation.failed(error), _request(None, request)),
            signer=None,
            requested_model=model,
        )
    observations = (
        Observation.proven(
            "answer.signature",
            f"Signed by {signed.key.short} ({signed.key.algorithm}).",
            got=str(signed.key),
        ),
        _hash_equal(signed, answer),
        _complete(body),
        _request(signed, request),
    )
    return SignedAnswer(
        observations=observations,
        signer=signer,
        signed_model=signed.model,
        response_model=body.model if body else None,
        requested_model=model,
        by_gateway=None if signed.kind is None else signed.kind == "gateway",
        created=body.created if body else None,
        size=None if answer is None else len(answer),
        sha256=None if answer is None else hashlib.sha256(answer).hexdigest(),
    )


def _hash_equal(signed: SignedText, answer: bytes | None) -> Observation:
    if answer is None:
        return Observation.absent(
            "response.hash-equal", "The answer's bytes were not given (--answer)."
        )
    digest = hashlib.sha256(answer).hexdigest()
    if hmac.compare_digest(digest, signed.response_sha256):
        return Observation.proven(
            "response.hash-equal",
            f"{len(answer)} bytes, exactly those that were signed.",
            got=digest,
        )
    return Observation.failed(
        _mismatch("answer", answer, digest, signed.response_sha256, signed.request_sha256)
    )


def _request(signed: SignedText | None, request: bytes | None) -> Observation:
    if request is None:
        return Observation.absent("request.bound", "The request was not given (--request).")
    if signed is None:
        return Observation.absent("request.bound", "Not reached: the signature did not verify.")
    digest = hashlib.sha256(request).hexdigest()
    if hmac.compare_digest(digest, signed.request_sha256):
        return Observation.asserted(
            "request.bound",
            f"{len(request)} bytes, exactly those whose hash was signed; that the enclave read "
            "this request is the endpoint's word.",
            by=_CALLER_CHOOSES,
            got=digest,
        )
    return Observation.failed(
        _mismatch("request", request, digest, signed.request_sha256, signed.response_sha256)
    )


def _mismatch(what: str, raw: bytes, digest: str, want: str, other: str) -> ResponseNotVerified:
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


def _complete(body: Body | None) -> Observation:
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
