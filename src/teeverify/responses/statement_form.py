"""Examine one answer with its statement (``teeverify/1``): everything that it says must be so."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import timedelta

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.binding import Process
from teeverify.clock import from_unix
from teeverify.encoding.fields import JsonObject
from teeverify.errors import (
    AppraisalFailed,
    BindingMismatch,
    ResponseNotVerified,
    SignatureUnavailable,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.responses.body import Body, read_body, requested_model
from teeverify.responses.form import (
    NO_SIGNATURE,
    Carrying,
    Context,
    Form,
    Given,
    complete,
    mismatch,
)
from teeverify.responses.statement import (
    Signed,
    Statement,
    parse_signed,
    read_header,
    read_trailer,
)

__all__ = ["HEADERS", "STATEMENT", "split"]

HEADERS = ("teeverify-id", "teeverify-statement", "teeverify-signature")
"""Names of the headers that an answer carries."""
_OK = 200
_SHA256 = "sha256:"
_STREAM = "text/event-stream"
_SKEW = timedelta(minutes=10)
_LINE = b"\n: teeverify/1"
# Routes whose streams end with "data: [DONE]".
_WITH_DONE = ("/chat/completions", "/completions")


def split(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes | None]:
    """The content of an answer, and its signature.

    A stream must end with its trailer; another answer carries headers, or its signature is asked
    for.

    Raises:
        MalformedEvidence: A stream whose trailer is not at its end, or with two; headers of another
            form.
        ResponseNotVerified: A stream that broke off before its trailer.
        SignatureUnavailable: A stream that has its end, and no trailer.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _STREAM and _LINE not in body and read_body(body).complete:
        raise SignatureUnavailable(
            "the stream has its end, but the statement that must follow it is missing",
            id="answer.signature",
            want="a line that begins with ': teeverify/1'",
            hint="Without it nothing shows who made the answer; ask again.",
        )
    if kind == _STREAM or _LINE in body:
        return read_trailer(body)
    statement, signature = (headers.get(name) for name in HEADERS[1:])
    if statement is None or signature is None:
        return body, None
    return body, read_header(statement, signature)


def _examine(given: Given) -> SignedAnswer:
    """Examine an exchange and what is signed of it."""
    model = None if given.request is None else requested_model(given.request)
    try:
        content, signature = _content(given)
        signed = parse_signed(signature)
        process = _process(signed.statement, given.context)
        signed.verify(process.keys)
        _same_engine(signed.statement, process)
    except TeeVerifyError as error:
        return SignedAnswer(
            observations=(Observation.failed(error), *_not_reached(given)),
            signer=None,
            requested_model=model,
        )
    return _examined(given, signed, process, content, model)


def _examined(
    given: Given, signed: Signed, process: Process, content: bytes | None, model: str | None
) -> SignedAnswer:
    statement = signed.statement
    body = None if content is None else read_body(content)
    who = " and ".join(f"{key.short} ({key.algorithm})" for key in process.keys)
    observations = (
        Observation.proven(
            "answer.signature", f"The statement is signed by {who}.", got=str(process.keys[0])
        ),
        _response(statement, content),
        _complete(statement, body),
        _request(statement, given.request),
        _semantics(statement, given.context),
        _fresh(statement, given.context),
    )
    return SignedAnswer(
        observations=observations,
        signer=process.keys[0],
        signed_model=statement.engine["model"] or None,
        response_model=body.model if body else None,
        requested_model=model,
        created=from_unix(statement.time_ms // 1000),
        size=None if content is None else len(content),
        sha256=None if content is None else hashlib.sha256(content).hexdigest(),
        signed_form=content if content != given.answer else None,
        statement=hashlib.sha256(statement.to_bytes()).digest(),
        sequence=(statement.instance, statement.sequence),
    )


def _content(given: Given) -> tuple[bytes | None, bytes | str]:
    """The answer's content, and its signature: a stream that came whole carries it itself."""
    content, signature = given.answer, given.signature
    if content is not None and _LINE in content:
        content, carried = read_trailer(content)
        if signature is not None and parse_signed(signature) != parse_signed(carried):
            raise ResponseNotVerified(
                "the stream carries another statement than the one that was given with it",
                id="answer.signature",
            )
        signature = carried
    if signature is None:
        raise ResponseNotVerified(
            "no signature covers this answer",
            id="answer.signature",
            hint="Pass --signature: what the endpoint's signature route returned for this answer.",
        )
    return content, signature


def _process(statement: Statement, context: Context) -> Process:
    """The process that the statement names: all that it binds follows from its name."""
    for process in context.processes:
        if process.instance == statement.instance:
            return process
    raise AppraisalFailed(
        "the statement is of another process of the server than the evidence",
        id="key.attested",
        got=statement.instance.hex(),
        want=", ".join(p.instance.hex() for p in context.processes) or "evidence of teeverify/1",
        hint="Give the report of the process that signed.",
    )


def _same_engine(statement: Statement, process: Process) -> None:
    engine = JsonObject.parse(process.config, path="config", id="report").object("engine")
    for name, value in statement.engine.items():
        if engine.raw(name) != value:
            raise BindingMismatch(
                f"the statement names another engine than the attested configuration ({name})",
                id="model.signed",
                got=value[:80],
                want=str(engine.raw(name))[:80],
            )


def _not_reached(given: Given) -> Iterator[Observation]:
    names = ["http.semantics", "answer.fresh", "request.bound"]
    if given.answer is not None:
        names.append("response.hash-equal")
    yield from (Observation.not_reached(name, NO_SIGNATURE) for name in names)


def _response(statement: Statement, content: bytes | None) -> Observation:
    name = "response.hash-equal"
    if content is None:
        return Observation.absent(name, "The answer's bytes were not given (--answer).")
    digest = hashlib.sha256(content).hexdigest()
    want = statement.response_hash
    if want == _SHA256 + digest and statement.response_length == len(content):
        text = f"{len(content)} bytes, exactly those that were signed."
        return Observation.proven(name, text, got=digest)
    other = (statement.request_hash or "").rpartition(":")[2]
    return Observation.failed(mismatch("answer", content, digest, want.rpartition(":")[2], other))


def _request(statement: Statement, request: bytes | None) -> Observation:
    name = "request.bound"
    if statement.request_hash is None:
        return Observation.failed(
            ResponseNotVerified(
                "the server did not read the request to its end, so nothing answers it", id=name
            )
        )
    if request is None:
        return Observation.absent(name, "The request was not given (--request).")
    digest = hashlib.sha256(request).hexdigest()
    want = statement.request_hash
    if want == _SHA256 + digest and statement.request_length == len(request):
        text = f"{len(request)} bytes, exactly those that the enclave read and hashed."
        return Observation.proven(name, text, got=digest)
    other = statement.response_hash.rpartition(":")[2]
    return Observation.failed(mismatch("request", request, digest, want.rpartition(":")[2], other))


def _complete(statement: Statement, body: Body | None) -> Observation:
    if statement.end == "complete":
        if body is not None and statement.target.endswith(_WITH_DONE) and body.form == "stream":
            return complete(body)  # whatever the enclave takes for an end
        return Observation.proven("answer.complete", "The enclave says that it sent it all.")
    return Observation.failed(
        ResponseNotVerified(
            "the answer broke off before its end, says the enclave",
            id="answer.complete",
            got=statement.end,
            want="complete",
            hint="What was signed is a part of an answer; ask again.",
        )
    )


def _semantics(statement: Statement, context: Context) -> Observation:
    name = "http.semantics"
    if statement.status != _OK:
        return Observation.failed(
            ResponseNotVerified(
                "what is signed is an error, and no answer",
                id=name,
                got=f"status {statement.status}",
                want=f"status {_OK}",
                hint="Do not use this as an answer.",
            )
        )
    same: tuple[tuple[str, object, object], ...] = (
        ("method", context.method, statement.method),
        ("target", context.target, statement.target),
        ("status", context.status, statement.status),
        ("request's content type", context.request_type, statement.request_type),
        ("answer's content type", context.response_type, statement.response_type),
    )
    for what, seen, signed in same:
        if seen is not None and seen != signed:
            return Observation.failed(
                ResponseNotVerified(
                    f"the signature is real but belongs to another exchange: the {what} differs",
                    id=name,
                    got=ascii(seen)[:120],
                    want=ascii(signed)[:120],
                )
            )
    text = (
        f"{statement.method} {statement.target}, status {statement.status}, "
        f"{statement.response_type or 'no content type'}: signed by the enclave."
    )
    return Observation.proven(name, text)


def _fresh(statement: Statement, context: Context) -> Observation:
    name = "answer.fresh"
    ours = context.challenge
    if ours is None:
        return Observation.absent(
            name,
            "Nobody said which challenge was sent, so this could be an earlier answer to the same "
            "request.",
        )
    if statement.challenge != ours:
        return Observation.failed(
            StaleEvidence(
                "the answer was not made for your question: it names another challenge, or none",
                id=name,
                got="none" if statement.challenge is None else statement.challenge.hex(),
                want=ours.hex(),
                hint="It is an earlier answer, or one to somebody else. Do not use it.",
            )
        )
    if context.challenge_by is not None:
        text = (
            "The challenge that the statement names is the receipt's, and none of yours: that it "
            "was chosen for this request is the holder's word."
        )
        return Observation.asserted(name, text, by=context.challenge_by, got=ours.hex())
    text = "The statement names the challenge that was made for this request."
    made = from_unix(statement.time_ms // 1000)
    apart = context.at is not None and abs(made - context.at) > _SKEW
    if apart:
        text = f"The server's clock and yours are more than 10 minutes apart. {text}"
    return Observation.proven(name, text, got=ours.hex(), concern=apart)


STATEMENT = Form(
    id="teeverify/1",
    signs="a statement that names method, target, status, both hashes, challenge, engine and "
    "sequence; EIP-712 (secp256k1, low-S) and Ed25519",
    examine=_examine,
    carrying=Carrying(
        split=split,
        instance=lambda signature: parse_signed(signature).statement.instance,
        id=lambda headers: headers.get(HEADERS[0]),
    ),
)
