"""OpenGradient's signed answers: RSA-PSS over the hashes of a canonical request and of a text.

The gateway signs ``keccak256(requestHash || outputHash || uint256(time))``. The request is hashed
in a canonical form that leaves out attachments and everything but a few fields; the output is the
text of the first choice alone, or its tool calls. So most of an answer's bytes are not signed, and
the gateway itself asks models elsewhere: its signature says what passed through it, no more.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.observation import Observation
from teeverify.binding import SigningKey
from teeverify.clock import from_unix
from teeverify.crypto.ethereum import keccak256
from teeverify.crypto.rsa_pss import rsa_spki, verify_pss_sha256
from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence, ResponseNotVerified, TeeVerifyError
from teeverify.responses.body import read_body, requested_model
from teeverify.responses.form import NO_SIGNATURE, Form, Given, complete

__all__ = ["OPENGRADIENT"]

_ID = "answer.signature"
_HASH = "response.hash-equal"
_REQUEST = "request.bound"
_MAX_EVENTS = 100_000
_COVERED = frozenset(
    ("model", "messages", "temperature", "max_tokens", "stop", "tools", "response_format",
     "web_search", "stream")
)  # fmt: skip


def _examine(given: Given) -> SignedAnswer:
    try:
        answer, text = _read(given)
        spki = _key(given, answer)
        hashes = [answer.hex(name, 32, prefix=True) for name in
                  ("tee_request_hash", "tee_output_hash")]  # fmt: skip
        time = answer.integer("tee_timestamp")
        if not 0 < time < 2**64:
            raise MalformedEvidence("answer.tee_timestamp: no time", id=_ID, field="tee_timestamp")
        digest = keccak256(b"".join(hashes) + time.to_bytes(32, "big"))
        signature = answer.base64("tee_signature")
        verify_pss_sha256(spki, signature, digest, id=_ID, what="the answer's signature")
    except TeeVerifyError as error:
        missed = Observation.not_reached(_REQUEST, NO_SIGNATURE)
        return SignedAnswer(observations=(Observation.failed(error), missed), signer=None)
    signer = SigningKey("rsa-pss", keccak256(spki))
    raw = given.answer or b""
    signed_form = text.encode("utf-8")
    return SignedAnswer(
        observations=(
            Observation.proven(_ID, f"Signed by {signer.short} (RSA-PSS).", got=str(signer)),
            _output(signed_form, hashes[1]),
            complete(read_body(raw)),
            _request(given.request, hashes[0]),
        ),
        signer=signer,
        response_model=None,  # the model that the answer names is not signed
        requested_model=requested_model(given.request) if given.request else None,
        by_gateway=True,
        created=from_unix(time),
        size=len(signed_form),
        sha256=hashlib.sha256(signed_form).hexdigest(),
        signed_form=signed_form,
    )


def _read(given: Given) -> tuple[JsonObject, str]:
    """The object that carries the signature, and the text that it signs.

    Raises:
        ResponseNotVerified: There is no answer.
        MalformedEvidence: It is none of this dialect.
    """
    if given.answer is None:
        raise ResponseNotVerified(
            "no signature: it stands in the answer, which was not given", id=_ID, hint="--answer"
        )
    if read_body(given.answer).form != "stream":
        answer = JsonObject.parse(given.answer, path="answer", id=_ID)
        return answer, _output_of(answer)
    events = list(_events(given.answer))
    signed = [event for event in events if "tee_signature" in event]
    if len(signed) != 1:
        raise ResponseNotVerified("the stream does not carry one signature", id=_ID)
    return signed[0], "".join(_delta(event) for event in events)


def _events(raw: bytes) -> Iterator[JsonObject]:
    lines = raw.splitlines()
    if len(lines) > _MAX_EVENTS:
        raise MalformedEvidence("answer: too many events", id=_ID, field="answer")
    for line in lines:
        data = line[5:].strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            yield JsonObject.parse(data, path="answer", id=_ID)


def _first(answer: JsonObject, member: str) -> JsonObject | None:
    """A member of the first choice, which is the only one that is signed.

    Raises:
        MalformedEvidence: There is another choice, which nobody signed.
    """
    if "choices" not in answer:
        return None
    choices = answer.objects("choices")
    if len(choices) > 1 or any(choice.raw("index") not in (0, None) for choice in choices):
        raise MalformedEvidence(
            "answer.choices: only the first choice is signed, and there are more",
            id=_ID,
            field="answer.choices",
            have=len(choices),
        )
    return choices[0].object(member) if choices and member in choices[0] else None


def _delta(event: JsonObject) -> str:
    delta = _first(event, "delta")
    if delta is None:
        return ""
    if "tool_calls" in delta:
        raise MalformedEvidence(
            "unsupported evidence format: tool calls in a stream of this dialect",
            id=_ID,
            field="answer.choices[0].delta.tool_calls",
        )
    return delta.text("content") if "content" in delta else ""


def _output_of(answer: JsonObject) -> str:
    message = _first(answer, "message")
    if message is None:
        return ""
    (choice,) = answer.objects("choices")
    if choice.raw("finish_reason") == "tool_calls" and isinstance(message.raw("tool_calls"), list):
        return json.dumps(message.raw("tool_calls"), sort_keys=True)
    content = message.raw("content")
    if not isinstance(content, list):
        return message.text("content") if "content" in message else ""
    return "".join(part.text("text") for part in message.objects("content"))


def _key(given: Given, answer: JsonObject) -> bytes:
    """The key that the caller got from the registry; the answer must name the same.

    Raises:
        ResponseNotVerified: It was not given.
        MalformedEvidence: It is none, or not the one that the answer names.
    """
    if given.signature is None:
        raise ResponseNotVerified(
            "the key that should have signed is not known",
            id=_ID,
            hint="Pass --signature: the key that the registry holds for this enclave, DER or PEM.",
        )
    key = given.signature
    spki = rsa_spki(key.encode("utf-8") if isinstance(key, str) else key, id=_ID, what="the key")
    named = answer.hex("tee_id", 32, prefix=True)
    if named != keccak256(spki):
        raise ResponseNotVerified(
            "the answer names another enclave than the one whose key was given",
            id=_ID,
            got=named.hex(),
            want=keccak256(spki).hex(),
        )
    return spki


def _output(signed_form: bytes, want: bytes) -> Observation:
    got = keccak256(signed_form)
    if not hmac.compare_digest(got, want):
        return Observation.failed(
            ResponseNotVerified(
                "the signature is real but belongs to another answer: it signs another text",
                id=_HASH,
                got=got.hex(),
                want=want.hex(),
            )
        )
    return Observation.proven(
        _HASH,
        f"Only the text of the first choice is signed ({len(signed_form)} bytes); the model, the "
        "counts and all else in the answer are not.",
        got=got.hex(),
        concern=True,
    )


def _request(request: bytes | None, want: bytes) -> Observation:
    if request is None:
        return Observation.absent(_REQUEST, "The request was not given (--request).")
    try:
        body = JsonObject.parse(request, path="request", id=_REQUEST)
        got = keccak256(json.dumps(_canonical(body), sort_keys=True).encode("ascii"))
    except MalformedEvidence as error:
        return Observation.failed(error)
    if not hmac.compare_digest(got, want):
        return Observation.failed(
            ResponseNotVerified(
                "the signature is real but belongs to another request",
                id=_REQUEST,
                got=got.hex(),
                want=want.hex(),
            )
        )
    left_out = sorted({name[:40] for name in body.names() - _COVERED} | _attachments(body))
    if left_out:
        return Observation.asserted(
            _REQUEST,
            f"Signed, but without {', '.join(left_out)}: the gateway hashes a part of a request.",
            by="the gateway's code",
            got=got.hex(),
        )
    return Observation.proven(_REQUEST, "The gateway's own hash of this request.", got=got.hex())


def _attachments(body: JsonObject) -> set[str]:
    parts = [
        part
        for message in body.objects("messages")
        if isinstance(message.raw("content"), list)
        for part in message.objects("content")
    ]
    return {"attachments"} if any(part.raw("type") != "text" for part in parts) else set()


def _canonical(body: JsonObject) -> dict[str, Any]:
    """The part of a request that the gateway hashes."""
    canonical: dict[str, Any] = {
        "model": body.text("model"),
        "messages": [_message(message) for message in body.objects("messages")],
        "temperature": _temperature(body),
    }
    if "max_tokens" in body:
        canonical["max_tokens"] = body.integer("max_tokens")
    for name in ("stop", "tools", "response_format"):
        if body.raw(name):
            canonical[name] = body.raw(name)
    if body.raw("web_search"):
        canonical["web_search"] = True
    return canonical


def _temperature(body: JsonObject) -> float:
    value = body.raw("temperature")
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise MalformedEvidence(
            "request.temperature: no number", id=_REQUEST, field="request.temperature"
        )
    try:
        return float(value)
    except OverflowError:
        raise MalformedEvidence(
            "request.temperature: too large", id=_REQUEST, field="request.temperature"
        ) from None


def _message(message: JsonObject) -> dict[str, Any]:
    role, content = message.text("role"), message.raw("content")
    if role in ("system", "developer"):
        return {"role": "system", "content": content}
    if role == "user":
        return {"role": "user", "content": _user(message)}
    if role == "assistant":
        found: dict[str, Any] = {"role": "assistant", "content": content or ""}
        if message.raw("tool_calls"):
            found["tool_calls"] = [_tool_call(call) for call in message.objects("tool_calls")]
        return found
    if role == "tool":
        return {"role": role, "content": content, "tool_call_id": message.raw("tool_call_id")}
    raise MalformedEvidence(
        "request.messages: a role that this dialect does not sign",
        id=_REQUEST,
        field=f"{message.path}.role",
        got=repr(role)[:40],
    )


def _user(message: JsonObject) -> str | list[dict[str, Any]]:
    if not isinstance(message.raw("content"), list):
        return message.text("content")
    found: list[dict[str, Any]] = []
    for part in message.objects("content"):
        if part.raw("type") == "text":
            found.append({"type": "text", "text": part.raw("text") or ""})
            continue
        entry: dict[str, Any] = {"type": part.raw("type")}
        inner = part.object("file").raw("filename") if isinstance(part.raw("file"), dict) else None
        name = inner or part.raw("filename")
        found.append({**entry, "filename": name} if name else entry)
    return found


def _tool_call(call: JsonObject) -> dict[str, Any]:
    function = call.object("function")
    return {
        "id": call.raw("id") or "",
        "type": call.raw("type") or "function",
        "function": {
            "name": function.raw("name") or "",
            "arguments": function.raw("arguments") or "",
        },
    }


OPENGRADIENT = Form(
    id="opengradient",
    signs="RSA-PSS (SHA-256, salt 32) over keccak256 of a canonical request's hash, the hash of "
    "the first choice's text, and a time",
    examine=_examine,
)
