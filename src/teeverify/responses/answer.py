"""Examine one answer with the signed texts of the proxies: signature, exact bytes, request, end."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from functools import partial

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.encoding.strict import json_value
from teeverify.errors import MalformedEvidence, ResponseNotVerified, TeeVerifyError
from teeverify.responses.body import Body, read_body, requested_model
from teeverify.responses.form import Context, Form, Given, complete, mismatch, request_hash
from teeverify.responses.signed_text import (
    NO_KEYS,
    KnownKeys,
    SignedText,
    parse_signature,
    recover_signature,
    verify_signed_text,
)

__all__ = ["PHALA_TEXT", "TEXT", "ZEROG_TEXT", "examine_answer"]


def examine_answer(  # noqa: PLR0913 -- an exchange in all its parts
    *,
    signature: bytes | str | None,
    answer: bytes | None,
    request: bytes | None,
    form: Form | None = None,
    keys: KnownKeys = NO_KEYS,
    body: Body | None = None,
    model: str | None = None,
    context: Context | None = None,
) -> SignedAnswer:
    """Examine a signature, the answer's exact bytes, and the request's.

    Args:
        signature: The signature endpoint's answer.
        answer: The answer's bytes exactly as received.
        request: The request's bytes exactly as sent.
        form: The dialect's form of signed answers; :data:`TEXT` unless given.
        keys: Public keys that are known already, so that none need be recovered.
        body: What ``read_body`` found in this answer, where it was read already.
        model: What ``requested_model`` found in this request, where it was read already.
        context: What else is known of the exchange, for forms that sign it.

    Returns:
        What was seen; what is wrong is an observation in it.
    """
    given = Given(
        signature=signature,
        answer=answer,
        request=request,
        keys=keys,
        body=body,
        model=model,
        context=context or Context(),
    )
    return (form or TEXT).examine(given)


def _examine(
    given: Given, *, read: Callable[[bytes | str], SignedText], also: str | None
) -> SignedAnswer:
    """Examine an exchange whose signed text was fetched from a route of its own.

    Args:
        given: The exchange.
        read: Reads the route's answer.
        also: Name of the serialisation that this dialect signs in place of what it sends, if any.
    """
    model = given.model
    if model is None and given.request is not None:
        model = requested_model(given.request)
    if given.signature is None:
        error = ResponseNotVerified(
            "no signature covers this answer",
            id="answer.signature",
            hint="Pass --signature: what the endpoint's signature route returned for this answer.",
        )
        return SignedAnswer(observations=(Observation.failed(error),), signer=None)
    try:
        signed = read(given.signature)
        signer = verify_signed_text(signed, given.keys)
    except TeeVerifyError as error:
        return SignedAnswer(
            observations=(
                Observation.failed(error),
                request_hash(None, given.request, response_hash=""),
            ),
            signer=None,
            requested_model=model,
        )
    signed_form = _serialised_as_signed(signed, given.answer) if also else None
    answer = given.answer if signed_form is None else signed_form
    body = given.body
    if answer is not None and (body is None or signed_form is not None):
        body = read_body(answer)
    observations = (
        Observation.proven(
            "answer.signature",
            f"Signed by {signer.short} ({signer.algorithm}).",
            got=str(signer),
        ),
        _hash_equal(signed, given.answer, signed_form, also or ""),
        complete(body),
        request_hash(signed.request_sha256, given.request, response_hash=signed.response_sha256),
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
        signed_form=signed_form,
    )


def _serialised_as_signed(signed: SignedText, answer: bytes | None) -> bytes | None:
    """The answer as Python's ``json.dumps`` writes it, where that, and not what came, was signed.

    Phala's proxy hashes ``json.dumps(answer)`` and sends the same answer as compact JSON. What is
    returned has exactly the signed hash, so it is what may be believed; what came is only its
    rendering.
    """
    if answer is None or hashlib.sha256(answer).hexdigest() == signed.response_sha256:
        return None
    try:
        value = json_value(answer, field="answer", id="response.hash-equal")
    except MalformedEvidence:
        return None
    if not isinstance(value, dict):
        return None
    text = json.dumps(value).encode("ascii")
    return text if hashlib.sha256(text).hexdigest() == signed.response_sha256 else None


def _hash_equal(
    signed: SignedText, answer: bytes | None, signed_form: bytes | None, name: str
) -> Observation:
    if answer is None:
        return Observation.absent(
            "response.hash-equal", "The answer's bytes were not given (--answer)."
        )
    if signed_form is not None:
        return Observation.proven(
            "response.hash-equal",
            f"What was signed is {name} of this answer, not the bytes that came; the signed form "
            "is what is handed over and kept.",
            got=signed.response_sha256,
            concern=True,
        )
    digest = hashlib.sha256(answer).hexdigest()
    if hmac.compare_digest(digest, signed.response_sha256):
        return Observation.proven(
            "response.hash-equal",
            f"{len(answer)} bytes, exactly those that were signed.",
            got=digest,
        )
    return Observation.failed(
        mismatch("answer", answer, digest, signed.response_sha256, signed.request_sha256)
    )


_PROXIES = "EIP-191 (secp256k1, low-S) or Ed25519 over [model:]sha256(request):sha256(answer)"

TEXT = Form(
    id="text",
    signs=f"{_PROXIES}, the exact bytes",
    examine=partial(_examine, read=parse_signature, also=None),
)
PHALA_TEXT = Form(
    id="phala-text",
    signs=f"{_PROXIES}; of plain answers, Python's json.dumps of what is sent",
    examine=partial(_examine, read=parse_signature, also="Phala's own serialisation (json.dumps)"),
)
ZEROG_TEXT = Form(
    id="0g-text",
    signs="EIP-191 over sha256(request):sha256(answer); the signer is recovered where none is "
    "named",
    examine=partial(_examine, read=recover_signature, also=None),
)
